"""The training-free systems through the real command line, with encoders a few channels wide."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio

import mmovseg_geo as mm
from tests.unit.models.segearth.tiny import tiny_encoder

SMALL = {"window": "64", "stride": "32", "factor": "1"}


def flags(**options):
    return [part for name, value in options.items() for part in ("--model-option", f"{name}={value}")]


@pytest.fixture
def encoder(tmp_path_factory):
    return tiny_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def cache(monkeypatch, tmp_path_factory):
    """A cache of weights without any."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("HF_HOME", str(folder))
    for name in ("HF_HUB_CACHE", "HF_ASSETS_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    return folder


def test_radar_alone_is_mapped_without_saying_that_it_is_radar(scene, run, encoder):
    result = run(
        *("segment", scene[1], "--model", "segearth-ov2-sar", "--classes", "water,building|house", "--background"),
        *flags(**encoder, **SMALL, upsampler="none"),
    )
    assert result.exit_code == 0, result.output
    report = json.loads(Path("s1_mmovseg/s1_run.json").read_text())
    facts = report["request"]["model"]["sar"]
    assert (facts["attention"], facts["last"], facts["bias"], facts["activation"]) == ("sclip", 2, -0.3, "gelu")
    assert len(facts["weights_sha256"]) == 64
    assert report["tiling"] == {"size": 64, "overlap": 32, "blend": "uniform"}
    with rasterio.open("s1_mmovseg/s1_labels.tif") as labels:
        assert set(np.unique(labels.read(1))) <= {0, 1, 2}


def test_without_simfeatup_features_are_upsampled_bilinearly_and_the_map_says_so(scene, run, encoder, cache):
    result = run(
        "segment", scene[0], "--model", "segearth-ov", "--classes", "water,building", *flags(**encoder, **SMALL)
    )
    assert result.exit_code == 0, result.output
    assert "upsampled bilinearly instead of by SimFeatUp" in result.stderr
    with rasterio.open("s2_mmovseg/s2_labels.tif") as labels:
        said = json.loads(labels.tags()["mmovseg_model"])["optical"]
    assert (said["upsampler"], said["upsampler_asked"]) == ("bilinear", "auto")


def test_both_sensors_are_mixed_with_the_weight_that_was_asked_for(scene, run, encoder):
    options = {f"{sensor}_{name}": value for sensor in ("optical", "sar") for name, value in encoder.items()}
    result = run(
        *("segment", *scene, "--model", "segearth-ov2", "--classes", "water,building"),
        *flags(**options, **SMALL, upsampler="none", optical_weight="0.25", sar_bias="0"),
    )
    assert result.exit_code == 0, result.output
    model = json.loads(Path("s2_mmovseg/s2_run.json").read_text())["request"]["model"]
    assert model["optical_weight"] == 0.25
    assert (model["optical"]["bias"], model["sar"]["bias"]) == (-0.3, 0.0)
    assert (model["optical"]["last"], model["sar"]["last"]) == (1, 2)


def test_a_real_scene_with_both_sensors_is_mapped_from_python(shared, tmp_path, encoder):
    folder = next(path for path in sorted((shared / "data" / "s1_s2_landcover").iterdir()) if path.is_dir())
    options = {f"{sensor}_{name}": value for sensor in ("optical", "sar") for name, value in encoder.items()}
    with mm.open_scene(folder / "rgb.tif", folder / "sar.tif") as scene:
        segmenter = mm.load_segmenter(
            "segearth-ov2", "background,water,forest|trees", options={**options, **SMALL, "upsampler": "bilinear"}
        )
        labels = mm.segment(scene, segmenter, tmp_path / "labels.tif", min_score=0.3)
        again = mm.segment(scene, segmenter, tmp_path / "again.tif", min_score=0.3, batch_size=1)
    values = labels.read()
    assert values.shape == scene.shape
    assert set(np.unique(values)) <= {0, 1, 2}
    assert (values == again.read()).mean() > 0.999


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("segearth-ov", {}, "Fetch them with: mmovseg models pull clip-vitb16-openai"),
        ("segearth-ov2-sar", {}, "mmovseg models pull alignearth-sar-vitb16"),
        ("segearth-ov", {"encoder": "ViT-L-14"}, "no weights for the encoder ViT-L-14"),
        ("segearth-ov", {"encoder": "RN50"}, "is a ResNet, which has no patch tokens"),
        ("segearth-ov", {"encoder": "ViT-B-16-SigLIP", "checkpoint": "x.pt"}, "as in SigLIP"),
        ("segearth-ov", {"encoder": "vit_base_patch16_dinov3", "checkpoint": "x.pt"}, "no space with words"),
        ("segearth-ov", {"checkpoint": "missing.pt"}, "missing.pt: no such file"),
        ("segearth-ov2", {"checkpoint": "x.pt"}, "optical_checkpoint or sar_checkpoint"),
        ("segearth-ov", {"biass": "0"}, "Did you mean bias"),
        ("segearth-ov", {"optical_weight": "0.5"}, "has no option 'optical_weight'. It has attention, last"),
        ("segearth-ov", {"upsampler": "sharp"}, "neither a file nor known. Known: auto, jbu_one"),
        ("segearth-ov2", {"optical_wait": "0.3"}, "Did you mean optical_weight"),
        ("segearth-ov2", {"sar_biass": "0"}, "Did you mean sar_bias"),
        ("segearth-ov2", {"zoom": "2"}, "with optical_ or sar_ before them for one sensor"),
        ("segearth-ov2", {"optical_weight": "half"}, "is not a number of 0 to 1"),
        ("segearth-ov2", {"optical_weight": "2"}, "is not a number of 0 to 1"),
    ],
)
def test_what_cannot_be_put_together_is_refused(scene, refused, cache, model, options, message):
    assert message in refused("segment", scene[0], "--model", model, "--classes", "water,road", *flags(**options))


