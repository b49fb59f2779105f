"""The YAML that describes a set: what it may say, and every way it can be wrong."""

from __future__ import annotations

import pytest

from mmovseg_geo.datasets import read_dataset
from mmovseg_geo.datasets.codes import LabelCode
from mmovseg_geo.errors import ConfigError
from mmovseg_geo.vocabulary import Vocabulary

GOOD = """\
title: A set
classes:
  0: background
  1: [water, lake]
  2: forest
seen: [background, forest]
unseen: [water]
labels:
  reduce_zero: true
splits:
  train:
    optical: train/rgb/{id}.png
    labels: train/labels/{id}.png
    classes: seen
  val:
    optical: val/rgb/{id}.png
    sar:
      - val/sar/{id}.png
      - sar/{id}.png
    labels: val/labels/{id}_gt.png
    list: val.txt
    places: ["2_13", area2]
    count: 12
evaluate: val
methods:
  segearth-ov: {threshold: 0.2, background: 2, window: null, stride: null}
  mmovseg-vitb16: {checkpoint: B16.zip/model.pth}
"""


@pytest.fixture
def described(tmp_path):
    """A function that reads the good description with some text replaced."""

    def read(*changes: tuple[str, str]):
        text = GOOD
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        path = tmp_path / "a-set.yaml"
        path.write_text(text, encoding="utf-8")
        return read_dataset(path)

    return read


def test_a_description_says_what_stands_in_it(described):
    dataset = described()
    assert (dataset.name, dataset.title, dataset.evaluate) == ("a-set", "A set", "val")
    assert dataset.classes == (("background",), ("water", "lake"), ("forest",))
    assert dataset.labels == LabelCode(reduce_zero=True)
    split = dataset.split()
    assert split.patterns["sar"] == ("val/sar/{id}.png", "sar/{id}.png")
    assert (split.listing, split.places, split.count, split.classes) == ("val.txt", ("2_13", "area2"), 12, "all")
    assert list(dataset.split("train").patterns) == ["optical", "labels"]


def test_settings_that_a_set_does_not_name_are_the_common_ones(described):
    settings = described().settings("segearth-ov")
    assert (settings.threshold, settings.background, settings.window) == (0.2, 2, None)
    assert (settings.resize, settings.bias, settings.attention) == (448, -0.3, "segearth")


def test_words_of_a_method_take_the_place_of_the_sets_own(described):
    dataset = described(("{threshold: 0.2, ", "{classes: {1: [river, stream]}, threshold: 0.2, "))
    assert dataset.words("segearth-ov") == (("background",), ("river", "stream"), ("forest",))
    assert dataset.words("mmovseg-vitb16") == dataset.classes


def test_a_training_split_has_the_seen_classes_alone(described):
    vocabulary = described().vocabulary(split="train")
    assert [(entry.id, entry.name) for entry in vocabulary.classes] == [(0, "background"), (1, "forest")]


def test_a_description_is_also_a_file_of_classes(described):
    dataset = described()
    assert Vocabulary.from_file(dataset.path) == dataset.vocabulary()


