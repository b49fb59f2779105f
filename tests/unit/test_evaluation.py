"""The confusion matrix and what it says, and a segmenter scored on images of a folder."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mmovseg_geo.datasets import open_dataset
from mmovseg_geo.errors import ConfigError, SceneError
from mmovseg_geo.evaluation import Confusion, evaluate
from mmovseg_geo.models import load_segmenter


def confusion(labels, found, names=("a", "b", "c")) -> Confusion:
    counted = Confusion(names)
    counted.add(np.array(labels, np.uint8), np.array(found, np.uint8))
    return counted


def test_iou_is_intersection_over_union_of_each_class():
    scores = confusion([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 2, 2]).scores()
    assert scores.iou == pytest.approx({"a": 2 / 3, "b": 1 / 3, "c": 1 / 2})
    assert scores.miou == pytest.approx((2 / 3 + 1 / 3 + 1 / 2) / 3)
    assert scores.accuracy == pytest.approx(4 / 6)
    assert scores.mean_accuracy == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)


def test_pixels_that_are_not_scored_count_nowhere():
    scores = confusion([0, 1, 255, 255], [0, 1, 0, 2]).scores()
    assert scores.iou == {"a": 1, "b": 1, "c": None}
    assert scores.pixels == 2


def test_a_pixel_without_data_in_the_map_is_wrong():
    scores = confusion([0, 0, 1, 1], [0, 255, 1, 1]).scores()
    assert scores.iou == {"a": 0.5, "b": 1, "c": None}
    assert scores.accuracy == 0.75


def test_a_class_of_maps_alone_lowers_only_the_mean_over_all_that_occurs():
    scores = confusion([0, 0, 1, 1], [0, 0, 1, 2]).scores()
    assert scores.iou["c"] == 0
    assert scores.miou == pytest.approx((1 + 0.5 + 0) / 3)
    assert scores.miou_labelled == pytest.approx((1 + 0.5) / 2)


def test_a_set_of_two_classes_has_the_score_of_its_foreground():
    assert confusion([0, 1, 1, 1], [0, 1, 0, 0], ("background", "road")).scores().foreground == pytest.approx(1 / 3)
    assert confusion([0, 1, 1, 1], [0, 1, 0, 0], ("road", "background")).scores().foreground == pytest.approx(1 / 3)
    assert confusion([0, 1], [0, 1], ("road", "field")).scores().foreground is None
    assert confusion([0, 0], [0, 0], ("background", "road")).scores().foreground is None


def test_nothing_to_score_is_an_error():
    with pytest.raises(SceneError, match="No pixel was scored"):
        confusion([255], [0]).scores()


@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 2, 255]), st.sampled_from([0, 1, 2, 255])), min_size=2, max_size=60),
    st.integers(1, 59),
)
def test_images_one_by_one_count_as_much_as_all_at_once(pairs, cut):
    labels, found = np.array(pairs, np.uint8).T
    whole, parts = Confusion("abc"), Confusion("abc")
    whole.add(labels, found)
    parts.add(labels[:cut], found[:cut])
    parts.add(labels[cut:], found[cut:])
    assert np.array_equal(whole.counts, parts.counts)
    assert whole.counts.sum() == (labels != 255).sum()


@pytest.fixture
def images(tmp_path):
    """Two images of 40 x 24 pixels, dark above and bright below; the labels of the second are the other way round."""
    (tmp_path / "set.yaml").write_text(
        "title: A set\nclasses: {0: dark, 1: bright}\nevaluate: val\n"
        "splits:\n  val:\n    optical: rgb/{id}.png\n    labels: labels/{id}.png\n",
        encoding="utf-8",
    )
    truth = np.repeat([0, 1], [16, 24])[:, None] + np.zeros((40, 24))
    for name, label in (("1", truth), ("2", 1 - truth)):
        for folder, pixels in (("rgb", np.repeat(200 * truth[..., None], 3, axis=2) + 20), ("labels", label)):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / folder / f"{name}.png")
    return lambda: open_dataset(tmp_path / "set.yaml", tmp_path)


def test_maps_of_all_images_make_one_score(images):
    told = []
    scores = evaluate(images(), load_segmenter("threshold", images().vocabulary()), progress=lambda *n: told.append(n))
    assert scores.iou == pytest.approx({"dark": 16 / 56, "bright": 24 / 64})
    assert scores.accuracy == 0.5
    assert told == [(1, 2), (2, 2)]


def test_a_segmenter_for_other_classes_is_refused(images):
    with pytest.raises(ConfigError, match="made for 2 classes with the ids 1, 2; the labels of set are 0 to 1"):
        evaluate(images(), load_segmenter("threshold", "dark,bright"))


def test_labels_of_another_size_are_refused_by_file(images):
    path = images().images[1].labels
    Image.fromarray(np.zeros((24, 40), np.uint8)).save(path)
    with pytest.raises(SceneError, match=r"2\.png has 24 x 40 pixels, its image 2 40 x 24"):
        evaluate(images(), load_segmenter("threshold", images().vocabulary()))
