"""Scores against scikit-learn, the laws they keep, and intervals of a bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mmovseg_geo.evaluation import Confusion, Groups
from mmovseg_geo.evaluation.bootstrap import intervals
from mmovseg_geo.evaluation.calibration import Reliability
from mmovseg_geo.evaluation.confusion import measures
from mmovseg_geo.evaluation.tally import Tally, in_memory, total

NAMES = ("water", "forest", "city", "road")
IGNORE = 255
maps = arrays(np.uint8, (9, 7), elements=st.sampled_from([0, 1, 2, 3, IGNORE]))
quick = settings(max_examples=40, deadline=None)


def drawn(seed=0, shape=(60, 50), wrong=0.3):
    """Labels with pixels that are not scored, and a map that is wrong in some and without data in others."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, shape).astype(np.uint8)
    found = np.where(rng.random(shape) < wrong, rng.integers(0, 4, shape), labels).astype(np.uint8)
    labels[rng.random(shape) < 0.1] = IGNORE
    found[rng.random(shape) < 0.05] = IGNORE
    return labels, found


def tally(labels, found, confidence=None, tolerance_px=2.0):
    read = None if confidence is None else in_memory(confidence)
    return Tally(NAMES, tolerance_px).count(labels.shape, in_memory(labels), in_memory(found), read)


def test_scores_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    labels, found = drawn()
    scores = tally(labels, found).scores()
    true, said = labels[labels != IGNORE], found[labels != IGNORE]
    classes = range(len(NAMES))
    precision, recall, f1, support = metrics.precision_recall_fscore_support(true, said, labels=classes)
    iou = metrics.jaccard_score(true, said, labels=classes, average=None)
    for index, name in enumerate(NAMES):
        assert scores.iou[name] == pytest.approx(iou[index])
        assert scores.precision[name] == pytest.approx(precision[index])
        assert scores.recall[name] == pytest.approx(recall[index])
        assert scores.f1[name] == pytest.approx(f1[index])
    assert scores.miou == pytest.approx(iou.mean())
    assert scores.weighted_iou == pytest.approx((support * iou).sum() / support.sum())
    assert scores.accuracy == pytest.approx(metrics.accuracy_score(true, said))
    assert scores.mean_accuracy == pytest.approx(recall.mean())


def test_scores_of_sparse_classes_are_those_of_scikit_learn():
    """A class that is labelled but never mapped, one that is mapped but not labelled, one in neither."""
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    true, said = np.array([[0, 0, 1, 1]], np.uint8), np.array([[0, 2, 0, 2]], np.uint8)
    scores = tally(true, said).scores()
    iou = metrics.jaccard_score(true[0], said[0], labels=range(3), average=None)
    f1 = metrics.f1_score(true[0], said[0], labels=range(3), average=None)
    assert [scores.iou[name] for name in NAMES] == pytest.approx([*iou, None])
    assert [scores.f1[name] for name in NAMES] == pytest.approx([*f1, None])
    assert scores.precision["forest"] is None
    assert scores.recall["city"] is None


def test_seen_and_unseen_classes_have_means_and_a_harmonic_mean():
    labels, found = np.array([[0, 0, 1, 1, 2, 2]], np.uint8), np.array([[0, 0, 1, 0, 2, 3]], np.uint8)
    scores = tally(labels, found).scores(Groups(seen=("water", "forest"), unseen=("city", "road")))
    assert scores.seen == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert scores.unseen == pytest.approx(1 / 2)  # road is not in the labels
    assert scores.harmonic == pytest.approx(2 * scores.seen * scores.unseen / (scores.seen + scores.unseen))
    assert tally(labels, found).scores().harmonic is None


def test_nothing_right_anywhere_makes_a_harmonic_mean_of_zero():
    labels = np.array([[0, 1]], np.uint8)
    scores = tally(labels, labels[:, ::-1].copy()).scores(Groups(("water",), ("forest",)))
    assert (scores.seen, scores.unseen, scores.harmonic) == (0, 0, 0)


@quick
@given(maps)
def test_a_map_equal_to_the_labels_has_an_iou_of_one_everywhere(labels):
    scored = (labels != IGNORE).any()
    if scored:
        scores = tally(labels, labels).scores()
        assert {value for value in scores.iou.values() if value is not None} == {1.0}
        assert scores.miou == scores.miou_labelled == scores.accuracy == scores.weighted_iou == 1
        assert scores.mean_boundary_f1 in (None, 1.0)


@quick
@given(maps, maps)
def test_only_a_map_equal_to_the_labels_has_an_iou_of_one(labels, found):
    scored = labels != IGNORE
    if scored.any():
        perfect = tally(labels, found).scores().miou == 1
        said_nothing = (scored & (found == IGNORE)).any()
        assert perfect == (np.array_equal(labels[scored], found[scored]) and not said_nothing)


