"""How far the words of a trained network lean."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmovseg_geo.models.mmovseg.compact import SpeakingHead, build, mmovseg_compact
from mmovseg_geo.models.mmovseg.text_tower import TextTower
from mmovseg_geo.training.calibration import Answers, best_offsets, best_trust, claim, even_offsets, judge, lean, trust

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


def test_words_lean_where_the_optical_image_shows_something_and_claim_everywhere() -> None:
    torch.manual_seed(0)
    network = build(mmovseg_compact()).eval()
    head = network.head
    assert isinstance(head, SpeakingHead)
    text = torch.nn.functional.normalize(torch.randn(2, 128), dim=-1)
    optical, sar = torch.randn(1, 5, 32, 32), torch.randn(1, 4, 32, 32)
    half = torch.ones(1, 32, 32)
    half[..., 16:] = 0
    with torch.inference_mode():
        plain, alone = network(optical, sar, text, half), network(None, sar, text)
        head.leaning += torch.randn(128)
        moved = (head.hear(text) @ head.leaning)[..., None, None]
        torch.testing.assert_close(network(None, sar, text), alone)
        leaning = network(optical, sar, text, half) - plain
        torch.testing.assert_close(leaning[..., :8], moved.expand_as(leaning[0, ..., :8])[None], atol=1e-4, rtol=0)
        assert leaning[..., 8:].abs().max() < 1e-4
        head.claiming += torch.randn(128)
        claimed = (head.hear(text) @ head.claiming)[..., None, None]
        torch.testing.assert_close(network(None, sar, text), alone + claimed)
        head.lean_for(background=True)
        torch.testing.assert_close(network(None, sar, text), alone + claimed)
        head.lean_for(background=False)
        torch.testing.assert_close(network(None, sar, text), alone)


def test_scores_are_as_high_as_answers_are_right() -> None:
    torch.manual_seed(0)
    network = build(mmovseg_compact()).eval()
    assert isinstance(network.head, SpeakingHead)
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 3))
    right = rng.random(20_000) < 1 / (1 + np.exp(-logits.max(1)))
    winner = np.where(right, logits.argmax(1), (logits.argmax(1) + 1) % 3)
    truth = (winner[:, None] == np.arange(3)).astype(np.int8)
    text, image = network.text.embed(WORDS), torch.zeros(1, 5, 32, 32)  # type: ignore[operator,union-attr]
    network.head.leaning += 1
    found = {"some": Answers((4 * logits - 3).astype(np.float32), truth)}
    with torch.inference_mode():
        before = network(image, None, text)
        factor, shift = trust(network, found, np.zeros(3))
        after = network(image, None, text)
    assert factor == pytest.approx(0.25, rel=0.1)
    assert shift == pytest.approx(3, abs=0.3)
    torch.testing.assert_close(after, factor * (before + shift))
    again = {"some": Answers((factor * (found["some"].logits + shift)).astype(np.float32), truth)}
    assert best_trust(again, np.zeros(3)) == pytest.approx((1, 0), abs=0.01)


@given(st.floats(0.04, 0.9), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_how_common_a_word_is_does_not_change_how_far_it_claims(share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = (rng.random(40_000) < share).astype(np.int8)
    logits = rng.normal(np.where(truth, 1.0, -3.0), 1.0).astype(np.float32)
    (found,) = even_offsets({"some": Answers(logits[:, None], truth[:, None])}, np.zeros(1))
    assert found == pytest.approx(1.0, abs=0.5)


def test_a_word_of_a_few_places_claims_no_further() -> None:
    found = answers((0.0, 3.0, 0.0))
    found.truth[:, 1] = 0
    found.truth[:30, 1] = 1
    assert even_offsets({"some": found}, np.array([0.5, 0.25, 0.0]))[1] == 0.25


def test_words_claim_what_they_lean_too_little() -> None:
    torch.manual_seed(0)
    network = build(mmovseg_compact()).eval()
    assert isinstance(network.text, TextTower)
    assert isinstance(network.head, SpeakingHead)
    found = {"some": answers((3.0, 1.0, -1.0))}
    further = claim(network, WORDS, found, np.zeros(3), 0.5)
    np.testing.assert_allclose(further, 0.5 * even_offsets(found, np.zeros(3)))
    assert list(np.argsort(further)) == [2, 1, 0]
    claimed = (network.head.hear(network.text.embed(WORDS)) @ network.head.claiming).tolist()
    assert list(np.argsort(claimed)) == [2, 1, 0]
