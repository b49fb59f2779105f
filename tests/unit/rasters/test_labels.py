from __future__ import annotations

import hashlib
import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rio_cogeo import cog_validate

from mmovseg_geo.errors import OutputError, SceneError
from mmovseg_geo.grid import Window
from mmovseg_geo.rasters.labels import LabelRaster, LabelWriter
from mmovseg_geo.vocabulary import Vocabulary

WORDS = Vocabulary.of("water,building|house,forest")
GRID = GeoBox((1300, 1100), Affine(10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0), "EPSG:32632")


@pytest.fixture
def ids():
    """(1300, 1100) uint8 patches of classes 1 to 3 with a corner of no-data."""
    found = np.kron(np.random.default_rng(0).integers(1, 4, (26, 22)), np.ones((50, 50))).astype(np.uint8)
    found[:70, :90] = 255
    return found


def write(path, ids, *, strip=370, grid=GRID, words=WORDS, **options):
    with LabelWriter(path, grid, words, **options) as writer:
        for row in range(0, ids.shape[0], strip):
            part = ids[row : row + strip]
            writer.write(row, part, np.where(part == words.ignore, 255, 80).astype(np.uint8))
    return writer.raster


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("strip", [1300, 512, 370, 7])
def test_rows_come_back_whatever_the_height_of_the_strips(tmp_path, ids, strip):
    labels = write(tmp_path / "a_labels.tif", ids, strip=strip)
    assert np.array_equal(labels.read(), ids)
    assert np.array_equal(labels.read(Window(600, 500, 30, 40)), ids[600:630, 500:540])


def test_both_files_are_valid_cogs(tmp_path, ids):
    labels = write(tmp_path / "a_labels.tif", ids, confidence=tmp_path / "a_confidence.tif")
    for path in (labels.path, tmp_path / "a_confidence.tif"):
        valid, errors, warnings = cog_validate(path)
        assert (valid, errors, warnings) == (True, [], [])


def test_the_grid_is_kept_exactly(tmp_path):
    turned = Affine(1 / 3, 0.1, 500000.1, 0.1, 1 / 3, 5000000.7)
    grid = GeoBox((20, 30), turned, "EPSG:32632")
    labels = write(tmp_path / "a.tif", np.ones((20, 30), np.uint8), grid=grid)
    with rasterio.open(labels.path) as dataset:
        assert tuple(dataset.transform)[:6] == tuple(turned)[:6]
        assert dataset.shape == (20, 30)
    assert LabelRaster.open(labels.path).grid == grid


def test_a_grid_without_a_crs_is_written_without_one(tmp_path):
    grid = GeoBox((20, 30), Affine.identity(), None)
    labels = write(tmp_path / "a.tif", np.ones((20, 30), np.uint8), grid=grid)
    assert LabelRaster.open(labels.path).grid.crs is None


def test_colors_nodata_and_description_are_those_of_the_vocabulary(tmp_path, ids):
    with rasterio.open(write(tmp_path / "a.tif", ids).path) as dataset:
        colors = dataset.colormap(1)
        assert [colors[entry.id] for entry in WORDS.classes] == [(*entry.rgb, 255) for entry in WORDS.classes]
        assert colors[255][3] == 0
        assert dataset.nodata == 255
        assert dataset.descriptions == ("class",)
        assert dataset.block_shapes == [(512, 512)]


def test_the_vocabulary_is_read_back_from_the_tags(tmp_path, ids):
    path = write(tmp_path / "a.tif", ids, tags={"mmovseg_model": "threshold"}).path
    assert LabelRaster.open(path).vocabulary == WORDS
    with rasterio.open(path) as dataset:
        tags = dataset.tags()
    assert tags["mmovseg_model"] == "threshold"
    assert json.loads(tags["classes"])[1] == {
        "id": 2, "name": "building", "synonyms": ["house"], "color": WORDS.classes[1].color
    }  # fmt: skip


def test_words_of_any_language_survive(tmp_path):
    words = Vocabulary.of(["Wald & Wiese <dicht>", "森林|x", 'the "old" town, left', "Ö́l"])
    path = write(tmp_path / "ä ö.tif", np.ones((20, 30), np.uint8), grid=GRID[:20, :30], words=words).path
    assert LabelRaster.open(path).vocabulary == words


def test_equal_runs_write_equal_bytes(tmp_path, ids):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    for folder, strip in (("one", 370), ("two", 111)):
        write(tmp_path / folder / "a.tif", ids, strip=strip, confidence=tmp_path / folder / "c.tif")
    assert digest(tmp_path / "one" / "a.tif") == digest(tmp_path / "two" / "a.tif")
    assert digest(tmp_path / "one" / "c.tif") == digest(tmp_path / "two" / "c.tif")


def test_overviews_hold_no_class_that_is_not_there(tmp_path, ids):
    few = np.where(ids == 2, 1, ids)
    path = write(tmp_path / "a.tif", few).path
    with rasterio.open(path) as dataset:
        assert dataset.overviews(1) == [2, 4]
    with rasterio.open(path, overview_level=1) as smaller:
        assert set(np.unique(smaller.read(1))) <= {1, 3, 255}


def test_overviews_of_confidence_are_means(tmp_path):
    ids = np.ones((1300, 1100), np.uint8)
    with LabelWriter(tmp_path / "a.tif", GRID, WORDS, confidence=tmp_path / "c.tif") as writer:
        writer.write(0, ids, np.tile(np.array([40, 60], np.uint8), (1300, 550)))
    with rasterio.open(tmp_path / "c.tif", overview_level=0) as smaller:
        assert set(np.unique(smaller.read(1))) == {50}


