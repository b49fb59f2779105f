"""Published methods with the settings that they had on a set."""

from __future__ import annotations

import numpy as np
import pytest

from mmovseg_geo.datasets import as_published, load_as_published, open_dataset, read_dataset
from mmovseg_geo.datasets.as_published import WithThreshold
from mmovseg_geo.errors import ConfigError, WeightsError
from mmovseg_geo.evaluation import evaluate
from mmovseg_geo.models import registry
from mmovseg_geo.tiles import Tiling
from mmovseg_geo.vocabulary import Vocabulary
from tests.dataset_copies import SETS, copy_of


class ByHand:
    """A segmenter of given class values, all classes scored."""

    name, sensors, tiling, planes, scores_background = "by hand", frozenset({"optical"}), Tiling(), 1, True
    provenance = {"model": "by hand"}  # noqa: RUF012

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary

    def __call__(self, batch):
        return batch

    def probabilities(self, scores):
        return scores


@pytest.fixture
def asked(monkeypatch):
    """What `load_segmenter` is asked for, by set and method; nothing is loaded."""

    def load(dataset, method, **options):
        calls = []

        def note(model, vocabulary, *, device, precision, options):
            calls.append((model, vocabulary, options))
            return ByHand(vocabulary)

        monkeypatch.setattr(as_published, "load_segmenter", note)
        monkeypatch.setattr(registry, "weights_file", lambda name: f"{name}.safetensors")
        load_as_published(SETS[dataset], method, **options)
        return calls[0]

    return load


@pytest.mark.parametrize("version", ["segearth-ov", "segearth-ov2"])
def test_an_optical_set_is_run_with_the_settings_in_its_file(asked, version):
    model, vocabulary, options = asked("vaihingen", version)
    assert model == "segearth-ov"
    assert vocabulary == read_dataset(SETS["vaihingen"]).vocabulary(version)
    assert vocabulary.names[0] == ("road" if version == "segearth-ov2" else "impervious surface")
    assert options == {
        "attention": "segearth", "last": 1, "residual": False, "bias": -0.3, "temperature": 50.0,
        "upsampler": "jbu_one", "long_edge": 448, "window": 224, "stride": 112,
    }  # fmt: skip


def test_a_sar_set_is_run_with_the_sar_encoder_on_the_whole_image(asked):
    model, _, options = asked("ddhr-xian", "segearth-ov2-sar")
    assert model == "segearth-ov2-sar"
    assert (options["attention"], options["last"], options["long_edge"], options["window"]) == ("sclip", 2, 224, 0)
    assert "encoder" not in options


def test_ships_are_looked_for_with_the_optical_encoder(asked):
    model, _, options = asked("hrsid", "segearth-ov2")
    assert model == "segearth-ov2-sar"
    assert (options["encoder"], options["checkpoint"]) == ("ViT-B-16-quickgelu", "clip-vitb16-openai.safetensors")
    assert (options["attention"], options["last"]) == ("segearth", 1)


def test_options_given_take_the_place_of_published_ones(asked):
    _, _, options = asked("xbd", "segearth-ov", options={"upsampler": "bilinear"})
    assert (options["upsampler"], options["bias"]) == ("bilinear", 0.0)


def test_mm_ovseg_is_run_on_whole_images_with_sar_and_prompt_as_published(asked):
    from inspect import signature

    from mmovseg_geo.models.mmovseg.builders import mmovseg_vitb16
    from mmovseg_geo.models.mmovseg.published import PROMPTS, prompt_templates

    model, vocabulary, options = asked("ddhr-ch", "mmovseg-vitb16")
    assert model == "mmovseg-vitb16-ddhr-ch"
    assert vocabulary.names == ("city", "road", "farmland", "forest", "water")
    assert (options["inference"], options["sar_alignment"], options["synonyms"]) == ("whole", "reference", "first")
    assert prompt_templates(options["prompts"]) == PROMPTS["scene"]
    assert set(options) <= set(signature(mmovseg_vitb16).parameters)
    segmenter = load_as_published(SETS["oem-thin"], "mmovseg-vitb16")
    assert segmenter.tiling.fitted((1024, 1024)).count((1024, 1024)) == 1


