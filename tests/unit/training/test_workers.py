"""Samples made by other processes: the same batches in the same order, and errors that say what they are."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
import torch
from affine import Affine

from mmovseg_geo.config import EvalConfig, SegmentConfig
from mmovseg_geo.errors import ConfigError, SceneError, TrainingFailed
from mmovseg_geo.training.area.samples import HeldOutBlocks, TrainingCrops
from mmovseg_geo.training.area.scenes import open_scenes
from mmovseg_geo.training.area.settings import AreaConfig
from mmovseg_geo.training.area.split import hold_out, scanned
from mmovseg_geo.training.loop_batches import Batches, Draw, training_batches, validation_batches
from mmovseg_geo.training.loop_processes import Processes, usual_workers

SIDE = 160
PLACE = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500000, 0, -10, 5000000), "height": SIDE, "width": SIDE}


@pytest.fixture(params=["raster", "shapes"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> AreaConfig:
    """A scene of both sensors with noise, its labels as a raster or as shapes."""
    rng = np.random.default_rng(4)
    truth = rng.integers(1, 3, (SIDE // 20, SIDE // 20)).astype(np.uint8).repeat(20, 0).repeat(20, 1)
    bands = {
        "s2.tif": rng.integers(1, 255, (3, SIDE, SIDE)).astype(np.uint8),
        "s1.tif": rng.normal(-12, 4, (2, SIDE, SIDE)).astype(np.float32),
        "labels.tif": truth[None],
    }
    for name, pixels in bands.items():
        with rasterio.open(tmp_path / name, "w", count=len(pixels), dtype=pixels.dtype, **PLACE) as target:
            target.write(pixels)
    labels, told = tmp_path / "labels.tif", EvalConfig(classes="water,forest")
    if request.param == "shapes":
        boxes = [shapely.box(500000 + 100 * i, 4998400, 500100 + 100 * i, 5000000) for i in range(16)]
        labels, told = tmp_path / "labels.gpkg", EvalConfig(class_field="kind")
        geopandas.GeoDataFrame({"kind": ["water", "forest"] * 8}, geometry=boxes, crs="EPSG:32633").to_file(labels)
    files = {"optical": (str(tmp_path / "s2.tif"),), "sar": (str(tmp_path / "s1.tif"),), "labels": (labels,)}
    return AreaConfig(**files, labelling=told, block_size=20, crop=64, steps=4, batch_size=2, clouds=0.5)


def samples_of(config: AreaConfig) -> tuple[TrainingCrops, HeldOutBlocks]:
    scenes, classes, every = scanned(*open_scenes(config), config)
    hold_out(every, classes, config)
    return TrainingCrops(scenes, every, config), HeldOutBlocks(scenes, every, config)


def drawn(config: AreaConfig, first_step: int = 0) -> list[dict[str, Any]]:
    return list(training_batches(samples_of(config)[0], config.loop(), Processes(), first_step=first_step))


def assert_same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert ours.keys() == theirs.keys()
    assert ours["id"] == theirs["id"]
    for name, value in ours.items():
        assert name == "id" or torch.equal(value, theirs[name]), name


def test_batches_are_the_same_however_many_processes_make_them(config: AreaConfig) -> None:
    alone, by_two = drawn(config), drawn(replace(config, workers=2))
    resumed = drawn(replace(config, workers=2), first_step=1)
    assert len(alone) == len(by_two) == 4
    for ours, theirs in (*zip(alone, by_two, strict=True), *zip(alone[1:], resumed, strict=True)):
        assert_same(ours, theirs)


def test_held_out_squares_are_the_same_however_many_processes_read_them(config: AreaConfig) -> None:
    judged = samples_of(config)[1]
    alone, by_two = (
        list(validation_batches(judged, replace(config, workers=workers).loop(), Processes())) for workers in (0, 2)
    )
    assert len(alone) == len(judged)
    for ours, theirs in zip(alone, by_two, strict=True):
        assert_same(ours, theirs)


def test_what_a_process_started_anew_gets_draws_the_same_crops(config: AreaConfig) -> None:
    crops = samples_of(config)[0]
    before = [crops[Draw(0, number)] for number in range(3)]
    content = pickle.dumps(crops)
    assert len(content) < 200_000  # no squares of the scene are sent
    again = pickle.loads(content)
    for number, sample in enumerate(before):
        assert_same(sample, again[Draw(0, number)])


@pytest.fixture
def started_anew() -> Iterator[None]:
    """Processes begin empty, as they do on Windows and macOS."""
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


@pytest.mark.parametrize("config", ["raster"], indirect=True)
def test_a_process_may_begin_empty(config: AreaConfig, started_anew: None) -> None:
    short = replace(config, steps=1)
    (ours,), (theirs,) = drawn(short), drawn(replace(short, workers=1))
    assert_same(ours, theirs)


@pytest.mark.parametrize("config", ["raster"], indirect=True)
@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_breaks_is_told_as_its_reader_does(config: AreaConfig, workers: int) -> None:
    crops = samples_of(config)[0]
    for one in crops.scenes:
        one.scene.close()
    Path(config.optical[0]).write_text("no raster")
    with pytest.raises(SceneError, match=r"s2\.tif: cannot be read .*\n"):
        next(training_batches(crops, replace(config, workers=workers).loop(), Processes(), first_step=0))


class Mine:
    """A sample for each index: the process that made it, which dies at one."""

    def __init__(self, dies_at: int | None = None) -> None:
        self.dies_at = dies_at

    def __len__(self) -> int:
        return 6

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        if draw.index == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"id": str(draw.index), "process": os.getpid()}


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
def test_a_process_that_the_system_ends_is_told() -> None:
    groups = [[Draw(index, index)] for index in range(6)]
    with pytest.raises(TrainingFailed, match="ended by the system") as told:
        list(Batches(Mine(dies_at=3), groups, 2))
    assert "fewer workers" in str(told.value)


def test_the_same_processes_read_every_time() -> None:
    batches = Batches(Mine(), [[Draw(index, index)] for index in range(6)], 2)
    first, again = ([batch["process"].item() for batch in batches] for _ in range(2))
    assert len(set(first)) == 2
    assert os.getpid() not in first
    assert set(first) == set(again)
    assert [batch["id"] for batch in batches] == [[str(index)] for index in range(6)]


@pytest.mark.parametrize(
    ("device", "cores", "expected"), [("cpu", 2, 0), ("cpu", 16, 2), ("cuda", 2, 1), ("cuda", 64, 8), ("mps", 6, 5)]
)
def test_workers_where_nobody_says_how_many(
    monkeypatch: pytest.MonkeyPatch, device: str, cores: int, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)), raising=False)
    assert usual_workers(torch.device(device)) == expected


@pytest.mark.parametrize("config", ["raster"], indirect=True)
def test_workers_are_no_part_of_a_run(config: AreaConfig) -> None:
    assert replace(config, workers=3).values() == config.values()
    assert [replace(config, workers=workers).loop(4).workers for workers in (None, 0, 3)] == [4, 0, 3]
    with pytest.raises(ConfigError, match="--workers -1 is too small"):
        replace(config, workers=-1)


@pytest.mark.parametrize("config", ["raster"], indirect=True)
def test_the_ratio_of_radar_is_refused_where_nothing_looks_at_it(config: AreaConfig) -> None:
    with pytest.raises(ConfigError, match="looks at two"):
        replace(config, reading=SegmentConfig(sar_ratio=True))
