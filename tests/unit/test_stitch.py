"""Overlapping scores become finished rows."""

from __future__ import annotations

import numpy as np
import pytest

from mmovseg_geo.grid import Window
from mmovseg_geo.stitch import Stitcher, ramp, side_weights
from mmovseg_geo.tiles import Tiling


def stitched(known, tiling, *, wanted=None, valid=None, convert=np.asarray):
    """Scores (Q, h, w) of a known map (Q, H, W) cut into windows and stitched; NaN where nothing was seen."""
    planes, height, width = known.shape
    wanted = wanted or Window(0, 0, height, width)
    valid = np.ones((height, width), dtype=bool) if valid is None else valid
    stitcher = Stitcher((height, width), wanted, tiling, planes)
    out = np.full((planes, wanted.height, wanted.width), np.nan, dtype=np.float32)
    next_row = 0

    def store(blocks):
        nonlocal next_row
        for row, scores, seen in blocks:
            assert row == next_row
            next_row += seen.shape[0]
            if scores is not None:
                out[:, row : row + seen.shape[0]] = np.where(seen, np.asarray(scores), np.nan)

    for window in tiling.windows((height, width)):
        store(stitcher.release(window.row))
        tile = np.full((planes, tiling.size, tiling.size), np.nan, dtype=np.float32)
        mask = np.zeros((tiling.size, tiling.size), dtype=bool)
        inside = known[(slice(None), *window.slices)]
        tile[:, : inside.shape[1], : inside.shape[2]] = inside
        mask[: inside.shape[1], : inside.shape[2]] = valid[window.slices]
        stitcher.add(window, convert(tile), mask)
    store(stitcher.release(height))
    assert next_row == wanted.height
    return out


def a_map(planes=2, height=50, width=41):
    return np.random.default_rng(0).random((planes, height, width), dtype=np.float32)


@pytest.mark.parametrize("blend", ["linear", "cosine", "uniform"])
def test_weights_are_positive_everywhere(blend):
    assert ramp(16, blend).min() > 0
    assert side_weights(8, 100, Tiling(32, 16, blend)).min() > 0


def test_weights_do_not_fall_toward_a_side_without_neighbor():
    weights = side_weights(0, 100, Tiling(32, 16))
    assert (weights[:16] == 1).all()
    assert weights[-1] < 0.05


def test_a_known_map_comes_back():
    np.testing.assert_allclose(stitched(a_map(), Tiling(16, 5)), a_map(), rtol=1e-6)


def test_a_scene_smaller_than_a_tile_comes_back():
    np.testing.assert_allclose(stitched(a_map(), Tiling(64, 8)), a_map(), rtol=1e-6)


def test_wanted_rows_and_columns_equal_a_crop_of_the_whole():
    wanted = Window(7, 11, 30, 19)
    whole = stitched(a_map(), Tiling(16, 5))
    np.testing.assert_array_equal(stitched(a_map(), Tiling(16, 5), wanted=wanted), whole[(slice(None), *wanted.slices)])


def test_invalid_pixels_add_no_weight():
    known, valid = a_map(), np.ones((50, 41), dtype=bool)
    valid[10:20, 5:30] = False
    known[:, ~valid] = np.nan
    out = stitched(known, Tiling(16, 5), valid=valid)
    np.testing.assert_allclose(out, known, rtol=1e-6)


def test_torch_tensors_give_the_same_rows_as_numpy():
    torch = pytest.importorskip("torch")
    np.testing.assert_array_equal(
        stitched(a_map(), Tiling(16, 5), convert=torch.from_numpy), stitched(a_map(), Tiling(16, 5))
    )


def test_memory_does_not_grow_with_the_height_of_the_scene():
    tiling = Tiling(16, 4)
    sizes = []
    for height in (64, 6400):
        stitcher = Stitcher((height, 100), Window(0, 0, height, 100), tiling, 3)
        stitcher.add(Window(0, 0, 16, 16), np.ones((3, 16, 16), np.float32), np.ones((16, 16), bool))
        sizes.append(stitcher._sums.nbytes + stitcher._weights.nbytes)
    assert sizes[0] == sizes[1]