@pytest.mark.parametrize("name", SETS)
def test_settings_of_every_set_are_options_of_its_model(asked, name):
    from mmovseg_geo.models.segearth.recipe import Recipe

    for method in read_dataset(SETS[name]).methods:
        _, vocabulary, options = asked(name, method)
        assert [entry.id for entry in vocabulary.classes] == list(range(len(vocabulary)))
        if method.startswith("segearth"):
            own = {key: value for key, value in options.items() if key not in ("encoder", "checkpoint")}
            recipe = Recipe().with_options(own)
            assert (recipe.long_edge, recipe.temperature) == (options["long_edge"], 50)


@pytest.mark.parametrize("name", SETS)
def test_official_weights_were_made_for_the_classes_of_the_set(asked, name):
    dataset = read_dataset(SETS[name])
    for method in (method for method in dataset.methods if method.startswith("mmovseg")):
        entry = registry.entry(asked(name, method)[0])
        assert entry.network == method
        assert entry.evaluated == dataset.vocabulary().names
        assert entry.classes == (dataset.seen or read_dataset(SETS["ddhr-sk"]).seen)


def test_missing_weights_and_methods_are_errors_with_advice(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match="has no settings of 'segearth-ov2-sar'; it has those of: segearth-ov"):
        load_as_published(SETS["loveda"], "segearth-ov2-sar")
    with pytest.raises(WeightsError, match="mmovseg models pull"):
        load_as_published(SETS["loveda"], "segearth-ov")


def values(*columns):
    """Class values (K, 1, W) from those of each pixel."""
    return np.array(columns, np.float32).T[:, None]


def test_pixels_that_no_class_claims_become_the_background_and_say_how_sure_that_is():
    segmenter = WithThreshold(ByHand(Vocabulary.of("road,tree,clutter")), 0.5, 2)
    found = segmenter.probabilities(values([0.4, 0.3, 0.2], [0.2, 0.5, 0.1], [0.1, 0.2, 0.3], [0.0, 0.1, 0.9]))
    assert found.argmax(0).tolist() == [[2, 1, 2, 2]]
    assert found.max(0) == pytest.approx(np.array([[0.6, 0.5, 0.7, 0.9]]))
    assert segmenter.provenance == {"model": "by hand", "threshold": 0.5, "below_threshold": "clutter"}


def test_a_threshold_is_met_by_a_value_that_equals_it():
    segmenter = WithThreshold(ByHand(Vocabulary.of("a,b")), 0.25, 0)
    assert segmenter.probabilities(values([0.1, 0.25], [0.1, 0.2499]))[:, 0].argmax(0).tolist() == [1, 0]


def test_the_real_method_runs_on_a_set_with_weights_of_no_worth(tmp_path):
    """Seeded, so that maps are noise; the threshold then gives a share of the pixels to the class it should."""
    pytest.importorskip("open_clip")
    from tests.unit.models.segearth.tiny import tiny_encoder

    copy_of("yeseg-opt-sar").write(tmp_path)
    images = open_dataset(SETS["yeseg-opt-sar"], tmp_path)
    options = {**tiny_encoder(tmp_path), "upsampler": "none", "long_edge": 64}
    segmenter = load_as_published(images.config, "segearth-ov2-sar", device="cpu", precision="fp32", options=options)
    assert isinstance(segmenter, WithThreshold)
    scores = evaluate(images, segmenter)
    assert scores.pixels == sum(int((images.labels(image) != 255).sum()) for image in images.images)
    all_background = WithThreshold(segmenter.segmenter, 1.0, 0)
    assert evaluate(images, all_background).iou["water"] == 0
