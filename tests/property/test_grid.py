"""Laws of windows, pixel grids and positions."""

from __future__ import annotations

import numpy as np
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from mmovseg_geo.grid import Window, ground_sampling_m
from mmovseg_geo.rasters.placement import AffineLocator, place

windows = st.builds(Window, st.integers(-50, 50), st.integers(-50, 50), st.integers(1, 60), st.integers(1, 60))
transforms = st.builds(
    lambda x, y, turn, width, height, up: (
        Affine.translation(x, y) @ Affine.rotation(turn) @ Affine.scale(width, height if up else -height)
    ),
    st.floats(-1e6, 1e6),
    st.floats(-1e7, 1e7),
    st.floats(0, 360),
    st.floats(0.02, 1000),
    st.floats(0.02, 1000),
    st.booleans(),
)


@given(windows, windows)
def test_an_intersection_holds_what_both_hold(one, two):
    shared = one.intersection(two)
    rows = set(range(one.row, one.row + one.height)) & set(range(two.row, two.row + two.height))
    cols = set(range(one.col, one.col + one.width)) & set(range(two.col, two.col + two.width))
    if not rows or not cols:
        assert shared is None
    else:
        assert shared == Window(min(rows), min(cols), len(rows), len(cols))
        assert shared == two.intersection(one)


@given(transforms, st.floats(0, 20000), st.floats(0, 20000))
def test_pixel_to_map_to_pixel_is_the_identity(transform, row, col):
    placement = place(transform, (20000, 20000), AffineLocator(~transform))
    back = placement.exact(np.array(row), np.array(col))
    assert np.allclose(back, (row, col), atol=1e-3)


@given(transforms, st.integers(-500, 500), st.integers(-500, 500))
def test_a_shift_by_whole_pixels_is_a_whole_offset(transform, rows, cols):
    assert place(transform, (500, 500), AffineLocator(~transform), shift=(rows, cols)).offset == (-rows, -cols)


@given(transforms)
def test_a_planar_pixel_is_as_large_on_the_ground_as_on_the_map(transform):
    grid = GeoBox((100, 100), transform, "EPSG:32632")
    assert np.isclose(ground_sampling_m(grid) ** 2, abs(transform.determinant))