MISTAKES = {
    "unknown key": (("title: A set", "title: A set\ncolour: red"), "unknown key colour"),
    "a misspelled key": (("unseen:", "unsen:"), "unknown key unsen. Did you mean unseen?"),
    "no classes": (("classes:\n  0", "x:\n  0"), "unknown key x"),
    "lacking": (("evaluate: val\n", ""), "lacks `evaluate`"),
    "a missing class": (("  1: [water, lake]\n", ""), "class 1 is missing; indices run from 0 without a gap"),
    "a class twice": (("  2: forest", "  1: forest"), "1 is given twice"),
    "a key twice": (("title: A set", "title: A set\ntitle: B"), "'title' is given twice"),
    "a word twice": (("  2: forest", "  2: lake"), "'lake' stands twice"),
    "classes as a list": (
        ("  0: background\n  1: [water, lake]\n  2: forest", "  [a, b]"),
        "classes should hold `key: value` lines",
    ),
    "class names as keys": (("  2: forest", "  two: forest"), "words by class index"),
    "a number for a word": (("  2: forest", "  2: 7"), "classes.2 should be text"),
    "seen is no class": (
        ("[background, forest]", "[background, forrest]"),
        "'forrest', which is no class. Did you mean",
    ),
    "seen and unseen": (("unseen: [water]", "unseen: [water, forest]"), "'forest' is both seen and unseen"),
    "neither": (("seen: [background, forest]", "seen: [forest]"), "'background' is neither seen nor unseen"),
    "seen twice": (("unseen: [water]", "unseen: [water, water]"), "unseen names a class twice"),
    "unknown label key": (("reduce_zero: true", "reduce-zero: true"), "labels.reduce-zero. Did you mean reduce_zero?"),
    "a text for a switch": (("reduce_zero: true", "reduce_zero: maybe"), "true or false, not 'maybe'"),
    "two label rules": (("reduce_zero: true", "at_least: 128"), "for a set of two classes"),
    "a color lacking": (
        ("reduce_zero: true", 'colors: {0: "#000000", 2: "#ffffff"}'),
        "no color for the stored value 1",
    ),
    "a color for no value": (
        ("reduce_zero: true", 'colors: {0: "#000000", 1: "#00ff00", 2: "#ff0000", 3: "#0000ff"}'),
        "has the value 3",
    ),
    "a color twice": (
        ("reduce_zero: true", 'colors: {0: "#000000", 1: "#00FF00", 2: "#00ff00"}'),
        "gives the color #00ff00 twice",
    ),
    "a value twice": (("reduce_zero: true", 'colors: {0: "#000000", 0: "#00FF00"}'), "0 is given twice"),
    "a color that is none": (("reduce_zero: true", "colors: {0: black}"), "'black' in labels.colors is not a color"),
    "a color without quotes": (("reduce_zero: true", "colors:\n    0: #000000"), "with the quotes"),
    "no placeholder": (("train/rgb/{id}.png", "train/rgb/a.png"), "with {id} once"),
    "a placeholder for a folder": (("train/rgb/{id}.png", "train/{id}/a.png"), "with {id} once"),
    "no suffix": (("train/rgb/{id}.png", "train/rgb/{id}"), "a file name that has a suffix"),
    "an absolute path": (("train/rgb/{id}.png", "/train/rgb/{id}.png"), "a path below the set's folder"),
    "no labels": (("    labels: train/labels/{id}.png\n", ""), "splits.train needs `labels`"),
    "no image": (("    optical: train/rgb/{id}.png\n", ""), "splits.train needs `labels`, and `optical`"),
    "unknown split key": (("    count: 12", "    number: 12"), "unknown key splits.val.number"),
    "a place without quotes": (('"2_13"', "2_13"), "in quotes if numbers"),
    "a count that is none": (("count: 12", "count: many"), "a number of images, not 'many'"),
    "other classes of a split": (("classes: seen", "classes: some"), "`all`, or `seen`"),
    "scored on no split": (("evaluate: val", "evaluate: test"), "has no split 'test'; it has: train, val"),
    "unknown method": (("segearth-ov:", "segearth-0v:"), "unknown method 'segearth-0v'. Did you mean segearth-ov?"),
    "unknown setting": (("threshold: 0.2", "treshold: 0.2"), "methods.segearth-ov.treshold. Did you mean threshold?"),
    "a setting of another kind": (("threshold: 0.2", "attention: warm"), "cannot be 'warm'; expected vanilla or"),
    "a threshold beyond": (("threshold: 0.2", "threshold: 20"), "a threshold of 0 to 1"),
    "a background that is no class": (("background: 2", "background: 3"), "a background among the classes"),
    "a window without stride": ((", stride: null", ""), "window or stride as null"),
    "no checkpoint": (("{checkpoint: B16.zip/model.pth}", "{tile: 384}"), "names no checkpoint"),
    "a method's class that is none": (
        ("threshold: 0.2", "classes: {7: sea}"),
        "has 7, but the set's classes are 0 to 2",
    ),
    "a method's word twice": (("threshold: 0.2", "classes: {2: lake}"), "'lake' stands twice"),
    "broken YAML": (("title: A set", "title: [A"), "is not valid YAML"),
}


@pytest.mark.parametrize(("change", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_error_that_names_the_file(described, change, said):
    with pytest.raises(ConfigError) as caught:
        described(change)
    assert said in str(caught.value)
    assert "a-set.yaml" in str(caught.value)


def test_files_that_hold_no_description_are_refused(tmp_path):
    path = tmp_path / "a.yaml"
    with pytest.raises(ConfigError, match="No such file"):
        read_dataset(path)
    path.write_text("- a\n- b\n")
    with pytest.raises(ConfigError, match="the file should hold `key: value` lines, not a list"):
        read_dataset(path)
    path.write_bytes(b"title: \xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_dataset(path)


def test_methods_and_splits_that_a_set_does_not_have_are_refused(described):
    dataset = described()
    with pytest.raises(ConfigError, match="has no settings of 'segearth-ov2'; it has those of: segearth-ov"):
        dataset.settings("segearth-ov2")
    with pytest.raises(ConfigError, match="has no split 'test'"):
        dataset.split("test")
