"""The scores that papers report, kept as data."""

from __future__ import annotations

import pytest

from mmovseg_geo.datasets import read_dataset
from mmovseg_geo.published import published
from tests.dataset_copies import SETS

SIX = ("pie-cloud", "ddhr-sk", "oem-thick", "oem-thin", "pie-clean", "ddhr-ch")


def value(dataset, method="mmovseg-vitb16", metric="mIoU", of=""):
    """The number of the method as published: variants of an ablation have a note."""
    found = [e for e in published(dataset, method) if (e.metric, e.of) == (metric, of) and "unified" not in e.note]
    assert len(found) == 1, found
    return found[0].value


def test_scores_of_mm_ovseg_on_its_six_sets():
    values = [value(name) for name in SIX]
    assert values == [57.7, 73.1, 36.6, 40.2, 59.7, 42.6]
    assert value("mean of the six") == pytest.approx(sum(values) / 6, abs=0.051)


def test_scores_by_class_average_to_that_of_the_set():
    dataset = read_dataset(SETS["ddhr-sk"])
    values = [value("ddhr-sk", metric="IoU", of=name) for name in dataset.vocabulary().names]
    assert sum(values) / len(values) == pytest.approx(value("ddhr-sk"), abs=0.051)


def test_the_ablation_ends_with_the_published_method():
    ablation = [entry for entry in published("ddhr-sk") if "ablation" in entry.source]
    assert [entry.value for entry in ablation] == [64.1, 67.7, 69.0, value("ddhr-sk")]


def test_roads_of_massachusetts_are_scored_on_the_foreground():
    assert value("massachusetts-road", "segearth-ov", "IoU", "road") == 11.5


def test_every_score_is_of_a_set_that_is_described_and_a_method_that_ran_on_it():
    assert published()
    for entry in published():
        assert 0 < entry.value <= 100
        assert entry.source
        if entry.dataset == "mean of the six":
            continue
        dataset = read_dataset(SETS[entry.dataset])
        assert entry.method in dataset.methods
        assert not entry.of or entry.of in dataset.vocabulary().names


def test_a_set_or_method_nobody_scored_has_no_scores():
    assert published("loveda") == ()
    assert published(method="threshold") == ()
