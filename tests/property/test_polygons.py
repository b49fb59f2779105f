"""Laws of polygons: they tile the labeled pixels, rasterize back to the labels, measure the same ground, and are the
same in whatever strips the map is read."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.features import rasterize, shapes
from scipy.ndimage import gaussian_filter

from mmovseg_geo.polygons import class_areas, polygonize, strips
from mmovseg_geo.polygons.rings import walked
from tests.label_maps import UTM, map_of

NODATA = 255
PLACES = {
    "utm": (UTM, "EPSG:32633"),
    "south up": (Affine(10, 0, 500_000, 0, 10, 5_000_000), "EPSG:32633"),
    "turned": (Affine(8.4, 3.8, 500_000, 5.4, -5.9, 5_000_000), "EPSG:32633"),
    "degrees": (Affine(0.013, 0, 20, 0, -0.011, 61), "EPSG:4326"),
    "turned degrees": (Affine(0.0094, 0.0034, 20, 0.0034, -0.0094, 61), "EPSG:4326"),
    "web mercator": (Affine(500, 0, 2_000_000, 0, -500, 8_000_000), "EPSG:3857"),
    "no crs": (Affine.identity(), None),
}

label_arrays = arrays(
    np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.sampled_from([1, 2, 3, NODATA])
)
places = st.sampled_from(sorted(PLACES))
large_arrays = st.builds(
    lambda seed, height, width, classes: patches(seed, (height, width), classes),
    st.integers(0, 2**32 - 1),
    st.integers(8, 40),
    st.integers(8, 40),
    st.integers(2, 4),
)


def patches(seed, shape, classes):
    """Labels of roundish patches with stairs for borders, sprinkled with single pixels and no-data."""
    random = np.random.default_rng(seed)
    fields = [gaussian_filter(random.standard_normal(shape), 1.5) for _ in range(classes)]
    labels = np.argmax(fields, axis=0).astype(np.uint8) % 3 + 1
    sprinkled = random.random(shape) < 0.03
    labels[sprinkled] = random.choice([1, 2, NODATA], sprinkled.sum())
    return labels


@given(st.integers(1, 12).flatmap(lambda count: st.permutations(range(count))))
def test_every_cycle_is_walked_once_from_its_smallest_element_and_the_smaller_come_first(following):
    walk, lengths = walked(np.array(following, np.int32))
    cycles = [cycle.tolist() for cycle in np.split(walk, np.cumsum(lengths)[:-1])]
    assert all([following[each] for each in cycle] == cycle[1:] + cycle[:1] for cycle in cycles)
    firsts = [min(cycle) for cycle in cycles]
    assert [cycle[0] for cycle in cycles] == firsts == sorted(firsts)
    assert sorted(walk.tolist()) == list(range(len(following)))


def in_strips(labels, height, place="utm", **options):
    """The polygons of a map that is read some rows at a time."""
    with patch.object(strips, "STRIP_PIXELS", height * labels.shape[1]):
        return polygonize(map_of(labels, *PLACES[place]), **options)


def rows_of(found):
    """All that a table holds, exactly."""
    columns = found.drop(columns="geometry")
    return columns.values.tolist(), shapely.to_wkb(found.geometry.values).tolist()


def corners_of(polygon):
    """Text of a polygon without the vertices on straight edges, which GDAL leaves out."""
    return shapely.to_wkt(shapely.normalize(shapely.simplify(polygon, 0)))


@settings(max_examples=80, deadline=None)
@given(label_arrays, places)
def test_polygons_rasterize_back_to_the_labels(labels, place):
    affine, crs = PLACES[place]
    found = polygonize(map_of(labels, affine, crs))
    burned = np.full(labels.shape, NODATA, np.uint8)
    if len(found):
        burned = rasterize(
            zip(found.geometry, found.class_id, strict=True), labels.shape, fill=NODATA, transform=affine, dtype="uint8"
        )
    assert (burned == labels).all()


@settings(max_examples=80, deadline=None)
@given(label_arrays)
def test_outlines_are_those_that_gdal_finds(labels):
    found = polygonize(map_of(labels, Affine.identity(), None))
    ours = {(number, corners_of(polygon)) for number, polygon in zip(found.class_id, found.geometry, strict=True)}
    theirs = {
        (int(value), corners_of(shapely.geometry.shape(geometry)))
        for geometry, value in shapes(labels, mask=labels != NODATA, connectivity=4)
    }
    assert ours == theirs


@settings(max_examples=80, deadline=None)
@given(label_arrays, places)
def test_polygons_are_a_valid_coverage_of_the_labeled_pixels(labels, place):
    affine, crs = PLACES[place]
    found = polygonize(map_of(labels, affine, crs))
    assert set(found.geom_type) <= {"Polygon"}
    assert found.geometry.is_valid.all()
    assert shapely.coverage_is_valid(found.geometry.values)
    labeled = (labels != NODATA).sum() * abs(affine.determinant)
    assert shapely.area(found.geometry.values).sum() == pytest.approx(labeled)


@settings(max_examples=80, deadline=None)
@given(label_arrays, places)
def test_areas_of_a_class_add_up_to_those_of_its_pixels(labels, place):
    raster = map_of(labels, *PLACES[place])
    found = polygonize(raster).groupby("class_id")[["area_m2", "n_pixels"]].sum()
    for area in class_areas(raster):
        if area["pixels"]:
            assert found.area_m2[area["id"]] == pytest.approx(area["area_m2"], rel=1e-12)
            assert found.n_pixels[area["id"]] == area["pixels"] == (labels == area["id"]).sum()


@settings(max_examples=80, deadline=None)
@given(label_arrays, places, st.sampled_from(["0.8px", "1.5px", "3px"]))
def test_simplified_polygons_leave_no_gaps_and_no_overlaps(labels, place, tolerance):
    affine, crs = PLACES[place]
    labels[labels == NODATA] = 1
    found = polygonize(map_of(labels, affine, crs), simplify=tolerance)
    assert set(found.geom_type) == {"Polygon"}
    assert shapely.coverage_is_valid(found.geometry.values)
    assert shapely.area(found.geometry.values).sum() == pytest.approx(labels.size * abs(affine.determinant))


@settings(max_examples=60, deadline=None)
@given(label_arrays, st.integers(2, 12))
def test_merging_leaves_no_small_region_that_has_a_neighbor(labels, smallest):
    found = polygonize(map_of(labels), min_area=f"{smallest}px")
    assert (found.n_pixels >= smallest).all()
    assert shapely.coverage_is_valid(found.geometry.values)
    islands = polygonize(map_of(np.where(labels == NODATA, NODATA, 1)))
    assert found.n_pixels.sum() == islands.n_pixels[islands.n_pixels >= smallest].sum()


@settings(max_examples=60, deadline=None)
@given(label_arrays)
def test_filling_holes_keeps_every_labeled_pixel(labels):
    found = polygonize(map_of(labels), fill_holes="4px")
    assert found.n_pixels.sum() == (labels != NODATA).sum()
    holes = [shapely.Polygon(ring) for polygon in found.geometry for ring in polygon.interiors]
    inside = [other for other in found.geometry for hole in holes if hole.equals(other)]
    assert all(polygon.area >= 400 for polygon in inside)


@settings(max_examples=80, deadline=None)
@given(label_arrays, st.integers(1, 8), places)
def test_strips_of_any_height_give_the_polygons_of_the_whole_map(labels, height, place):
    whole = in_strips(labels, len(labels), place)
    assert rows_of(in_strips(labels, height, place).fillna(0)) == rows_of(whole.fillna(0))


@settings(max_examples=60, deadline=None)
@given(
    large_arrays,
    st.integers(1, 12),
    st.sampled_from(["0", "3px", "900"]),
    st.sampled_from(["0", "8px"]),
    st.sampled_from(["0.8px", "1.5px", "4px", "25px"]),
)
def test_strips_merge_fill_and_simplify_as_the_whole_map_does(labels, height, min_area, fill_holes, simplify):
    options = {"min_area": min_area, "fill_holes": fill_holes, "simplify": simplify}
    whole = in_strips(labels, len(labels), **options)
    assert rows_of(in_strips(labels, height, **options).fillna(0)) == rows_of(whole.fillna(0))
    assert whole.geometry.is_valid.all()
    assert shapely.coverage_is_valid(whole.geometry.values)


@settings(max_examples=40, deadline=None)
@given(large_arrays, st.integers(1, 12), st.sampled_from(["0.8px", "1.5px", "4px", "25px"]))
def test_simplification_keeps_every_region_and_every_hole(labels, height, tolerance):
    labels[labels == NODATA] = 1
    exact, simple = in_strips(labels, height), in_strips(labels, height, simplify=tolerance)
    assert simple.n_pixels.tolist() == exact.n_pixels.tolist()
    assert (simple.area > 0).all()
    assert simple.area.sum() == pytest.approx(exact.area.sum())
    holes = [shapely.get_num_interior_rings(found.geometry.values).tolist() for found in (exact, simple)]
    assert holes[0] == holes[1]
    corners = [shapely.get_num_coordinates(found.geometry.values) for found in (exact, simple)]
    assert (corners[1] <= corners[0]).all()