@quick
@given(maps, maps, st.permutations(range(4)))
def test_the_order_of_scenes_makes_no_difference(labels, found, order):
    if (labels != IGNORE).any():
        parts = [tally(labels[at : at + 3], found[at : at + 3]) for at in (0, 3, 6)] + [tally(found, labels)]
        one = total(parts, NAMES).scores()
        assert total([parts[at] for at in order], NAMES).scores() == one


@quick
@given(maps, maps, st.permutations(range(4)))
def test_renumbered_classes_keep_their_scores(labels, found, order):
    if (labels != IGNORE).any():
        table = np.append(np.array(order, np.uint8), np.full(252, IGNORE, np.uint8))
        scores, other = tally(labels, found).scores(), tally(table[labels], table[found]).scores()
        assert [scores.iou[NAMES[at]] for at in range(4)] == [other.iou[NAMES[to]] for to in order]
        assert [scores.boundary_f1[NAMES[at]] for at in range(4)] == [other.boundary_f1[NAMES[to]] for to in order]
        assert other.miou == pytest.approx(scores.miou)


@quick
@given(maps, maps)
def test_f1_follows_from_iou(labels, found):
    if (labels != IGNORE).any():
        scores = tally(labels, found).scores()
        for name in NAMES:
            if scores.iou[name] is not None:
                assert scores.f1[name] == pytest.approx(2 * scores.iou[name] / (1 + scores.iou[name]))


def test_class_indices_beyond_the_list_are_refused():
    with pytest.raises(ValueError, match="beyond the 4 classes"):
        Confusion(NAMES).add(np.array([[0]], np.uint8), np.array([[5]], np.uint8))


def counts_of(*seeds, wrong=0.3):
    return [tally(*drawn(seed, (20, 20), wrong)).confusion.counts for seed in seeds]


def test_intervals_hold_the_score_and_are_the_same_for_the_same_seed():
    counts = [*counts_of(*range(5), wrong=0.1), *counts_of(*range(5), wrong=0.8)]
    found, whole = intervals(counts, NAMES), measures(np.sum(counts, axis=0), NAMES)
    for key in ("miou", "accuracy", "weighted_iou"):
        low, high = found.single[key]
        assert low < whole[key] < high
    assert intervals(counts, NAMES) == found
    assert intervals(counts, NAMES, seed=1) != found
    assert set(found.by_class["iou"]) == set(NAMES)


def test_scenes_that_are_all_alike_leave_no_doubt():
    low, high = intervals(counts_of(1, 1, 1), NAMES).single["miou"]
    assert low == pytest.approx(high)


def test_an_interval_is_as_wide_as_the_normal_approximation_says():
    """Scenes of one class each, half of them right: accuracy is a mean of 40 draws of 0 or 1."""
    right, wrong = np.zeros((2, 4, 5), np.int64)
    right[0, 0] = wrong[0, 1] = 100
    low, high = intervals([right, wrong] * 20, NAMES, draws=4000).single["accuracy"]
    assert (low, high) == pytest.approx((0.5 - 1.96 * 0.5 / 40**0.5, 0.5 + 1.96 * 0.5 / 40**0.5), abs=0.03)


def test_a_single_scene_has_no_interval():
    assert not intervals(counts_of(1), NAMES)


def test_calibration_error_is_the_gap_between_confidence_and_right_pixels():
    labels = np.zeros((10, 10), np.uint8)
    found = labels.copy()
    found[:2] = 1  # 80 % right
    for confidence, gap in ((80, 0.0), (100, 0.2), (30, 0.5)):
        error = tally(labels, found, np.full((10, 10), confidence, np.uint8)).scores().calibration_error
        assert error == pytest.approx(gap)


def test_calibration_error_is_that_of_its_definition():
    labels, found = drawn(3)
    confidence = np.random.default_rng(4).integers(0, 101, labels.shape).astype(np.uint8)
    confidence[0] = 255
    counted = (labels != IGNORE) & (found != IGNORE) & (confidence != 255)
    told, right = confidence[counted] / 100, (labels == found)[counted]
    expected = 0.0
    for low in range(15):
        inside = (confidence[counted].astype(int) * 15 // 100 == low) | ((low == 14) & (told == 1))
        if inside.any():
            expected += abs(told[inside].mean() - right[inside].mean()) * inside.sum() / counted.sum()
    assert tally(labels, found, confidence).scores().calibration_error == pytest.approx(expected)


def test_without_confidence_there_is_no_calibration_error():
    assert tally(*drawn()).scores().calibration_error is None
    assert Reliability().error() is None