def test_all_missing_weights_are_told_at_once(scene, refused, cache):
    message = refused("segment", *scene, "--model", "segearth-ov2", "--classes", "water,road")
    assert "mmovseg models pull clip-vitb16-openai" in message
    assert "mmovseg models pull alignearth-sar-vitb16" in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"upsampler": "jbu_one"}, "--from FILE"),
        ({"activation": "relu"}, "activation 'relu' is unknown"),
        ({"last": "9"}, "does not fit an image tower of 3 blocks"),
    ],
)
def test_what_does_not_fit_the_encoder_is_refused(scene, refused, cache, encoder, options, message):
    arguments = ("segment", scene[0], "--model", "segearth-ov", "--classes", "water,road")
    assert message in refused(*arguments, *flags(**encoder, **options))


def test_weights_of_another_architecture_are_refused(scene, refused, encoder):
    arguments = ("segment", scene[0], "--model", "segearth-ov", "--classes", "water,road")
    message = refused(*arguments, *flags(checkpoint=encoder["checkpoint"]))
    assert "does not fit the network" in message


def test_radar_given_to_an_optical_method_is_refused_with_advice(scene, refused, encoder):
    arguments = ("segment", scene[1], "--sar-only", "--model", "segearth-ov", "--classes", "water,road")
    message = refused(*arguments, *flags(**encoder, upsampler="none"))
    assert "segearth-ov needs optical images" in message
    assert "choose another --model" in message


def test_a_model_that_sees_nothing_of_a_scene_is_refused_before_its_weights_are_asked_for(scene, refused, cache):
    arguments = ("segment", scene[1], "--sar-only", "--model", "segearth-ov", "--classes", "water,road")
    assert "segearth-ov needs optical images" in refused(*arguments)
    assert "segearth-ov needs optical images" in refused(*arguments, "--dry-run")


@pytest.mark.parametrize(("model", "idle"), [("segearth-ov", "sar"), ("segearth-ov2-sar", "optical")])
def test_a_file_that_the_model_does_not_look_at_is_named(scene, run, encoder, model, idle):
    arguments = ("segment", *scene, "--model", model, "--classes", "water,road", *flags(**encoder, **SMALL))
    result = run(*arguments, *flags(upsampler="none"), "--no-polygons")
    assert result.exit_code == 0, result.output
    said = f"{model} does not look at {idle} images"
    assert said in " ".join(result.stderr.split())
    assert said in " ".join(json.loads(Path("s2_mmovseg/s2_run.json").read_text())["warnings"])


def test_words_must_be_given(scene, refused):
    assert "knows no classes of its own" in refused("segment", scene[0], "--model", "segearth-ov")


def test_an_upsampler_is_taken_from_a_file(scene, run, refused, encoder, tmp_path_factory):
    from safetensors.torch import save_file

    from mmovseg_geo.models.segearth.upsampler import build_upsampler

    folder = tmp_path_factory.mktemp("upsampler")
    for channels in (16, 32):
        save_file(build_upsampler("jbu_one", channels).state_dict(), folder / f"{channels}.safetensors")
    arguments = ("segment", scene[0], "--model", "segearth-ov", "--classes", "water,road", *flags(**encoder, **SMALL))
    assert "is for 32 channels" in refused(*arguments, *flags(upsampler=folder / "32.safetensors"))
    result = run(*arguments, *flags(upsampler=folder / "16.safetensors"))
    assert result.exit_code == 0, result.output
    facts = json.loads(Path("s2_mmovseg/s2_run.json").read_text())["request"]["model"]["optical"]
    assert facts["upsampler"] == "jbu_one"
    assert len(facts["upsampler_sha256"]) == 64
