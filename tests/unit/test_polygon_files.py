"""Polygons on disk: each format reads back, a GeoPackage carries its style, equal polygons give equal bytes."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import geopandas
import numpy as np
import pandas
import pyogrio
import pytest
from affine import Affine
from pyarrow.parquet import ParquetFile

from mmovseg_geo.errors import OutputError, SceneError
from mmovseg_geo.polygons import WRITERS, polygonize, polygonize_to, write, write_polygons
from mmovseg_geo.qgis import polygon_style
from mmovseg_geo.rasters.labels import LabelWriter
from mmovseg_geo.vocabulary import Vocabulary
from tests.label_maps import MapInMemory, map_of

if os.name != "nt":
    import resource

LABELS = [[1, 1, 2], [1, 255, 2], [3, 3, 2]]


def rows_of(path, sql):
    with sqlite3.connect(path) as database:
        return database.execute(sql).fetchall()


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_format_reads_back_what_was_written(tmp_path, suffix):
    found = polygonize(map_of(LABELS))
    path = write_polygons(found, tmp_path / f"polygons{suffix}")
    again = geopandas.read_parquet(path) if suffix == ".parquet" else geopandas.read_file(path, layer=0)
    again = again.sort_values("class_id", ignore_index=True)
    expected = found.to_crs(4326) if suffix == ".geojson" else found
    for column in ("class_id", "class_name", "area_m2", "n_pixels"):
        assert again[column].tolist() == found[column].tolist()
    assert again.crs == expected.crs
    assert again.geometry.normalize().geom_equals_exact(expected.geometry.normalize(), 1e-7).all()
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_map_written_in_strips_gives_the_file_of_its_table(tmp_path, monkeypatch, suffix):
    labels = np.random.default_rng(3).choice([1, 2, 3, 255], (90, 70), p=[0.5, 0.3, 0.1, 0.1])
    monkeypatch.setattr("mmovseg_geo.polygons.layer.ROWS_IN_GROUP", 1000)
    whole = write_polygons(polygonize(map_of(labels)), tmp_path / f"whole{suffix}")
    monkeypatch.setattr("mmovseg_geo.polygons.strips.STRIP_PIXELS", 7 * 70)
    streamed = tmp_path / f"streamed{suffix}"
    assert polygonize_to(map_of(labels), streamed) == len(polygonize(map_of(labels)))
    assert streamed.read_bytes() == whole.read_bytes()


def test_a_parquet_file_has_groups_of_rows(tmp_path, monkeypatch):
    monkeypatch.setattr("mmovseg_geo.polygons.layer.ROWS_IN_GROUP", 100)
    monkeypatch.setattr("mmovseg_geo.polygons.strips.STRIP_PIXELS", 40 * 3)
    labels = np.random.default_rng(3).integers(1, 4, (40, 40))
    count = polygonize_to(map_of(labels), tmp_path / "p.parquet")
    written = ParquetFile(tmp_path / "p.parquet").metadata
    sizes = [written.row_group(number).num_rows for number in range(written.num_row_groups)]
    assert sizes[:-1] == [100] * (count // 100)
    assert sum(sizes) == count


def test_memory_does_not_grow_with_the_height_of_a_map(tmp_path, monkeypatch):
    tile = np.random.default_rng(5).choice([1, 2, 255], (64, 64), p=[0.4, 0.4, 0.2]).repeat(4, 0).repeat(4, 1)
    monkeypatch.setattr("mmovseg_geo.polygons.strips.STRIP_PIXELS", 64 * 256)
    monkeypatch.setattr("mmovseg_geo.polygons.layer.ROWS_IN_GROUP", 500)
    peaks = []
    for tiles in (1, 4, 12):
        high = map_of(np.tile(tile, (tiles, 1)))
        tracemalloc.start()
        polygonize_to(high, tmp_path / "p.gpkg", overwrite=True, simplify="1px")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # The first time fills caches; simplification takes two bits for each pixel.
    assert peaks[2] < 1.15 * peaks[1] + 8 * tile.size / 4


class Interruption(BaseException):
    """Stands for Ctrl-C."""


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("problem", [Interruption(), SceneError("labels.tif: cannot be read"), MemoryError()])
def test_what_goes_wrong_while_polygons_are_made_is_told_and_leaves_what_was_there(
    tmp_path, monkeypatch, suffix, problem
):
    def read(self, window=None):
        if window.row:
            raise problem
        return self.labels[window.slices]

    monkeypatch.setattr(MapInMemory, "read", read)
    monkeypatch.setattr("mmovseg_geo.polygons.strips.ROWS_READ", 8)
    path = tmp_path / f"p{suffix}"
    path.write_text("mine")
    with pytest.raises(type(problem)) as raised:
        polygonize_to(map_of(np.indices((16, 5)).sum(axis=0) % 3), path, overwrite=True)
    assert raised.value is problem
    assert [item.name for item in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "mine"


def test_a_writer_that_fails_leaves_nobody_reading_on(tmp_path, monkeypatch):
    def fail(rows, *_, **__):
        rows.read_next_batch()
        raise pyogrio.errors.DataSourceError("the disk is gone")

    monkeypatch.setattr(pyogrio, "write_arrow", fail)
    monkeypatch.setattr("mmovseg_geo.polygons.layer.ROWS_IN_GROUP", 10)
    monkeypatch.setattr("mmovseg_geo.polygons.strips.STRIP_PIXELS", 40 * 3)
    # What was raised holds on to the rows.
    with pytest.raises(OutputError, match="the disk is gone"):
        polygonize_to(map_of(np.random.default_rng(3).integers(1, 4, (40, 40))), tmp_path / "p.gpkg")
    assert "mmovseg-strips" not in {thread.name for thread in threading.enumerate()}


def test_a_layer_without_its_whole_index_is_refused(tmp_path, monkeypatch):
    """GDAL only warns when there is no room for the index."""
    written = write._write

    def without_index(layer, path, driver, lco, **more):
        written(layer, path, driver, {"SPATIAL_INDEX": "NO"}, **more)

    monkeypatch.setattr(write, "_write", without_index)
    with pytest.raises(OutputError, match="spatial index is incomplete"):
        write_polygons(polygonize(map_of(LABELS)), tmp_path / "p.gpkg")
    assert list(tmp_path.iterdir()) == []


def test_a_layer_may_be_without_an_index_on_request(tmp_path):
    path = write_polygons(polygonize(map_of(LABELS)), tmp_path / "p.gpkg", lco={"spatial_index": "no"})
    assert len(geopandas.read_file(path, layer="labels")) == 3


@pytest.mark.skipif(os.name == "nt", reason="file size limits are POSIX")
@pytest.mark.parametrize("suffix", [".gpkg", ".fgb", ".parquet"])
@pytest.mark.parametrize("share", [0.3, 0.9, 0.9999])
def test_without_room_for_the_last_bytes_nothing_is_written(tmp_path, suffix, share):
    labels = np.random.default_rng(3).integers(1, 4, (100, 100))
    path = tmp_path / f"p{suffix}"
    polygonize_to(map_of(labels), path)
    size = path.stat().st_size
    path.unlink()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(share * size), limits[1]))
    try:
        with pytest.raises(OutputError, match=f"Cannot write .*p{suffix}"):
            polygonize_to(map_of(labels), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_columns_that_were_added_are_written_as_well(tmp_path):
    found = polygonize(map_of(LABELS))
    found["kind"] = pandas.Categorical(["wet", "wet", "dry"])
    found["seen"] = [None, None, None]
    for suffix in WRITERS:
        path = write_polygons(found, tmp_path / f"p{suffix}")
        again = geopandas.read_parquet(path) if suffix == ".parquet" else geopandas.read_file(path, layer=0)
        assert sorted(again["kind"]) == ["dry", "wet", "wet"]


def test_a_geopackage_holds_the_style_that_qgis_loads(tmp_path):
    raster = map_of(LABELS)
    path = write_polygons(polygonize(raster), tmp_path / "polygons.gpkg")
    style = rows_of(
        path, "SELECT f_table_catalog, f_table_schema, f_table_name, f_geometry_column, useAsDefault FROM layer_styles"
    )
    assert style == [("", "", "labels", "geom", 1)]
    assert rows_of(path, "SELECT styleQML FROM layer_styles") == [(polygon_style(raster.vocabulary),)]
    contents = rows_of(path, "SELECT table_name, data_type FROM gpkg_contents ORDER BY table_name")
    assert contents == [("labels", "features"), ("layer_styles", "attributes")]


def test_the_style_names_the_geometry_column_that_was_asked_for(tmp_path):
    path = write_polygons(polygonize(map_of(LABELS)), tmp_path / "p.gpkg", lco={"GEOMETRY_NAME": "shape"})
    assert rows_of(path, "SELECT f_geometry_column FROM layer_styles") == [("shape",)]


def test_equal_polygons_give_equal_bytes(tmp_path):
    for suffix in (".gpkg", ".fgb", ".geojson"):
        first = write_polygons(polygonize(map_of(LABELS)), tmp_path / f"first{suffix}")
        time.sleep(0.02)
        second = write_polygons(polygonize(map_of(LABELS)), tmp_path / f"second{suffix}")
        assert first.read_bytes() == second.read_bytes(), suffix


def test_no_clock_and_no_path_stand_in_a_geopackage(tmp_path):
    path = write_polygons(polygonize(map_of(LABELS)), tmp_path / "polygons.gpkg")
    written = path.read_bytes()
    assert str(tmp_path).encode() not in written
    assert b"scene_labels" not in written
    assert {row[0] for row in rows_of(path, "SELECT last_change FROM gpkg_contents")} == {"2000-01-01T00:00:00.000Z"}


def test_the_clock_of_gdal_runs_on_afterwards(tmp_path):
    write_polygons(polygonize(map_of(LABELS)), tmp_path / "polygons.gpkg")
    assert pyogrio.get_gdal_config_option("OGR_CURRENT_DATE") is None


def test_a_clock_of_the_environment_ends_with_the_environment(tmp_path, monkeypatch):
    with monkeypatch.context() as environment:
        environment.setenv("OGR_CURRENT_DATE", "2026-01-01T00:00:00Z")
        write_polygons(polygonize(map_of(LABELS)), tmp_path / "polygons.gpkg")
        assert pyogrio.get_gdal_config_option("OGR_CURRENT_DATE") == "2026-01-01T00:00:00Z"
    assert pyogrio.get_gdal_config_option("OGR_CURRENT_DATE") is None


def test_threads_that_write_at_once_leave_gdal_as_it_was(tmp_path):
    labels = np.random.default_rng(3).integers(1, 4, (60, 60))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: polygonize_to(map_of(labels), tmp_path / f"{number}.gpkg"), range(12)))
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    for name in ("OGR_CURRENT_DATE", *write.UNFINISHED):
        assert pyogrio.get_gdal_config_option(name) is None


def test_a_map_without_labels_is_a_geopackage_without_features(tmp_path):
    path = write_polygons(polygonize(map_of([[255, 255]])), tmp_path / "polygons.gpkg")
    information = pyogrio.read_info(path, layer="labels")
    assert information["features"] == 0
    assert information["geometry_type"] == "Polygon"
    assert list(information["fields"]) == ["class_id", "class_name", "area_m2", "confidence", "n_pixels"]


def test_polygons_without_a_crs_can_be_written(tmp_path, recwarn):
    path = write_polygons(polygonize(map_of(LABELS, Affine.identity(), None)), tmp_path / "polygons.gpkg")
    assert len(geopandas.read_file(path, layer="labels")) == 3
    assert not [item for item in recwarn if "crs" in str(item.message).lower()]


def test_geojson_without_a_crs_is_refused(tmp_path):
    with pytest.raises(OutputError, match="polygons have no CRS"):
        write_polygons(polygonize(map_of(LABELS, Affine.identity(), None)), tmp_path / "polygons.geojson")


def test_an_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(OutputError, match=r"\.shp.*\.gpkg, \.fgb, \.parquet, \.geojson"):
        write_polygons(polygonize(map_of(LABELS)), tmp_path / "polygons.shp")


def test_an_existing_file_is_kept_unless_replacing_it_is_allowed(tmp_path):
    path = tmp_path / "polygons.gpkg"
    path.write_text("mine")
    with pytest.raises(OutputError, match=r"polygons\.gpkg exists already"):
        write_polygons(polygonize(map_of(LABELS)), path)
    assert path.read_text() == "mine"
    write_polygons(polygonize(map_of(LABELS)), path, overwrite=True)
    assert len(geopandas.read_file(path, layer="labels")) == 3


@pytest.mark.parametrize("suffix", [".gpkg", ".fgb", ".geojson"])
def test_a_place_that_cannot_be_written_is_named(tmp_path, suffix):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=f"Cannot write .*polygons{suffix}"):
        write_polygons(polygonize(map_of(LABELS)), tmp_path / "file" / f"polygons{suffix}")


def test_a_failed_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*_):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("mmovseg_geo.polygons.write._add_style", fail)
    with pytest.raises(OutputError, match="disk is full"):
        write_polygons(polygonize(map_of(LABELS)), tmp_path / "polygons.gpkg")
    assert list(tmp_path.iterdir()) == []


def test_frames_that_lost_their_notes_are_styled_by_their_columns(tmp_path):
    found = polygonize(map_of(LABELS))
    found.attrs = {}
    path = write_polygons(found, tmp_path / "polygons.gpkg")
    assert 'label="building"' in rows_of(path, "SELECT styleQML FROM layer_styles")[0][0]


def test_a_map_on_disk_becomes_polygons_with_its_classes(tmp_path):
    raster = map_of(np.array(LABELS).repeat(8, 0).repeat(8, 1))
    vocabulary = Vocabulary.from_entries([{"name": "sea", "color": "#123456"}, {"name": "land"}, {"name": "ice"}])
    with LabelWriter(tmp_path / "m_labels.tif", raster.grid, vocabulary, confidence=tmp_path / "c.tif") as writer:
        writer.write(0, raster.labels, np.where(raster.labels == 1, 80, 40).astype(np.uint8))
    found = polygonize(tmp_path / "m_labels.tif", confidence=tmp_path / "c.tif")
    assert found.class_name.tolist() == ["sea", "land", "ice"]
    assert found.confidence.tolist() == [80.0, 40.0, 40.0]
    path = write_polygons(found, tmp_path / "m.gpkg")
    assert "18,52,86,255" in rows_of(path, "SELECT styleQML FROM layer_styles")[0][0]
