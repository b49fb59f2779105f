"""`mmovseg train` with a recipe that names a stage: whole runs over a few images and a network a few channels wide."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import yaml
from PIL import Image
from safetensors import safe_open

from tests.conftest import ROOT
from tests.unit.training.labelled_images import recipe, write_images

EVERY_STEP = {"steps": 4, "batch_size": 2, "learning_rate": 0.001, "workers": 0}
EVERY_STEP |= dict.fromkeys(("save_every", "check_every"), 2) | {"log_every": 1}


LAND = ("water", "trees", "wetland", "crops", "built area", "bare ground", "snow", "cloud", "rangeland")


def metrics(folder: Path, name: str = "loss") -> list[float]:
    entries = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [entry[name] for entry in entries if name in entry]


def process(*words: object, **environment: str) -> subprocess.Popen[str]:
    """The command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "cli"))),
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished run, in `run` of a folder with recipe and images, and what it printed on stdout."""
    from mmovseg_cli.app import app
    from typer.testing import CliRunner

    folder = tmp_path_factory.mktemp("stage")
    result = CliRunner().invoke(app, ["train", str(recipe(folder)), "-o", str(folder / "run"), "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert "starts at random" not in result.stderr
    return folder, result.stdout


def test_what_comes_out_segments(finished: tuple[Path, str], run: Any, scene: tuple[Path, Path]) -> None:
    folder, said = finished
    model = folder / "run" / "model.safetensors"
    assert said.strip() == str(model)
    result = run("segment", *scene, "--model", model, "--device", "cpu")
    assert result.exit_code == 0, result.output
    with rasterio.open("s2_mmovseg/s2_labels.tif") as labels:
        assert labels.shape == (64, 64)


def test_the_weights_say_what_they_are(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    with safe_open(folder / "run" / "model.safetensors", framework="pt") as file:
        about, names = file.metadata(), list(file.keys())
    assert json.loads(about["classes"]) == [["water"], ["city"], ["forest"]]
    assert json.loads(about["trained_classes"]) == ["water", "city"]
    assert (about["variant"], about["trained"], about["licence"]) == ("mmovseg-custom", "yes", "CC0-1.0")
    assert not [name for name in names if "parametrizations" in name]


def test_a_run_leaves_all_that_tells_how_it_was_made(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    run = folder / "run"
    note = json.loads((run / "run.json").read_text())
    assert note["recipe"]["optimization"]["steps"] == 4
    assert {"torch", "mmovseg-geo"} <= set(note["versions"])
    assert len(note["data_fingerprint"]) == 64
    assert (run / "recipe.yaml").read_text() == (folder / "recipe.yaml").read_text()
    card = (run / "MODEL_CARD.md").read_text()
    for said in ("mmovseg segment optical.tif sar.tif --model model.safetensors", "CC0-1.0", "| miou |", "water, city"):
        assert said in card
    assert len(metrics(run)) == 4
    assert len(metrics(run, "validation miou")) == 2
    assert len(metrics(run, "validation miou_unseen")) == 2
    with Image.open(run / "report.png") as picture:
        assert picture.width == 1200
        assert picture.height > 1000
    assert {"last.pt", "best.pt"} <= {path.name for path in run.iterdir()}


def test_two_processes_give_the_losses_of_one(finished: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = finished
    out = tmp_path / "both"
    words = ["train", folder / "recipe.yaml", "-o", out, "--device", "cpu"]
    running = process("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, "-m", "mmovseg_cli", *words)
    stdout, stderr = running.communicate(timeout=900)
    assert running.returncode == 0, stderr
    assert stdout.strip() == str(out / "model.safetensors")
    assert metrics(out) == pytest.approx(metrics(folder / "run"), rel=1e-4)
    for name in ("validation miou", "validation iou water"):
        assert metrics(out, name) == pytest.approx(metrics(folder / "run", name), abs=5e-3)


def test_a_killed_run_goes_on_with_the_same_losses(finished: tuple[Path, str], tmp_path: Path, run: Any) -> None:
    """Killed as soon as a checkpoint is there, wherever it then is."""
    folder, _ = finished
    for name in ("recipe.yaml", "invented.yaml", "start.safetensors"):
        shutil.copy(folder / name, tmp_path / name)
    for kind in ("optical", "sar", "labels"):
        shutil.copytree(folder / kind, tmp_path / kind)
    out = tmp_path / "run"
    words = ("train", tmp_path / "recipe.yaml", "-o", out, "--device", "cpu")
    running = process("-m", "mmovseg_cli", *words)
    while not (out / "last.pt").is_file():
        assert running.poll() is None, running.communicate()[1]
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    assert running.returncode == -signal.SIGKILL
    assert len(metrics(out)) < 5
    result = run(*words, "--resume")
    assert result.exit_code == 0, result.output
    assert metrics(out) == pytest.approx(metrics(folder / "run"), rel=1e-6)


def test_a_folder_with_a_run_is_kept(finished: tuple[Path, str], run: Any, tmp_path: Path) -> None:
    folder, _ = finished
    before = (folder / "run" / "run.json").read_bytes()
    words = ("-o", folder / "run", "--device", "cpu")
    assert "Go on with it (--resume)" in run("train", folder / "recipe.yaml", *words).stderr
    other = folder / "other.yaml"
    changed = yaml.safe_load((folder / "recipe.yaml").read_text())
    changed["optimization"]["steps"] = 9
    other.write_text(yaml.safe_dump(changed))
    assert "it differs in optimization.steps" in run("train", other, *words, "--resume").stderr
    moved = tmp_path / "elsewhere"
    write_images(moved, side=80)
    said = run("train", folder / "recipe.yaml", *words, "--resume", "--data", moved).stderr
    assert "another recipe (it differs in data.folder)" in said
    assert (folder / "run" / "run.json").read_bytes() == before
    assert (
        "holds no run to go on with" in run("train", folder / "recipe.yaml", "-o", tmp_path / "new", "--resume").stderr
    )


def test_a_run_of_another_kind_is_told_apart(finished: tuple[Path, str], run: Any, tmp_path: Path) -> None:
    folder, _ = finished
    words = ("train", folder / "recipe.yaml", "-o", tmp_path, "--device", "cpu")
    for note, said in (("{}", "another kind"), ('{"recipe": ', "damaged")):
        (tmp_path / "run.json").write_text(note)
        assert said in run(*words, "--resume").stderr
    compact = ROOT / "configs" / "train" / "mmovseg-compact.yaml"
    assert "another kind" in run("train", compact, "-o", tmp_path, "--resume").stderr
    (tmp_path / "run.json").rename(tmp_path / "recipe.json")
    assert "a run of the compact recipe" in run(*words).stderr
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.json"]


def test_what_one_process_trains_is_refused_to_several(monkeypatch: pytest.MonkeyPatch, run: Any, here: Path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    compact = ROOT / "configs" / "train" / "mmovseg-compact.yaml"
    for words in ((compact,), ("--optical", "s2.tif", "--labels", "labels.tif")):
        result = run("train", *words, "-o", "run")
        assert result.exit_code == 1
        assert "trained by one process. Start it without torchrun" in result.stderr
    assert not list(here.iterdir())


def test_images_that_changed_are_noticed(tmp_path: Path, run: Any) -> None:
    path = recipe(tmp_path, optimization={**EVERY_STEP, "steps": 1})
    words = ("train", path, "-o", tmp_path / "run", "--device", "cpu")
    assert run(*words).exit_code == 0
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / "labels" / "train_0.png")
    assert "other images: some were added, removed or changed" in run(*words, "--resume").stderr


def test_labels_beyond_the_classes_name_the_file(tmp_path: Path, run: Any) -> None:
    path = recipe(tmp_path, optimization={**EVERY_STEP, "batch_size": 4, "workers": 1})
    Image.fromarray(np.full((64, 64), 2, np.uint8)).save(tmp_path / "labels" / "train_3.png")
    result = run("train", path, "-o", tmp_path / "run", "--device", "cpu")
    assert result.exit_code == 1
    assert "train_3.png: the stored value 2 stands for no class" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_published_recipe_asks_for_its_images(tmp_path: Path, run: Any) -> None:
    published = ROOT / "configs" / "train" / "mmovseg-vitb16-pie.yaml"
    result = run("train", published, "-o", tmp_path / "run", "--data", tmp_path)
    assert result.exit_code == 1
    assert "no files of pie-clean for `optical`" in result.stderr
    assert not (tmp_path / "run").exists()


def test_real_scenes_go_from_a_recipe_to_a_map(shared: Path, tmp_path: Path, run: Any) -> None:
    """Sentinel-1 and Sentinel-2 GeoTIFFs with coarse land cover, from recipe to map.

    Thirty steps teach encoders at random little more than how frequent classes are; that the stage learns to tell
    classes apart is in `tests/unit/training/test_stages_mmovseg.py`.
    """
    names = ("282D_485L_3_3", "637U_59R_1_3")
    for name in names:
        for kind, file in (("optical", "rgb"), ("sar", "sar"), ("labels", "labels")):
            (tmp_path / kind).mkdir(exist_ok=True)
            shutil.copy(shared / "data" / "s1_s2_landcover" / name / f"{file}.tif", tmp_path / kind / f"{name}.tif")
    description = {
        "title": "Land cover",
        "classes": dict(enumerate(LAND)),
        "labels": {"reduce_zero": True},
        "splits": {"all": {kind: f"{kind}/{{id}}.tif" for kind in ("optical", "sar", "labels")}},
        "evaluate": "all",
    }
    path = recipe(
        tmp_path,
        data={"dataset": "land.yaml", "folder": ".", "train": "all", "validate": "all", "gsd_m": 10},
        augmentation={"turns": True, "clouds": 0.3, "speckle": 0.3, "drop_optical": 0.1},
        settings={"ignore": "mask"},
        optimization={
            **EVERY_STEP,
            "steps": 30,
            "check_every": 30,
            "save_every": 30,
            "precision": "bf16",
            "workers": 1,
        },
    )
    (tmp_path / "land.yaml").write_text(yaml.safe_dump(description))
    result = run("train", path, "-o", tmp_path / "run", "--device", "cpu")
    assert result.exit_code == 0, result.output
    losses = metrics(tmp_path / "run")
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    images = [tmp_path / kind / f"{names[0]}.tif" for kind in ("optical", "sar")]
    done = run("segment", *images, "--model", tmp_path / "run" / "model.safetensors", "-o", tmp_path / "maps")
    assert done.exit_code == 0, done.output
    assert "ground sampling distance: 10 m" in (tmp_path / "run" / "MODEL_CARD.md").read_text()
