from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from pyproj import Transformer

from mmovseg_geo.grid import Window
from mmovseg_geo.rasters.placement import TOLERANCE, AffineLocator, place

GRID = Affine(10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0)
SHAPE = (900, 1200)


def test_one_grid_needs_no_resampling():
    assert place(GRID, SHAPE, AffineLocator(~GRID)).offset == (0, 0)


def test_whole_pixels_between_grids_need_no_resampling():
    moved = GRID @ Affine.translation(3, -7)
    assert place(GRID, SHAPE, AffineLocator(~moved)).offset == (7, -3)


def test_half_a_pixel_between_grids_is_resampled():
    assert place(GRID, SHAPE, AffineLocator(~(GRID @ Affine.translation(0.5, 0)))).offset is None


def test_pixel_sizes_that_drift_apart_are_resampled():
    drifting = Affine(10.001, 0.0, 500000.0, 0.0, -10.0, 5000000.0)
    assert place(GRID, SHAPE, AffineLocator(~drifting)).offset is None


def test_a_shift_moves_content_down_and_right():
    placement = place(GRID, SHAPE, AffineLocator(~GRID), shift=(2.0, 3.0))
    assert placement.offset == (-2, -3)


@pytest.mark.parametrize("there", ["EPSG:4326", "EPSG:3857", "EPSG:32633", "EPSG:3035"])
def test_interpolated_positions_are_close_to_exact_ones(there):
    transformer = Transformer.from_crs("EPSG:32632", there, always_xy=True)
    x, y = transformer.transform(500000, 5000000)
    size = 1e-4 if there == "EPSG:4326" else 10.0
    source = Affine(size, 0, x, 0, -size, y)
    placement = place(GRID, SHAPE, AffineLocator(~source), transformer=transformer)
    window = Window(130, 250, 200, 300)
    rows, cols = placement.centers(window)
    exact = placement.exact(*np.meshgrid(np.arange(130, 330) + 0.5, np.arange(250, 550) + 0.5, indexing="ij"))
    assert placement.step > 1
    assert max(np.abs(rows - exact[0]).max(), np.abs(cols - exact[1]).max()) < 2 * TOLERANCE


def test_longitudes_are_taken_on_the_sources_side_of_the_antimeridian():
    transformer = Transformer.from_crs("EPSG:32660", "EPSG:4326", always_xy=True)
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:32660", always_xy=True).transform(179.999, 10.0)
    grid = Affine(10, 0, x, 0, -10, y)
    source = Affine(1e-4, 0, -180.002, 0, -1e-4, 10.0)
    placement = place(grid, (64, 64), AffineLocator(~source), transformer=transformer, around=-180.0)
    _, cols = placement.centers(Window(0, 0, 64, 64))
    assert np.all(np.diff(cols, axis=1) > 0)
    assert 0 <= cols.min() <= cols.max() < 100


def test_the_scale_counts_source_pixels_in_a_scene_pixel():
    finer = GRID @ Affine.scale(0.25, 0.5)
    assert place(GRID, SHAPE, AffineLocator(~finer)).scale == pytest.approx((2.0, 4.0))
