"""`mmovseg train --labels`: whole runs of a few steps, from scenes and labels to a map with the user's classes."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
import torch
from mmovseg_cli.app import app
from safetensors import safe_open
from typer.testing import CliRunner

from mmovseg_geo.models.weights import bundled_weights, open_weights
from tests.conftest import ROOT
from tests.e2e.conftest import NORTH_UP

SIDE = 192
SHORT = ("--steps", 4, "--batch-size", 2, "--crop", 64, "--block-size", 48, "--device", "cpu")
ALL = ("--held-out", 0)
ONE_STEP = (*SHORT, *ALL, "--steps", 1)
FILES = ("--optical", "s2.tif", "--sar", "s1.tif", "--labels", "labels.tif")
WORDS = {10: "open water", 30: "built-up land"}


def make_area(folder: Path) -> None:
    """A scene in squares, of which the values 10 and 30 are labelled: half of it dark and smooth, half bright."""
    rng = np.random.default_rng(6)
    bright = rng.integers(0, 2, (SIDE // 16, SIDE // 16)).repeat(16, 0).repeat(16, 1).astype(bool)
    optical = np.where(bright, 190, 30) + rng.normal(0, 10, (3, SIDE, SIDE))
    labels = np.where(bright, 30, 10).astype(np.uint8)
    labels[:40, :40] = 0
    bands = {
        "s2.tif": optical.clip(0, 255).astype(np.uint8),
        "s1.tif": (np.where(bright, -5.0, -21.0) + rng.normal(0, 1, (2, SIDE, SIDE))).astype(np.float32),
        "labels.tif": labels[None],
    }
    place = {"crs": "EPSG:32633", "transform": NORTH_UP, "height": SIDE, "width": SIDE}
    for name, pixels in bands.items():
        nodata = {"nodata": 0} if name == "labels.tif" else {}
        with rasterio.open(folder / name, "w", count=len(pixels), dtype=pixels.dtype, **place, **nodata) as target:
            target.write(pixels)
    (folder / "classes.yaml").write_text("10: open water\n30: {name: built-up land, color: '#ff0000'}\n")


@pytest.fixture
def area(here: Path) -> Path:
    """That scene in the current folder."""
    make_area(here)
    return here


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with that scene and a finished run in `mine`, and what the run printed on stdout."""
    folder = tmp_path_factory.mktemp("area")
    make_area(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        words = ["train", *FILES, "--classes-file", "classes.yaml", "-o", "mine", *SHORT]
        result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    for said in ("s2.tif: red = band 1", "s1.tif: VV = band 1", "192 x 192 pixels of 10 m", "overlap", "aligned"):
        assert said in result.stderr
    return folder, result.stdout


def test_what_comes_out_maps_the_users_classes(
    run: Any, finished: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    area, said = finished
    monkeypatch.chdir(area)
    assert said.strip() == str(Path("mine/model.safetensors"))
    found = {path.name for path in Path("mine").iterdir()} - {"tensorboard", "best.pt"}
    assert found == {
        "model.safetensors", "MODEL_CARD.md", "report.png", "split.png", "split.json", "run.json", "metrics.jsonl",
        "last.pt",
    }  # fmt: skip
    result = run("segment", "s2.tif", "s1.tif", "--model", "mine/model.safetensors", "--device", "cpu")
    assert result.exit_code == 0, result.output
    with rasterio.open("s2_mmovseg/s2_labels.tif") as labels:
        assert set(np.unique(labels.read(1))) <= set(WORDS)
        assert labels.colormap(1)[30][:3] == (255, 0, 0)
        assert [entry["name"] for entry in json.loads(labels.tags()["classes"])] == list(WORDS.values())
    card = Path("mine/MODEL_CARD.md").read_text()
    for said in (
        *WORDS.values(),
        "10 m",
        "optical and sar",
        "CC-BY-SA-4.0",
        "fingerprint",
        "| before | after |",
        "seed 0",
    ):
        assert said in card
    note = json.loads(Path("mine/run.json").read_text())
    assert note["settings"]["steps"] == 4
    assert str(area) not in Path("mine/run.json").read_text()


def test_the_image_side_learns_and_the_rest_rests(run: Any, area: Path) -> None:
    result = run("train", *FILES, "--classes-file", "classes.yaml", "-o", "mine", "--learning-rate", 0.01, *ONE_STEP)
    assert result.exit_code == 0, result.output
    before, after = bundled_weights().tensors(), open_weights(Path("mine/model.safetensors")).tensors()
    assert before.keys() == after.keys()
    for name, value in before.items():
        same = torch.allclose(after[name].float(), value.float(), atol=1e-3, rtol=2e-2)
        if name.startswith("text.") or "running_" in name:
            assert same, name
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert {"optical", "sar", "adapters", "head"} <= moved


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not(
    run: Any, area: Path, finished: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmovseg_geo.training.loop import Loop

    options = (*FILES, "--classes-file", "classes.yaml", *SHORT)
    learn = Loop._learn

    def stopped(self: Loop, parts: Any) -> float:
        if self.step == 2:
            raise KeyboardInterrupt
        return learn(self, parts)

    monkeypatch.setattr(Loop, "_learn", stopped)
    assert run("train", *options, "-o", "parts").exit_code == 130
    assert not Path("parts/model.safetensors").exists()
    assert not list(Path("parts").glob(".*"))
    monkeypatch.setattr(Loop, "_learn", learn)
    # Who reads the images has no part in what is learned.
    result = run("train", *options, "-o", "parts", "--resume", "--workers", 2)
    assert result.exit_code == 0, result.output
    with (
        safe_open(finished[0] / "mine/model.safetensors", "pt") as one,
        safe_open("parts/model.safetensors", "pt") as other,
    ):
        for name in one.keys():  # noqa: SIM118
            assert torch.equal(one.get_tensor(name), other.get_tensor(name)), name
    result = run("train", *options, "-o", "parts", "--resume", "--seed", 5)
    assert result.exit_code == 1
    assert "seed" in result.stderr


def test_shapes_and_several_scenes(run: Any, area: Path, write: Callable[..., Path]) -> None:
    rng = np.random.default_rng(1)
    write("other.tif", rng.integers(0, 255, (3, 100, 130)).astype(np.uint8))
    boxes = [shapely.box(500000 + 160 * i, 4998080, 500080 + 160 * i, 5000000) for i in range(12)]
    frame = geopandas.GeoDataFrame({"crop": ["maize", "rape"] * 6}, geometry=boxes, crs="EPSG:32633")
    frame.to_crs("EPSG:4326").to_file("parcels.gpkg")
    result = run(
        "train", "--optical", "s2.tif", "--optical", "other.tif", "--labels", "parcels.gpkg", "--class-field", "crop",
        "--outside", "bare soil", "-o", "mine", *SHORT, "--steps", 1,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    weights = open_weights(Path("mine/model.safetensors"))
    assert weights.classes == (("bare soil",), ("maize",), ("rape",))
    assert len(json.loads(Path("mine/split.json").read_text())["scenes"]) == 2
    result = run("train", "--optical", "s2.tif", "--labels", "parcels.gpkg", "--class-field", "crop", "-o", "again",
                 "--from", "mine/model.safetensors", *ONE_STEP)  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "nothing was held out" in Path("again/MODEL_CARD.md").read_text()


def test_outlines_without_a_field_are_of_one_class(run: Any, area: Path, refused: Callable[..., str]) -> None:
    boxes = [shapely.box(500000 + 160 * i, 4998080, 500080 + 160 * i, 5000000) for i in range(12)]
    geopandas.GeoDataFrame({"osm_id": range(12)}, geometry=boxes, crs="EPSG:32633").to_file("roofs.geojson")
    given = ("train", "--optical", "s2.tif", "--labels", "roofs.geojson", "-o", "mine", *ONE_STEP)
    assert "--inside" in refused(*given, "--class-field", "kind")
    assert "only 'building' is labelled" in refused(*given, "--inside", "building")
    result = run(*given, "--inside", "building", "--outside", "background")
    assert result.exit_code == 0, result.output
    assert open_weights(Path("mine/model.safetensors")).classes == (("background",), ("building",))
    raster = ("train", *FILES, "--classes-file", "classes.yaml", "-o", "other", "--inside", "open water")
    assert "is for labels drawn as shapes" in refused(*raster)


def test_a_loss_that_is_no_number_stops_the_run(run: Any, area: Path) -> None:
    result = run("train", *FILES, "--classes-file", "classes.yaml", "-o", "mine", "--learning-rate", 1e30, *SHORT, *ALL)
    assert result.exit_code == 1
    assert "failed_batch.pt" in result.stderr
    assert Path("mine/failed_batch.pt").is_file()
    assert not Path("mine/model.safetensors").exists()


def test_bad_input_is_refused_before_anything_is_written(refused: Callable[..., str], area: Path) -> None:
    given = ("train", *FILES, "-o", "mine")
    assert "--classes-file" in refused(*given)
    assert "labels.tif holds" in refused(*given, "--classes", "water,forest")
    assert "given twice" in refused(
        "train", "--optical", "s2.tif", "--sar", "s2.tif", "--labels", "labels.tif", "--classes-file", "classes.yaml",
        "-o", "mine",
    )  # fmt: skip
    for model in ("mmovseg-vitb16", "mmovseg-vitb16-pie"):
        said = refused(*given, "--classes-file", "classes.yaml", "--from", model)
        assert f"{model} is another model" in said
        assert "--from mmovseg-compact" in said
    assert "no such" in refused(
        "train", "--optical", "nothing.tif", "--labels", "labels.tif", "--classes-file", "classes.yaml", "-o", "mine"
    ).lower()  # fmt: skip
    assert "CONFIG" in refused("train", "-o", "mine", code=2)
    assert "labels" in refused("train", "recipe.yaml", "--labels", "labels.tif", "-o", "mine", code=2)


TUTORIAL = ROOT / "docs" / "tutorial-local-training.md"


@pytest.mark.slow
def test_the_tutorial_in_a_short_form(shared: Path, here: Path) -> None:
    """Its commands as they stand, with few steps of training."""
    data = shared / "data" / "rgb_buildings"
    if not data.is_dir():
        pytest.skip(f"the Kampala blocks are not at {data}")
    for block in data.glob("block_*"):
        shutil.copytree(block, here / block.name)
    text = "\n".join(re.findall(r"```sh\n(.*?)```", TUTORIAL.read_text(encoding="utf-8"), flags=re.DOTALL))
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.startswith("mmovseg ")]
    assert {line.split()[1] for line in lines} == {"segment", "eval", "train"}
    for line in lines:
        # The bundled weights stand in for those that take hours.
        words = shlex.split(line.replace("without-buildings/compact.safetensors", "mmovseg-compact"), comments=True)[1:]
        if words[0] == "train":
            words += ["--steps", "2", "--batch-size", "2", "--crop", "96", "--device", "cpu"]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, f"{line}\n{result.output}"
    for made in ("kampala", "new-to-kampala"):
        assert Path(made, "model.safetensors").is_file()
    for made in ("before", "after", "unseen", "new"):
        assert Path(made, "rgb_labels.tif").is_file()
