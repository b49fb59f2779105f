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
    rows = []
    for window in tiling.windows((height, width)):
        rows += list(stitcher.release(window.row))
        valid = np.zeros((tiling.size, tiling.size), dtype=bool)
        valid[: height - window.row, : width - window.col] = True
        stitcher.add(window, np.full((1, tiling.size, tiling.size), value, dtype=np.float32), valid)
    rows += list(stitcher.release(height))
    whole = np.concatenate([scores[0] for _, scores, _ in rows])
    assert whole.shape == (height, width)
    assert all(seen.all() for _, _, seen in rows)
    np.testing.assert_allclose(whole, value, rtol=1e-5)
