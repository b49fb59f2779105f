"""Overlapping scores become finished rows."""

from __future__ import annotations

import numpy as np
import pytest

from mmovseg_geo.grid import Window
from mmovseg_geo.stitch import CACHED_BYTES, Stitcher, ramp, side_weights
from mmovseg_geo.tiles import Tiling


def stitched(known, tiling, *, wanted=None, valid=None, convert=np.asarray):
    """Scores (Q, h, w) of a known map (Q, H, W) cut into windows and stitched; NaN where nothing was seen."""
    planes, height, width = known.shape
    wanted = wanted or Window(0, 0, height, width)
    valid = np.ones((height, width), dtype=bool) if valid is None else valid
    stitcher = Stitcher((height, width), wanted, tiling, planes)
    out = np.full((planes, wanted.height, wanted.width), np.nan, dtype=np.float32)
    missing = np.ones(wanted.shape, dtype=bool)

    def store(blocks):
        for row, col, scores, seen in blocks:
            at = Window(row, col, *seen.shape).slices
            assert missing[at].all()
            missing[at] = False
            if scores is not None:
                out[(slice(None), *at)] = np.where(seen, np.asarray(scores), np.nan)

    for window in Stitcher.order((height, width), tiling):
        store(stitcher.release(window))
        tile = np.full((planes, tiling.size, tiling.size), np.nan, dtype=np.float32)
        mask = np.zeros((tiling.size, tiling.size), dtype=bool)
        inside = known[(slice(None), *window.slices)]
        tile[:, : inside.shape[1], : inside.shape[2]] = inside
        mask[: inside.shape[1], : inside.shape[2]] = valid[window.slices]
        if mask.any():
            stitcher.add(window, convert(tile), mask)
    store(stitcher.release(None))
    assert not missing.any()
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


def held(shape, tiling, planes):
    stitcher = Stitcher(shape, Window(0, 0, *shape), tiling, planes)
    first = next(iter(Stitcher.order(shape, tiling)))
    list(stitcher.release(first))
    stitcher.add(first, np.ones((planes, tiling.size, tiling.size), np.float32), np.ones((tiling.size,) * 2, bool))
    kept = (stitcher._here, stitcher._beside, stitcher._above)
    arrays = [array for sums in kept for array in (sums.scores, sums.weights, sums.seen)]
    return sum(array.nbytes for array in (*arrays, stitcher._product))


def test_memory_does_not_grow_with_the_height_of_the_scene():
    assert held((64, 100), Tiling(16, 4), 3) == held((6400, 100), Tiling(16, 4), 3)


@pytest.mark.parametrize("height", [64, 65, 70, 75])
def test_across_a_scene_only_the_rows_are_held_that_rows_of_windows_share(height):
    tiling, planes = Tiling(16, 4), 3
    more = held((height, 4996), tiling, planes) - held((height, 1000), tiling, planes)
    assert more == 3996 * tiling.overlap * (4 * (planes + 1) + 1)


@pytest.mark.parametrize("shape", [(64, 5000), (70, 5000), (16, 300), (300, 16), (10, 10)])
def test_what_is_held_is_known_beforehand(shape):
    tiling, planes = Tiling(16, 4), 3
    released = 2 * CACHED_BYTES + 4 * planes * 16**2
    assert held(shape, tiling, planes) == Stitcher.held_bytes(shape, shape[1], tiling, planes) - released


def test_a_sparse_scene_comes_back():
    known, valid = a_map(3, 70, 90), np.zeros((70, 90), dtype=bool)
    for row, col in ((0, 0), (20, 75), (37, 3), (37, 40), (69, 89)):
        valid[row : row + 4, col : col + 9] = True
    known[:, ~valid] = np.nan
    np.testing.assert_allclose(stitched(known, Tiling(16, 5), valid=valid), known, rtol=1e-6)
