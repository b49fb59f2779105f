"""How far the words of a trained network lean."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmovseg_geo.models.mmovseg.compact import SpeakingHead, build, mmovseg_compact
from mmovseg_geo.models.mmovseg.text_tower import TextTower
from mmovseg_geo.training.calibration import Answers, best_offsets, judge, lean, trust

WORDS = ("water", "trees", "bare ground")


def answers(moved: tuple[float, ...], seed: int = 0, pixels: int = 3000) -> Answers:
    """Logits that tell three words apart well, but for one number that was taken from each word's."""
    rng = np.random.default_rng(seed)
    winner = rng.choice(3, pixels, p=[0.6, 0.3, 0.1])
    is_true = winner[:, None] == np.arange(3)
    logits = np.where(is_true, 2.0, -2.0) + 0.5 * rng.standard_normal((pixels, 3)) - np.array(moved)
    return Answers(logits.astype(np.float32), is_true.astype(np.int8))


@given(st.tuples(*[st.floats(-4, 4)] * 3))
@settings(max_examples=10, deadline=None)
def test_offsets_never_judge_worse_than_none(moved: tuple[float, ...]) -> None:
    found = {"some": answers(moved)}
    judged = judge(found)
    assert judged(best_offsets(found, 3)) >= judged(np.zeros(3))


def test_what_was_taken_from_a_word_is_given_back() -> None:
    found = {"some": answers((0.0, 3.0, -3.0))}
    assert judge(found)(best_offsets(found, 3)) > 0.97 > judge(found)(np.zeros(3)) + 0.1


def test_pixels_that_may_be_several_words_do_not_say_which_should_win() -> None:
    unsure = answers((0.0, 0.0, 0.0))
    unsure.truth[unsure.truth[:, 0] == 1, 1] = 1
    plain = judge({"some": unsure})
    assert plain(np.array([0.0, 9.0, 0.0])) < plain(np.zeros(3))


def test_a_word_that_is_not_asked_counts_nowhere() -> None:
    asked = answers((0.0, 0.0, 0.0))
    unasked = Answers(asked.logits, np.where(np.arange(3) == 2, -1, asked.truth).astype(np.int8))
    offsets = np.array([0.0, 0.0, 9.0])
    assert judge({"a": unasked})(offsets) == judge({"a": unasked})(np.zeros(3))


def test_words_lean_as_they_should_and_others_by_their_likeness() -> None:
    torch.manual_seed(0)
    network = build(mmovseg_compact()).eval()
    offsets = lean(network, WORDS, {"some": answers((-2.0, 0.0, 2.0))})
    assert isinstance(network.text, TextTower)
    assert isinstance(network.head, SpeakingHead)
    found = (network.head.hear(network.text.embed([*WORDS, "water"])) @ network.head.leaning).tolist()
    assert found[3] == found[0]
    # Vectors of an untrained tower are much alike, so words lean together; their order stays.
    assert list(np.argsort(found[:3])) == list(np.argsort(offsets))


@pytest.mark.parametrize("text_rank", [2, 3])
def test_logits_move_by_how_far_their_word_leans(text_rank: int) -> None:
    torch.manual_seed(0)
    network = build(mmovseg_compact()).eval()
    assert isinstance(network.head, SpeakingHead)
    text = torch.nn.functional.normalize(torch.randn(2, 128), dim=-1)
    if text_rank == 3:
        text = text.expand(1, -1, -1)
    image = torch.zeros(1, 5, 32, 32)
    with torch.inference_mode():
        before = network(image, None, text)
        network.head.leaning += torch.randn(128)
        after = network(image, None, text)
        moved = (network.head.hear(text) @ network.head.leaning).reshape(1, 2, 1, 1)
    torch.testing.assert_close(after, before + moved)


def test_scores_are_as_high_as_answers_are_right() -> None:
    torch.manual_seed(0)
    network = build(mmovseg_compact()).eval()
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 3))
    right = rng.random(20_000) < 1 / (1 + np.exp(-logits.max(1)))
    winner = np.where(right, logits.argmax(1), (logits.argmax(1) + 1) % 3)
    truth = (winner[:, None] == np.arange(3)).astype(np.int8)
    text, image = network.text.embed(WORDS), torch.zeros(1, 5, 32, 32)  # type: ignore[operator,union-attr]
    network.head.leaning += 1
    with torch.inference_mode():
        before = network(image, None, text)
        factor = trust(network, {"some": Answers((4 * logits).astype(np.float32), truth)}, np.zeros(3))
        after = network(image, None, text)
    assert factor == pytest.approx(0.25, rel=0.1)
    torch.testing.assert_close(after, factor * before)
