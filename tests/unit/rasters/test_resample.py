from __future__ import annotations

import numpy as np

from mmovseg_geo.grid import Window
from mmovseg_geo.rasters.resample import bilinear, block_means, factors_of, shrunk


def reader(values, valid=None):
    valid = np.ones(values.shape[1:], bool) if valid is None else valid

    def read(window):
        out = np.zeros((len(values), *window.shape), np.float32)
        mask = np.zeros(window.shape, bool)
        inside = window.intersection(Window(0, 0, *valid.shape))
        if inside is not None:
            at = Window(inside.row - window.row, inside.col - window.col, *inside.shape).slices
            out[:, at[0], at[1]] = (values * valid)[:, inside.slices[0], inside.slices[1]]
            mask[at] = valid[inside.slices]
        return out, mask

    return read


def test_pixel_centers_give_the_pixels_back():
    values = np.random.default_rng(0).random((2, 8, 9)).astype(np.float32)
    rows, cols = np.meshgrid(np.arange(8) + 0.5, np.arange(9) + 0.5, indexing="ij")
    got, valid = bilinear(reader(values), 2, (8, 9), rows, cols)
    assert np.array_equal(got, values)
    assert valid.all()


def test_a_plane_is_interpolated_exactly():
    rows, cols = np.meshgrid(np.arange(10) + 0.5, np.arange(10) + 0.5, indexing="ij")
    plane = (2 * rows + 3 * cols)[None].astype(np.float32)
    at_rows, at_cols = np.array([[3.25, 6.8]]), np.array([[4.75, 2.1]])
    got, _ = bilinear(reader(plane), 1, (10, 10), at_rows, at_cols)
    assert np.allclose(got[0], 2 * at_rows + 3 * at_cols, atol=1e-5)


def test_invalid_neighbors_have_no_weight():
    values = np.full((1, 4, 4), 5.0, np.float32)
    valid = np.ones((4, 4), bool)
    valid[1, 2] = False
    got, seen = bilinear(reader(values, valid), 1, (4, 4), np.array([[1.5]]), np.array([[1.9]]))
    assert seen.all()
    assert got[0, 0, 0] == 5.0


def test_validity_is_that_of_the_nearest_pixel():
    valid = np.ones((4, 4), bool)
    valid[1, 2] = False
    got, seen = bilinear(reader(np.ones((1, 4, 4), np.float32), valid), 1, (4, 4), np.array([[1.5]]), np.array([[2.1]]))
    assert not seen.any()
    assert got.sum() == 0


def test_positions_outside_are_invalid_and_those_on_the_rim_are_not():
    rows = np.array([[-0.01, 0.01, 3.99, 4.01, np.nan]])
    _, seen = bilinear(reader(np.ones((1, 4, 4), np.float32)), 1, (4, 4), rows, np.full((1, 5), 2.0))
    assert seen.tolist() == [[False, True, True, False, False]]


def test_blocks_are_means_of_their_valid_pixels():
    values = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    valid = np.ones((4, 4), bool)
    valid[0, 0] = valid[2, 2] = valid[2, 3] = valid[3, 2] = False
    means, seen = shrunk(values * valid, valid, (2, 2))
    assert means[0, 0, 0] == (1 + 4 + 5) / 3
    assert seen.tolist() == [[True, True], [True, False]]


def test_blocks_read_in_pieces_equal_blocks_read_at_once(monkeypatch):
    values = np.random.default_rng(0).random((2, 60, 40)).astype(np.float32)
    whole = block_means(reader(values), Window(1, 2, 15, 8), (4, 5))
    monkeypatch.setattr("mmovseg_geo.rasters.resample.CHUNK_PIXELS", 300)
    pieces = block_means(reader(values), Window(1, 2, 15, 8), (4, 5))
    assert np.array_equal(whole[0], pieces[0])
    assert np.array_equal(whole[1], pieces[1])


def test_only_a_clearly_finer_source_is_averaged():
    assert factors_of((1.4, 0.3)) == (1, 1)
    assert factors_of((1.6, 10.2)) == (2, 10)
