"""The parts that polygons are made of: rings, borders, bends, well-known binary, and sums that are exact."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from mmovseg_geo.polygons.areas import Ground, pixel_areas
from mmovseg_geo.polygons.corners import SADDLE, columns_of, corners_at, rows_of
from mmovseg_geo.polygons.rings import Rings, walked
from mmovseg_geo.polygons.stream import complete_regions
from mmovseg_geo.polygons.strips import MapStrips
from mmovseg_geo.polygons.tables import Polygons
from mmovseg_geo.polygons.visvalingam import Lines, kept_points
from tests.label_maps import map_of


def rings(*lines, marks=()):
    """Rings through points (row, column), all of region 0; those at `marks` are saddles."""
    points = np.array([point for line in lines for point in line])
    corners = corners_at(points[:, 0], points[:, 1])
    corners[list(marks)] |= SADDLE
    return Rings(corners, np.array([len(line) for line in lines]), np.zeros(len(lines), np.int64))


def points_of(found):
    ends = np.cumsum(found.lengths)
    points = list(zip(rows_of(found.corners).tolist(), columns_of(found.corners).tolist(), strict=True))
    return [points[end - length : end] for end, length in zip(ends, found.lengths, strict=True)]


def test_cycles_of_a_permutation_are_walked_from_their_smallest_element():
    walk, lengths = walked(np.array([3, 4, 0, 2, 1], np.int32))
    parts = np.split(walk, np.cumsum(lengths)[:-1])
    assert sorted(part.tolist() for part in parts) == [[0, 3, 2], [1, 4]]


def test_a_ring_begins_at_its_first_corner_in_raster_order():
    turned = rings([(2, 2), (2, 0), (0, 0), (0, 2)], [(5, 5), (7, 5), (7, 6), (5, 6)]).from_first_corner()
    assert points_of(turned) == [[(0, 0), (0, 2), (2, 2), (2, 0)], [(5, 5), (7, 5), (7, 6), (5, 6)]]


def test_a_ring_that_passes_a_corner_twice_becomes_two():
    eight = [(0, 0), (0, 1), (1, 1), (1, 2), (2, 2), (2, 1), (1, 1), (1, 0)]
    found = rings(eight, marks=(2, 6)).never_touching_themselves()
    assert points_of(found) == [[(0, 0), (0, 1), (1, 1), (1, 0)], [(1, 1), (1, 2), (2, 2), (2, 1)]]


def line(points, *, closed=False, least=2):
    x, y = np.array(points, np.int64).T
    return Lines(x, y, np.array([len(x)]), np.array([closed]), np.array([least]))


def nowhere(x, y):
    return np.zeros(len(x), bool)


def left(lines, area, taken=nowhere):
    kept = kept_points(lines, area, taken)
    return list(zip(lines.x[kept].tolist(), lines.y[kept].tolist(), strict=True))


def test_regular_stairs_become_one_straight_line():
    stairs = [(number // 2, (number + 1) // 2) for number in range(33)]
    assert left(line(stairs), 0.5) == [(0, 0), (16, 16)]


def test_bends_that_are_larger_stay():
    corner = [(0, 0), (4, 0), (4, 4)]
    assert left(line(corner), 7.5) == corner
    assert left(line(corner), 8) == [(0, 0), (4, 4)]


def test_a_bend_around_a_point_of_another_line_stays():
    corner = [(0, 0), (4, 0), (4, 4)]
    for point, stays in (((3, 1), True), ((2, 2), True), ((4, 4), False), ((1, 3), False), ((4, 0), False)):
        found = left(line(corner), 100, lambda x, y, point=point: (x == point[0]) & (y == point[1]))
        assert (len(found) == 3) is stays, point


def test_points_that_a_line_gave_up_are_in_nobodys_way():
    points = {(0, 0), (2, 0), (2, 1), (4, 1), (4, 2)}
    found = left(line(sorted(points)), 100, lambda x, y: np.array([each in points for each in zip(x, y, strict=True)]))
    assert found == [(0, 0), (4, 2)]


def test_a_high_bend_is_looked_at_to_its_end():
    high = [(0, 0), (3, 1000), (0, 1000)]
    blocked = left(line(high), 1e9, lambda x, y: (x == 1) & (y == 999))
    assert len(blocked) == 3
    assert len(left(line(high), 1e9)) == 2


def test_a_ring_keeps_three_points_and_a_line_what_it_must():
    square = [(0, 0), (2, 0), (2, 2), (0, 2)]
    assert len(left(line(square, closed=True, least=3), 1e9)) == 3
    assert len(left(line(square, least=3), 1e9)) == 3
    assert left(line(square), 1e9) == [(0, 0), (0, 2)]


LABELS = [
    [1, 1, 1, 1, 1, 255],
    [1, 2, 1, 3, 1, 255],
    [1, 1, 2, 1, 1, 1],
    [1, 1, 1, 1, 3, 3],
]


def polygons_of(labels, height=2):
    source = MapStrips.of(map_of(labels), height=height)
    return [Polygons.of(regions, source) for regions in complete_regions(source.read(nodata=0))]


def test_well_known_binary_is_that_of_shapely():
    for part in polygons_of(LABELS):
        offsets, octets = part._wkb()
        ours = [octets[start:stop].tobytes() for start, stop in pairwise(offsets)]
        assert ours == shapely.to_wkb(part.shapes()).tolist()


def test_regions_come_in_the_order_in_which_they_end():
    parts = polygons_of(LABELS)
    assert np.concatenate([part.class_id for part in parts]).tolist() == [2, 3, 2, 1, 3]
    assert np.concatenate([part.n_pixels for part in parts]).tolist() == [1, 1, 1, 17, 2]


def test_ground_is_counted_in_whole_numbers_whose_sums_are_exact():
    grid = GeoBox((3000, 4000), Affine(0.001, 0, 10, 0, -0.001, 60), "EPSG:4326")
    ground = Ground.of(grid)
    units, areas = ground.units(slice(0, 3000)), pixel_areas(grid, slice(0, 3000))
    assert (units == np.rint(units)).all()
    assert units.sum() * 4000 < 2**53
    assert units * ground.unit == pytest.approx(areas, rel=1e-8)
    assert (units.sum() * ground.unit) == pytest.approx(areas.sum(), rel=1e-10)


def test_ground_of_even_pixels_is_the_pixel():
    ground = Ground.of(GeoBox((4, 4), Affine(10, 0, 0, 0, -10, 0), "EPSG:32633"))
    assert ground.unit == 100.0
    assert ground.units(slice(0, 4)) is None