def test_many_classes_take_16_bits(tmp_path):
    words = Vocabulary.of([f"kind {n}" for n in range(300)])
    ids = np.arange(600).reshape(20, 30).astype(np.uint16) % 300 + 1
    ids[0, 0] = 65535
    labels = write(tmp_path / "a.tif", ids, grid=GeoBox((20, 30), GRID.transform, GRID.crs), words=words)
    with rasterio.open(labels.path) as dataset:
        assert (dataset.dtypes[0], dataset.nodata) == ("uint16", 65535)
    assert np.array_equal(LabelRaster.open(labels.path).read(), ids)


def test_creation_options_reach_gdal(tmp_path, ids):
    path = write(tmp_path / "a.tif", ids, co={"compress": "ZSTD", "BLOCKSIZE": "256"}).path
    with rasterio.open(path) as dataset:
        assert dataset.compression.value == "ZSTD"
        assert dataset.block_shapes == [(256, 256)]


def test_an_existing_file_is_kept_unless_told_otherwise(tmp_path, ids):
    (tmp_path / "a.tif").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        write(tmp_path / "a.tif", ids)
    assert (tmp_path / "a.tif").read_text() == "mine"
    write(tmp_path / "a.tif", ids, overwrite=True)
    assert np.array_equal(LabelRaster.open(tmp_path / "a.tif").read(), ids)


def test_an_existing_confidence_stops_before_anything_is_written(tmp_path, ids):
    (tmp_path / "c.tif").write_text("mine")
    with pytest.raises(OutputError, match=r"c\.tif exists already"):
        write(tmp_path / "a.tif", ids, confidence=tmp_path / "c.tif")
    assert [path.name for path in tmp_path.iterdir()] == ["c.tif"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_nothing_is_left_behind_when_interrupted(tmp_path, ids, error):
    (tmp_path / "a.tif").write_text("older")
    writer = LabelWriter(tmp_path / "a.tif", GRID, WORDS, confidence=tmp_path / "c.tif", overwrite=True)

    def interrupted():
        with writer:
            writer.write(0, ids[:600], ids[:600])
            raise error

    with pytest.raises(error):
        interrupted()
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]
    assert (tmp_path / "a.tif").read_text() == "older"


def test_missing_rows_are_our_own_mistake_and_leave_nothing(tmp_path, ids):
    with pytest.raises(ValueError, match="600 of 1300"), LabelWriter(tmp_path / "a.tif", GRID, WORDS) as writer:
        writer.write(0, ids[:600])
    assert list(tmp_path.iterdir()) == []


def test_rows_out_of_order_are_refused(tmp_path, ids):
    with pytest.raises(ValueError, match="do not follow"), LabelWriter(tmp_path / "a.tif", GRID, WORDS) as writer:
        writer.write(10, ids[:600])


def test_a_file_where_the_folder_should_be_is_named(tmp_path, ids):
    (tmp_path / "taken").write_text("")
    with pytest.raises(OutputError, match=r"taken.a\.tif cannot be written"):
        write(tmp_path / "taken" / "a.tif", ids)


def test_a_device_is_not_replaced(ids):
    with pytest.raises(OutputError, match="not an ordinary file"):
        write(Path("/dev/full"), ids, overwrite=True)
    assert Path("/dev/full").is_char_device()


FULL_DISK = """
import resource, signal, sys
import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox
from mmovseg_geo.errors import OutputError
from mmovseg_geo.rasters.labels import LabelWriter
from mmovseg_geo.vocabulary import Vocabulary

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
grid = GeoBox((1500, 1500), Affine(10.0, 0.0, 5e5, 0.0, -10.0, 5e6), "EPSG:32632")
noise = np.random.default_rng(0).integers(1, 4, (1500, 1500)).astype(np.uint8)
try:
    with LabelWriter(sys.argv[1], grid, Vocabulary.of("a,b,c")) as writer:
        writer.write(0, noise)
except OutputError as error:
    print(error)
"""


@pytest.mark.parametrize("limit", [100_000, 560_000])
def test_a_full_disk_is_an_error_that_names_the_file(tmp_path, limit):
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "a.tif"), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "a.tif" in done.stdout
    assert "written" in done.stdout
    assert list(tmp_path.iterdir()) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE) != (limit, limit)


def test_a_foreign_map_gets_classes_from_its_values(raster):
    ids = np.array([[[3, 3, 7, 0]]], np.uint8)
    labels = LabelRaster.open(raster("a.tif", ids, nodata=0))
    assert labels.vocabulary.names == ("class 3", "class 7")
    assert [entry.id for entry in labels.vocabulary.classes] == [3, 7]


def test_a_foreign_color_table_gives_colors(raster):
    ids = np.array([[[1, 2, 2, 2]]], np.uint8)
    colors = {1: (10, 20, 30, 255), 2: (255, 0, 0, 255)}
    labels = LabelRaster.open(raster("a.tif", ids, colormap=colors, photometric="palette"))
    assert [entry.color for entry in labels.vocabulary.classes] == ["#0a141e", "#ff0000"]


@pytest.mark.parametrize(
    "pixels", [np.zeros((3, 4, 4), np.uint8), np.zeros((1, 4, 4), np.float32), np.full((1, 4, 4), 255, np.uint8)]
)
def test_what_is_no_map_of_classes_is_refused(raster, pixels):
    with pytest.raises(SceneError):
        LabelRaster.open(raster("a.tif", pixels))


def test_a_map_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SceneError, match=r"none\.tif: no such file"):
        LabelRaster.open(tmp_path / "none.tif")
