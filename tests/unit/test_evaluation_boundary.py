"""Boundary F1: its definition, the same by windows as at once, and a scene counted block by block."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from mmovseg_geo.evaluation import tally as tally_room
from mmovseg_geo.evaluation.boundary import Boundaries, edges
from mmovseg_geo.evaluation.tally import Tally, blocks, in_memory

NAMES = ("a", "b", "c")
IGNORE = 255
maps = arrays(np.uint8, (12, 9), elements=st.sampled_from([0, 1, 2, IGNORE]))
quick = settings(max_examples=40, deadline=None)


def halves(column, shape=(20, 40)):
    return (np.arange(shape[1]) >= column)[None].repeat(shape[0], axis=0).astype(np.uint8)


def f1(labels, found, tolerance_px=2.0):
    counted = Boundaries(NAMES, tolerance_px)
    counted.add(labels, found)
    return counted.f1()


def test_an_edge_has_a_pixel_of_each_class_on_its_sides():
    found = edges(halves(4, (2, 8)))
    assert found.tolist() == [[IGNORE, IGNORE, IGNORE, 0, 1, IGNORE, IGNORE, IGNORE]] * 2


def test_neither_the_image_nor_unscored_pixels_have_an_edge():
    labels = np.zeros((6, 6), np.uint8)
    labels[2:4] = IGNORE
    assert (edges(labels) == IGNORE).all()


@pytest.mark.parametrize(("moved", "score"), [(0, 1.0), (1, 1.0), (2, 1.0), (3, 0.0)])
def test_an_outline_is_found_within_the_tolerance(moved, score):
    by_class, mean = f1(halves(20), halves(20 + moved))
    assert by_class == {"a": score, "b": score, "c": None}
    assert mean == score


def test_without_tolerance_only_the_pixel_itself_counts():
    assert f1(halves(20), halves(20), 0)[1] == 1
    assert f1(halves(20), halves(21), 0)[1] == 0


def test_an_outline_too_many_costs_precision_alone():
    labels, found = halves(20), halves(20)
    found[:, 30:] = 0  # a second outline between 29 and 30
    by_class, _ = f1(labels, found)
    assert by_class["b"] == pytest.approx(2 * 0.5 * 1 / 1.5)


def test_a_class_without_outline_in_the_labels_is_not_in_the_mean():
    labels, found = halves(20), halves(20)
    found[5:8, 5:8] = 2
    by_class, mean = f1(labels, found)
    assert by_class["c"] == 0
    assert mean == pytest.approx((by_class["a"] + by_class["b"]) / 2)


def by_distance(labels, found, tolerance_px):
    """The definition written with distance transforms: F1 by class."""
    found = np.where(labels == IGNORE, IGNORE, found).astype(np.uint8)
    true, said = edges(labels), edges(found)
    scores = {}
    for index, name in enumerate(NAMES):
        shares = []
        for ours, theirs in ((said == index, true == index), (true == index, said == index)):
            close = ndimage.distance_transform_edt(~theirs) <= tolerance_px if theirs.any() else np.zeros_like(ours)
            shares.append((ours & close).sum() / ours.sum() if ours.any() else 0.0)
        some = (said == index).any() or (true == index).any()
        scores[name] = (2 * shares[0] * shares[1] / (sum(shares) or 1.0)) if some else None
    return scores


@quick
@given(maps, maps, st.sampled_from([0.0, 1.0, 1.5, 2.0, 3.2]))
def test_the_score_is_that_of_distance_transforms(labels, found, tolerance_px):
    assert f1(labels, found, tolerance_px)[0] == pytest.approx(by_distance(labels, found, tolerance_px))


@quick
@given(maps, maps, st.integers(1, 5), st.sampled_from([0.0, 1.0, 2.5]))
def test_blocks_count_as_much_as_the_whole(labels, found, rows, tolerance_px):
    whole = Tally(NAMES, tolerance_px).count(labels.shape, in_memory(labels), in_memory(found))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tally_room, "MOST_ROWS", rows)
        parts = Tally(NAMES, tolerance_px).count(labels.shape, in_memory(labels), in_memory(found))
    assert np.array_equal(parts.confusion.counts, whole.confusion.counts)
    assert np.array_equal(parts.boundaries.counts, whole.boundaries.counts)


def test_blocks_cover_a_scene_once_and_stay_small():
    for shape in ((1, 1), (1000, 30), (70, 100_000), (5, 10_000_000)):
        found = list(blocks(shape))
        assert sum(block.height for block in found) == shape[0]
        assert [block.row for block in found[1:]] == [block.row + block.height for block in found[:-1]]
        assert all(block.height == 1 or block.height * block.width <= 2**22 for block in found)


def test_every_block_is_told_in_order():
    labels = np.arange(3, dtype=np.uint8).repeat(400)[:, None].repeat(5, axis=1)
    told = []
    Tally(NAMES).count(
        labels.shape, in_memory(labels), in_memory(labels), seen=lambda row, true, said: told.append((row, true, said))
    )
    assert [row for row, _, _ in told] == [0, 512, 1024]
    assert np.array_equal(np.concatenate([true for _, true, _ in told]), labels)
