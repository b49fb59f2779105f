"""The published variants of MM-OVSeg through the real command line, on a network a few channels wide."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from safetensors.torch import save_file

from mmovseg_geo.models.mmovseg.variants import PUBLISHED
from tests.unit.models.mmovseg.tiny import tiny_network, tiny_params

CLASSES = ("--classes", "water,building|house,forest")


@pytest.fixture
def weights(tmp_path_factory, monkeypatch):
    """A file as `mmovseg models convert` writes it."""
    monkeypatch.setitem(PUBLISHED, "mmovseg-vitb16", tiny_params)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file(tiny_network().state_dict(), path, {"variant": "mmovseg-vitb16"})
    return str(path)


@pytest.mark.parametrize(
    "options",
    [(), ("inference=sliding", "prompts={} from above|a photo of {}"), ("sar_alignment=reference", "synonyms=first")],
)
def test_a_scene_is_mapped_in_every_way_and_says_in_which(scene, run, weights, options):
    flags = [part for option in options for part in ("--model-option", option)]
    result = run("segment", *scene, "--model", weights, *CLASSES, *flags, "--no-polygons")
    assert result.exit_code == 0, result.output
    report = json.loads(Path("s2_mmovseg/s2_run.json").read_text())
    said = report["request"]["model"]
    for option in options:
        name, _, value = option.partition("=")
        assert said["templates" if name == "prompts" else name] == (value.split("|") if name == "prompts" else value)
    with rasterio.open("s2_mmovseg/s2_labels.tif") as labels:
        assert set(np.unique(labels.read(1))) <= {1, 2, 3, labels.nodata}


def test_choices_that_do_not_go_together_stop_before_any_output(scene, run, weights):
    options = ("--model-option", "inference=sliding", "--model-option", "sar_alignment=reference")
    result = run("segment", *scene, "--model", weights, *CLASSES, *options)
    assert result.exit_code == 1
    assert "the published sliding windows have no SAR" in " ".join(result.stderr.split())
    assert not Path("s2_mmovseg").exists()
