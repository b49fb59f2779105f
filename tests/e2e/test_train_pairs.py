"""`mmovseg train` on pairs of images without labels: what comes out is used by the next command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmovseg_geo.models.mmovseg.start import save
from tests.unit.models.mmovseg.tiny import tiny_network, tiny_params
from tests.unit.models.segearth.tiny import tiny_encoder

STEPS = {"steps": 3, "batch_size": 2, "log_every": 1, "save_every": 2, "check_every": 3, "workers": 0}


@pytest.fixture
def pairs(shared: Path) -> dict[str, Any]:
    """Eight pairs of Sentinel-2 and Sentinel-1, two of them left out."""
    return {
        "folder": str(shared / "data" / "s1_s2_pairs_png"),
        "optical": "optical/ROIs1158_spring_s2_{id}.png",
        "sar": "sar/ROIs1158_spring_s1_{id}.png",
        "left_out": ["90_p33", "90_p319"],
    }


def trained(run: Any, folder: Path, listed: dict[str, Any]) -> Path:
    """The file that a recipe gives."""
    recipe = folder / f"{listed['stage']}.yaml"
    recipe.write_text(yaml.safe_dump({"optimization": STEPS, **listed}))
    out = folder / listed["stage"]
    result = run("train", recipe, "-o", out, "--device", "cpu")
    assert result.exit_code == 0, result.output
    entries = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert sum("loss" in entry for entry in entries) == STEPS["steps"]
    assert any("validation loss" in entry for entry in entries)
    assert "## Scores" in (out / "MODEL_CARD.md").read_text()
    assert (out / "report.png").is_file()
    return Path(result.stdout.strip())


def test_an_aligned_sar_encoder_is_for_the_second_stage(
    run: Any, tmp_path: Path, pairs: dict[str, Any], scene: Any
) -> None:
    """What it begins is in `tests/unit/training/test_stages_cmu.py`; by itself it is no model."""
    start = tmp_path / "start.safetensors"
    save(tiny_network(), tiny_params(), start, trained=False)
    listed = {"stage": "cmu", "start": {"weights": start.name}, "data": pairs, "settings": {"projection": "mlp"}}
    encoder = trained(run, tmp_path, listed)
    assert encoder.name == "sar_encoder.safetensors"
    result = run("segment", *scene, "--model", encoder, "--classes", "water,city")
    assert result.exit_code == 1
    assert "unknown network 'mmovseg-sar-encoder'" in result.stderr


def test_an_adapted_clip_segments_sar(run: Any, tmp_path: Path, pairs: dict[str, Any], scene: Any) -> None:
    tiny = tiny_encoder(tmp_path)
    listed = {
        "stage": "alignearth",
        "start": {"clip": tiny["checkpoint"]},
        "data": pairs,
        "settings": {"encoder": tiny["encoder"], "size": 64},
    }
    clip = trained(run, tmp_path, listed)
    options = [
        f"encoder={tiny['encoder']}",
        f"checkpoint={clip}",
        "upsampler=bilinear",
        "factor=1",
        "window=64",
        "stride=64",
    ]
    words = [word for option in options for word in ("--model-option", option)]
    result = run(
        "segment", scene[1], "--model", "segearth-ov2-sar", "--classes", "water,city", "--device", "cpu", *words
    )
    assert result.exit_code == 0, result.output


def test_a_trained_upsampler_serves_segearth(run: Any, tmp_path: Path, pairs: dict[str, Any], scene: Any) -> None:
    tiny = tiny_encoder(tmp_path)
    listed = {
        "stage": "simfeatup",
        "start": {"clip": tiny["checkpoint"]},
        "data": {name: value for name, value in pairs.items() if name != "sar"},
        "settings": {"encoder": tiny["encoder"], "size": 64, "jitters": 1},
    }
    upsampler = trained(run, tmp_path, listed)
    options = [
        f"encoder={tiny['encoder']}", f"checkpoint={tiny['checkpoint']}", f"upsampler={upsampler}", "factor=1",
        "window=64", "stride=64",
    ]  # fmt: skip
    words = [word for option in options for word in ("--model-option", option)]
    result = run("segment", scene[0], "--model", "segearth-ov", "--classes", "water,city", "--device", "cpu", *words)
    assert result.exit_code == 0, result.output
