"""Shapes burned on a grid: by windows as at once, in order, with the classes of a field."""

from __future__ import annotations

import geopandas
import numpy as np
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize

from mmovseg_geo.errors import ConfigError, MissingCRS, NoOverlap, SceneError
from mmovseg_geo.grid import Window
from mmovseg_geo.polygons.burn import FILL, burned_labels

GRID = GeoBox((40, 50), Affine(10, 0, 500000, 0, -10, 5000000), "EPSG:32633")
CLASSES = {"wheat": 0, "maize": 1}


def pixels(*boxes):
    """Boxes (first row, last row, first col, last col) of the grid's pixels."""
    return [
        shapely.box(500000 + 10 * left, 5000000 - 10 * below, 500000 + 10 * right, 5000000 - 10 * top)
        for top, below, left, right in boxes
    ]


@pytest.fixture
def fields(tmp_path):
    def written(kinds, shapes, name="fields.gpkg", crs="EPSG:32633", column="crop"):
        frame = geopandas.GeoDataFrame({column: kinds}, geometry=shapes, crs="EPSG:32633")
        path = tmp_path / name
        frame = frame.to_crs(crs) if crs else frame.set_crs(None, allow_override=True)
        frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_file(path)
        return path

    return written


@pytest.mark.parametrize("name", ["a.gpkg", "a.geojson", "a.fgb", "a.parquet", "a.shp"])
def test_every_kind_of_file_gives_the_same_pixels(fields, name):
    path = fields(["wheat", "maize"], pixels((0, 10, 0, 20), (10, 30, 5, 9)), name)
    found = burned_labels(path, GRID, CLASSES.get, field="crop").read(Window(0, 0, 40, 50))
    expected = np.full((40, 50), FILL)
    expected[:10, :20], expected[10:30, 5:9] = 0, 1
    assert np.array_equal(found, expected)


def test_windows_are_parts_of_the_whole(fields):
    rng = np.random.default_rng(3)
    shapes = [
        shapely.Polygon(np.array([500000, 4999600]) + rng.random((5, 2)) * [500, 400]).buffer(0) for _ in range(30)
    ] + [shapely.Point(500205, 4999795)]
    kinds = [["wheat", "maize"][number % 2] for number in range(31)]
    labels = burned_labels(fields(kinds, shapes), GRID, CLASSES.get, field="crop", outside=7)
    whole = labels.read(Window(0, 0, 40, 50))
    at_once = rasterize(
        [(shape, CLASSES[kind]) for shape, kind in zip(shapes, kinds, strict=True)],
        out_shape=(40, 50), fill=7, transform=GRID.affine, dtype="uint8",
    )  # fmt: skip
    assert np.array_equal(whole, at_once)
    for window in (Window(0, 0, 7, 50), Window(13, 11, 9, 17), Window(39, 49, 1, 1)):
        assert np.array_equal(labels.read(window), whole[window.slices])


def test_the_last_of_overlapping_shapes_counts(fields):
    path = fields(["wheat", "maize"], pixels((0, 20, 0, 20), (10, 20, 10, 20)))
    found = burned_labels(path, GRID, CLASSES.get, field="crop").read(Window(0, 0, 20, 20))
    assert (found[10:, 10:] == 1).all()
    assert (found == 0).sum() == 300


def test_another_crs_is_carried_over(fields):
    path = fields(["wheat"], pixels((5, 25, 10, 30)), crs="EPSG:4326")
    found = burned_labels(path, GRID, CLASSES.get, field="crop").read(Window(0, 0, 40, 50))
    expected = np.full((40, 50), FILL)
    expected[5:25, 10:30] = 0
    assert (found != expected).sum() <= 4


def test_shapes_without_a_class_are_not_scored(fields):
    path = fields(["wheat", None], pixels((0, 4, 0, 4), (4, 8, 0, 4)))
    found = burned_labels(path, GRID, CLASSES.get, field="crop", outside=5).read(Window(0, 0, 8, 4))
    assert found[:4].tolist() == [[0] * 4] * 4
    assert found[4:].tolist() == [[FILL] * 4] * 4


def test_all_shapes_can_have_one_class(fields):
    path = fields(["x", "y"], pixels((0, 4, 0, 4), (4, 8, 0, 4)))
    found = burned_labels(path, GRID, CLASSES.get, inside=1, outside=0).read(Window(0, 0, 10, 4))
    assert np.unique(found[:8]).tolist() == [1]
    assert np.unique(found[8:]).tolist() == [0]


def test_fields_of_known_names_need_not_be_told(fields):
    path = fields(["maize"], pixels((0, 4, 0, 4)), column="class_name")
    assert burned_labels(path, GRID, CLASSES.get).read(Window(0, 0, 1, 1)) == 1


def test_what_cannot_be_burned_is_refused_by_name(fields, tmp_path):
    near = pixels((0, 4, 0, 4))
    with pytest.raises(SceneError, match=r"'crop' holds 'rice' \(1 shapes\), which is no class"):
        burned_labels(fields(["rice"], near), GRID, CLASSES.get, field="crop")
    with pytest.raises(ConfigError, match=r"has no field 'kind'; it has: crop"):
        burned_labels(fields(["wheat"], near), GRID, CLASSES.get, field="kind")
    with pytest.raises(ConfigError, match="--inside"):
        burned_labels(fields(["wheat"], near), GRID, CLASSES.get)
    with pytest.raises(NoOverlap, match=r"No shape of .*fields\.gpkg"):
        burned_labels(fields(["wheat"], pixels((900, 904, 0, 4))), GRID, CLASSES.get, field="crop")
    with pytest.raises(MissingCRS, match="has no coordinate reference system"):
        burned_labels(fields(["wheat"], near, crs=None), GRID, CLASSES.get, field="crop")
    (tmp_path / "broken.gpkg").write_text("no")
    with pytest.raises(SceneError, match=r"broken\.gpkg: cannot be read"):
        burned_labels(tmp_path / "broken.gpkg", GRID, CLASSES.get, field="crop")
