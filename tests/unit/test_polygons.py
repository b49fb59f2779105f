"""Labels to polygons: what is traced, measured and merged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from mmovseg_geo.errors import ConfigError, SceneError
from mmovseg_geo.grid import Size, Window
from mmovseg_geo.polygons import class_areas, polygonize
from mmovseg_geo.polygons.areas import pixel_areas
from mmovseg_geo.vocabulary import Vocabulary
from tests.label_maps import UTM, map_of

NODATA = 255


def write_confidence(path, values, nodata=255):
    array = np.array(values, np.uint8)
    profile = {"driver": "GTiff", "height": array.shape[0], "width": array.shape[1], "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", nodata=nodata, transform=Affine(10, 0, 0, 0, -10, 0), **profile) as sink:
        sink.write(array, 1)
    return path


def test_each_region_is_one_polygon_with_its_class_and_place():
    found = polygonize(map_of([[1, 1, 2], [1, 1, 2]]))
    assert found.class_id.tolist() == [1, 2]
    assert found.class_name.tolist() == ["water", "forest"]
    assert found.n_pixels.tolist() == [4, 2]
    assert found.geometry[0].equals(shapely.box(500_000, 4_999_980, 500_020, 5_000_000))
    assert found.crs.to_epsg() == 32633


def test_nodata_is_absent():
    found = polygonize(map_of([[1, NODATA], [NODATA, NODATA]]))
    assert found.class_id.tolist() == [1]


def test_a_map_of_nodata_gives_no_polygon():
    found = polygonize(map_of([[NODATA, NODATA]]))
    assert len(found) == 0
    assert list(found.columns) == ["class_id", "class_name", "area_m2", "confidence", "n_pixels", "geometry"]


def test_regions_that_touch_at_a_corner_stay_apart():
    found = polygonize(map_of([[1, 2], [2, 1]]))
    assert found.n_pixels.tolist() == [1, 1, 1, 1]
    assert found.geometry.is_valid.all()


def test_a_ring_that_touches_itself_at_a_corner_is_valid():
    found = polygonize(map_of([[1, 1, 1, 1], [1, 2, 1, 1], [1, 1, 2, 1], [1, 1, 1, 1]]))
    assert found.geometry.is_valid.all()
    assert found.area_m2.tolist() == found.area.tolist()


def test_polygons_have_a_vertex_where_a_third_region_meets_their_edge():
    found = polygonize(map_of([[1, 1], [2, 3]]))
    assert shapely.coverage_is_valid(found.geometry.values)
    assert (500_010.0, 4_999_990.0) in found.geometry[0].exterior.coords


def test_area_of_geographic_pixels_is_geodesic():
    degree = Affine(0.1, 0, 10, 0, -0.1, 60)
    found = polygonize(map_of([[1, 1, 1], [1, 1, 1]], degree, "EPSG:4326"))
    expected, _ = found.crs.get_geod().geometry_area_perimeter(shapely.segmentize(found.geometry[0], 0.001))
    assert found.area_m2[0] == pytest.approx(abs(expected), rel=1e-7)


def test_area_of_web_mercator_pixels_is_that_of_the_ground():
    found = polygonize(map_of([[1, 1], [1, 1]], Affine(5000, 0, 1_000_000, 0, -5000, 8_000_000), "EPSG:3857"))
    dense = found.geometry.segmentize(50).to_crs(4326)
    expected, _ = dense.crs.get_geod().geometry_area_perimeter(dense[0])
    assert found.area_m2[0] == pytest.approx(abs(expected), rel=1e-7)
    assert found.area_m2[0] < 0.4 * found.area[0]


def test_area_of_mercator_sea_charts_is_that_of_the_ground():
    found = polygonize(map_of([[1, 1], [1, 1]], Affine(5000, 0, 1_000_000, 0, -5000, 8_000_000), "EPSG:3395"))
    dense = found.geometry.segmentize(50).to_crs(4326)
    expected, _ = dense.crs.get_geod().geometry_area_perimeter(dense[0])
    assert found.area_m2[0] == pytest.approx(abs(expected), rel=1e-6)


def test_area_of_turned_geographic_pixels_follows_their_latitudes():
    grid = GeoBox((2, 3), Affine(0.087, 0.05, 10, 0.05, -0.087, 60), "EPSG:4326")
    found = polygonize(map_of([[1, 1, 1], [1, 1, 1]], grid.affine, "EPSG:4326"))
    dense = shapely.segmentize(found.geometry[0], 0.001)
    expected, _ = found.crs.get_geod().geometry_area_perimeter(dense)
    assert found.area_m2[0] == pytest.approx(abs(expected), rel=1e-6)
    assert pixel_areas(grid, slice(0, 2)).shape == (2, 3)


def test_areas_in_feet_are_given_in_square_meters():
    found = polygonize(map_of([[1]], Affine(100, 0, 500_000, 0, -100, 500_000), "EPSG:2263"))
    assert found.area_m2[0] == pytest.approx((100 * 0.3048006096) ** 2)


def test_without_a_crs_areas_count_pixels():
    found = polygonize(map_of([[1, 1]], Affine.identity(), None))
    assert found.crs is None
    assert found.area_m2.tolist() == [2.0]


@pytest.mark.parametrize("limit", [250, "250", "3px", Size(3, "px")])
def test_small_regions_join_their_largest_neighbor(limit):
    labels = [[1, 1, 1, 1, 2], [1, 3, 3, 1, 2], [1, 1, 1, 1, 2]]
    found = polygonize(map_of(labels), min_area=limit)
    assert found.class_id.tolist() == [1, 2]
    assert found.n_pixels.tolist() == [12, 3]


def test_min_area_of_geographic_maps_is_measured_on_the_ground():
    labels = [[1, 1, 1], [1, 3, 1], [1, 1, 1]]
    pixel = Affine(0.001, 0, 10, 0, -0.001, 60)
    assert len(polygonize(map_of(labels, pixel, "EPSG:4326"), min_area=6000)) == 2
    assert len(polygonize(map_of(labels, pixel, "EPSG:4326"), min_area=6500)) == 1


def test_a_small_region_amid_nodata_is_left_out():
    found = polygonize(map_of([[1, NODATA, 2, 2], [NODATA, NODATA, 2, 2]]), min_area="2px")
    assert found.class_id.tolist() == [2]


def test_no_region_smaller_than_asked_is_left_of_speckle():
    labels = np.random.default_rng(4).integers(1, 4, (64, 64))
    labels[5:9, 5:9] = NODATA
    found = polygonize(map_of(labels), min_area="12px")
    assert found.n_pixels.min() >= 12
    assert found.n_pixels.sum() == 64 * 64 - 16
    assert len(found) > 20


def test_regions_of_one_size_do_not_all_run_into_one_corner():
    labels = np.indices((32, 32)).sum(axis=0) % 2 + 1
    found = polygonize(map_of(labels), min_area="4px")
    assert len(found) > 20
    assert found.n_pixels.max() < 200


def test_holes_are_filled_from_the_inside_out():
    labels = np.ones((7, 7), int)
    labels[1:6, 1:6] = 2
    labels[3, 3] = 3
    found = polygonize(map_of(labels), fill_holes="26px")
    assert found.class_id.tolist() == [1]
    assert found.n_pixels.tolist() == [49]


def test_regions_at_the_frame_or_at_nodata_are_no_holes():
    labels = [[1, 1, 1, 2], [1, 3, 1, 1], [1, NODATA, 1, 1], [1, 1, 1, 1]]
    found = polygonize(map_of(labels), fill_holes="5px")
    assert sorted(found.class_id) == [1, 2, 3]


def test_confidence_is_the_mean_over_the_region(tmp_path):
    path = write_confidence(tmp_path / "c.tif", [[50, 90, 10], [60, NODATA, 20]])
    found = polygonize(map_of([[1, 1, 2], [1, 1, 2]]), confidence=path)
    assert found.confidence.tolist() == [66.67, 15.0]


def test_confidence_that_is_no_whole_number_is_averaged_as_well(tmp_path):
    path = tmp_path / "c.tif"
    values = np.array([[0.25, 0.75, np.nan], [0.5, np.nan, np.nan]], np.float32)
    with rasterio.open(path, "w", driver="GTiff", height=2, width=3, count=1, dtype="float32", transform=UTM) as sink:
        sink.write(values, 1)
    found = polygonize(map_of([[1, 1, 2], [1, 1, 2]]), confidence=path)
    assert found.confidence.fillna(-1).tolist() == [0.5, -1.0]


def test_confidence_is_missing_without_its_raster():
    assert polygonize(map_of([[1]])).confidence.isna().all()


def test_confidence_of_another_size_is_refused(tmp_path):
    path = write_confidence(tmp_path / "c.tif", [[50, 90]])
    with pytest.raises(SceneError, match=r"c\.tif has 1 x 2 pixels, not 2 x 1"):
        polygonize(map_of([[1], [1]]), confidence=path)


def test_a_missing_confidence_is_named(tmp_path):
    with pytest.raises(SceneError, match=r"absent\.tif: cannot be read"):
        polygonize(map_of([[1]]), confidence=tmp_path / "absent.tif")


def test_a_window_gives_the_polygons_of_its_pixels(tmp_path):
    labels = np.arange(1, 4).repeat(4).reshape(3, 4)
    path = write_confidence(tmp_path / "c.tif", [[0, 0, 0, 0], [0, 0, 40, 60], [0, 0, 0, 0]])
    found = polygonize(map_of(labels), window=Window(1, 2, 1, 2), confidence=path)
    assert found.class_id.tolist() == [2]
    assert found.total_bounds.tolist() == [500_020, 4_999_980, 500_040, 4_999_990]
    assert found.confidence.tolist() == [50.0]


def stairs(size=32):
    rows, cols = np.mgrid[:size, :size]
    labels = np.where(cols > rows, 1, 2)
    labels[rows + cols > 1.6 * size] = 3
    return labels


def test_simplified_polygons_share_their_edges_and_keep_the_frame():
    found = polygonize(map_of(stairs()), simplify="1.5px")
    assert shapely.coverage_is_valid(found.geometry.values)
    assert found.union_all().equals(shapely.box(500_000, 4_999_680, 500_320, 5_000_000))
    assert shapely.get_num_coordinates(found.geometry.values).sum() < 30


def test_simplification_takes_map_units_and_pixels_alike():
    in_pixels = polygonize(map_of(stairs()), simplify="1.5px")
    in_meters = polygonize(map_of(stairs()), simplify=15)
    assert in_pixels.geometry.geom_equals(in_meters.geometry).all()


def test_simplification_smooths_the_edge_of_nodata():
    labels = stairs()
    labels[labels == 2] = NODATA
    found = polygonize(map_of(labels), simplify="1.5px")
    assert shapely.get_num_coordinates(found.geometry.values).sum() < 20


def test_areas_do_not_change_when_outlines_are_simplified():
    exact, simple = polygonize(map_of(stairs())), polygonize(map_of(stairs()), simplify="2px")
    assert simple.area_m2.tolist() == exact.area_m2.tolist()


@pytest.mark.parametrize("size", ["-5", "5 m", "px", "wide"])
def test_a_size_that_is_none_is_refused(size):
    with pytest.raises(ConfigError, match="is not a size"):
        polygonize(map_of([[1]]), min_area=size)


def test_a_value_that_is_no_class_is_nodata():
    raster = map_of([[7, 1]])
    assert polygonize(raster).class_id.tolist() == [1]
    assert sum(area["pixels"] for area in class_areas(raster)) == 1


def test_labels_of_other_programs_may_hold_any_whole_numbers():
    raster = map_of([[1]])
    labels = np.array([[-7, 1, 300, 1], [70000, 1, 1, 2]], np.int32)
    raster = replace(raster, labels=labels, grid=GeoBox(labels.shape, UTM, "EPSG:32633"))
    found = polygonize(raster)
    assert found.class_id.tolist() == [1, 1, 2]
    assert found.n_pixels.tolist() == [1, 3, 1]


def test_a_map_may_have_more_classes_than_a_byte_tells():
    vocabulary = Vocabulary.of([f"class {number}" for number in range(1, 301)])
    raster = replace(map_of([[1]]), labels=np.array([[300, 299, 44, 44]], np.uint16), vocabulary=vocabulary)
    raster = replace(raster, grid=GeoBox((1, 4), UTM, "EPSG:32633"))
    assert polygonize(raster).class_name.tolist() == ["class 300", "class 299", "class 44"]


def test_a_map_of_signed_bytes_may_use_the_largest():
    vocabulary = Vocabulary.from_entries([{"id": 127, "name": "ice"}, {"id": 0, "name": "sea"}])
    raster = replace(map_of([[1]]), labels=np.array([[127, -1, 0, -128]], np.int8), vocabulary=vocabulary)
    raster = replace(raster, grid=GeoBox((1, 4), UTM, "EPSG:32633"))
    assert polygonize(raster).class_id.tolist() == [127, 0]


def test_class_areas_list_every_class_with_its_share():
    areas = class_areas(map_of([[1, 1, 1, 2], [NODATA, NODATA, NODATA, NODATA]]))
    assert [(area["name"], area["pixels"], area["area_m2"], area["share"]) for area in areas] == [
        ("water", 3, 300.0, 0.75),
        ("forest", 1, 100.0, 0.25),
        ("building", 0, 0.0, 0.0),
    ]


def test_class_areas_of_a_map_without_labels_are_zero():
    assert {area["share"] for area in class_areas(map_of([[NODATA]]))} == {0.0}
