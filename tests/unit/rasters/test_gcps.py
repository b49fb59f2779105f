from __future__ import annotations

import numpy as np
import pytest

from mmovseg_geo.errors import SceneError
from mmovseg_geo.rasters.facts import ControlPoint
from mmovseg_geo.rasters.gcps import thin_plate


def bent(x, y):
    return 100 + 40 * y + 3 * np.sin(x), 50 - 30 * x + 2 * np.cos(y)


def points(count=7):
    axis = np.linspace(0, 3, count)
    return [ControlPoint(*bent(x, y), x, y) for x in axis for y in axis]


def test_the_spline_goes_through_every_point():
    spline = thin_plate(points(), "a.tif")
    rows, cols = spline(np.array([p.x for p in points()]), np.array([p.y for p in points()]))
    assert np.allclose(rows, [p.row for p in points()], atol=1e-6)
    assert np.allclose(cols, [p.col for p in points()], atol=1e-6)


def test_the_reported_miss_is_that_of_leaving_a_point_out():
    known = points(5)
    spline = thin_plate(known, "a.tif")
    misses = []
    for index, point in enumerate(known):
        rows, cols = thin_plate(known[:index] + known[index + 1 :], "a.tif")(np.array([point.x]), np.array([point.y]))
        misses.append(np.hypot(rows[0] - point.row, cols[0] - point.col))
    assert spline.worst_px == pytest.approx(max(misses), rel=1e-6)
    assert spline.residual_px == pytest.approx(np.sqrt(np.mean(np.square(misses))), rel=1e-6)


def test_a_swath_over_the_antimeridian_is_one_piece():
    west = [ControlPoint(p.row, p.col, p.x + 178.5, p.y) for p in points()]
    wrapped = [ControlPoint(p.row, p.col, p.x - 360 if p.x > 180 else p.x, p.y) for p in west]
    assert thin_plate(wrapped, "a.tif").residual_px == pytest.approx(thin_plate(west, "a.tif").residual_px)


@pytest.mark.parametrize("known", [points()[:3], [ControlPoint(i, i, float(i), float(i)) for i in range(6)]])
def test_too_few_points_or_points_on_a_line_are_refused(known):
    with pytest.raises(SceneError, match="control points"):
        thin_plate(known, "a.tif")
