from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import rasterio

from mmovseg_geo.simulate import LAND_COVERS

STEMS = ("scene_rgb", "scene_sar", "scene_labels")


@pytest.fixture(scope="module")
def make(sample_data: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_sample_data", sample_data / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_sample_files_are_what_the_seed_gives(make: ModuleType, sample_data: Path):
    made = make.rasters(make.scene())
    assert set(made) == set(STEMS)
    for stem, pixels in made.items():
        with rasterio.open(sample_data / f"{stem}.tif") as source:
            stored = source.read()
        # Another machine's FFT may round the last bit the other way: at an edge, one pixel in ten thousand.
        assert stored.shape == pixels.shape
        assert (stored != pixels).mean() < 1e-4, stem


@pytest.mark.parametrize("stem", STEMS)
def test_sample_files_are_small_and_say_that_they_are_simulated(sample_data: Path, stem: str):
    path = sample_data / f"{stem}.tif"
    assert path.stat().st_size < 2_000_000
    with rasterio.open(path) as source:
        assert source.tags()["SIMULATED"] == "yes"
        assert source.crs.to_epsg() == 32633


def test_sample_bands_are_named(sample_data: Path):
    with rasterio.open(sample_data / "scene_sar.tif") as sar, rasterio.open(sample_data / "scene_rgb.tif") as rgb:
        assert sar.descriptions == ("VV", "VH")
        assert [interpretation.name for interpretation in rgb.colorinterp] == ["red", "green", "blue"]
        assert sar.bounds.left < rgb.bounds.left
        assert sar.bounds.top > rgb.bounds.top
        assert sar.bounds.right > rgb.bounds.right
        assert sar.bounds.bottom < rgb.bounds.bottom


def test_sample_scene_holds_water_forest_fields_houses_and_roads(sample_data: Path):
    with rasterio.open(sample_data / "scene_labels.tif") as source:
        labels = source.read(1)
        assert source.tags()["CLASSES"].split("|") == [cover.name for cover in LAND_COVERS]
    present = {LAND_COVERS[index].name for index in np.unique(labels)}
    assert {"lake", "river", "broadleaf forest", "plowed field", "tiled roof", "asphalt road"} <= present
