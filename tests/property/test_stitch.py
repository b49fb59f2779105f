"""Laws of tiling and stitching."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmovseg_geo.grid import Window
from mmovseg_geo.stitch import Stitcher
from mmovseg_geo.tiles import Tiling

sides = st.integers(1, 70)


@st.composite
def tilings(draw):
    size = draw(st.integers(1, 40))
    return Tiling(size, draw(st.integers(0, size - 1)), draw(st.sampled_from(["linear", "cosine", "uniform"])))


@settings(deadline=None)
@given(tilings(), sides, sides)
def test_windows_cover_every_pixel_and_stay_inside(tiling, height, width):
    covered = np.zeros((height, width), dtype=int)
    for window in tiling.windows((height, width)):
        assert window.shape == (tiling.size, tiling.size)
        assert window.row + tiling.size <= max(height, tiling.size)
        assert window.col + tiling.size <= max(width, tiling.size)
        covered[window.slices] += 1
    assert covered.min() >= 1
    assert tiling.count((height, width)) == len(list(tiling.windows((height, width))))


@settings(deadline=None)
@given(tilings(), sides, sides, st.floats(0.125, 1, width=32))
def test_a_constant_model_gives_a_constant_map_up_to_the_outermost_pixel(tiling, height, width, value):
    stitcher = Stitcher((height, width), Window(0, 0, height, width), tiling, 1)
    blocks = []
    for window in Stitcher.order((height, width), tiling):
        blocks += list(stitcher.release(window))
        valid = np.zeros((tiling.size, tiling.size), dtype=bool)
        valid[: height - window.row, : width - window.col] = True
        stitcher.add(window, np.full((1, tiling.size, tiling.size), value, dtype=np.float32), valid)
    blocks += list(stitcher.release(None))
    whole, count = np.full((height, width), np.nan), 0
    for row, col, scores, seen in blocks:
        assert seen.all()
        whole[Window(row, col, *seen.shape).slices] = scores[0]
        count += seen.size
    assert count == whole.size
    np.testing.assert_allclose(whole, value, rtol=1e-5)


@settings(deadline=None)
@given(tilings(), sides, sides)
def test_the_order_of_stitching_has_every_window_once(tiling, height, width):
    order = list(Stitcher.order((height, width), tiling))
    assert sorted(order, key=lambda window: (window.row, window.col)) == list(tiling.windows((height, width)))


@settings(deadline=None)
@given(tilings(), sides, sides, st.data())
def test_a_part_of_a_scene_is_that_of_the_whole(tiling, height, width, data):
    known = np.random.default_rng(0).random((2, height, width), np.float32)
    top, left = (data.draw(st.integers(0, side - 1)) for side in (height, width))
    rows, columns = (data.draw(st.integers(1, side - first)) for side, first in ((height, top), (width, left)))
    whole, part = Window(0, 0, height, width), Window(top, left, rows, columns)
    found = [_stitched(known, tiling, wanted) for wanted in (whole, part)]
    np.testing.assert_array_equal(found[1], found[0][(slice(None), *part.slices)])


def _stitched(known, tiling, wanted):
    shape = known.shape[1:]
    stitcher = Stitcher(shape, wanted, tiling, len(known))
    out = np.full((len(known), *wanted.shape), np.nan, np.float32)

    def store(blocks):
        for row, col, scores, seen in blocks:
            out[(slice(None), *Window(row, col, *seen.shape).slices)] = scores

    for window in Stitcher.order(shape, tiling):
        store(stitcher.release(window))
        tile = np.zeros((len(known), tiling.size, tiling.size), np.float32)
        valid = np.zeros(tile.shape[1:], bool)
        inside = known[(slice(None), *window.slices)]
        tile[:, : inside.shape[1], : inside.shape[2]], valid[: inside.shape[1], : inside.shape[2]] = inside, True
        # A network answers otherwise in every tile.
        stitcher.add(window, tile + np.float32(window.row + 10 * window.col), valid)
    store(stitcher.release(None))
    return out
