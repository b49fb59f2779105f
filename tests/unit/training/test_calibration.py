"""How far the words of a trained network lean."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmovseg_geo.models.mmovseg.compact import SpeakingHead, build, mmovseg_compact, trained
from mmovseg_geo.models.mmovseg.network import MMOVSeg
from mmovseg_geo.models.mmovseg.text_tower import TextTower
from mmovseg_geo.models.weights import bundled_weights
from mmovseg_geo.training.calibration import (
    Answers,
    best_offsets,
    best_trust,
    claim,
    even_offsets,
    hear_as_on_maps,
    judge,
    lean,
    trust,
)
from mmovseg_geo.training.kinds import KINDS

WORDS = ("water", "trees", "bare ground")
STANDS_FOR = {
    "water": {"lake", "river", "sea", "flood water", "swimming pool", "mapped water"},
    "trees": {"broadleaf forest", "coniferous forest", "mapped trees"},
    "bare ground": {"bare soil", "desert", "beach", "rock", "quarry", "mapped bare ground"},
}
KINDS_OF = {word: np.array([kind in kinds for kind in KINDS]) for word, kinds in STANDS_FOR.items()}


def parts_of(network: MMOVSeg) -> tuple[SpeakingHead, TextTower]:
    assert isinstance(network.head, SpeakingHead)
    assert isinstance(network.text, TextTower)
    return network.head, network.text


def neutral() -> MMOVSeg:
    """The bundled network, whose words do not lean, and hear each kind for itself."""
    network = trained(bundled_weights()).eval()
    head, _ = parts_of(network)
    with torch.no_grad():
        head.leaning.zero_()
        head.claiming.zero_()
        head.heard.copy_(head.vectors)
    return network


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


@torch.no_grad()
def leaned(network: MMOVSeg, *words: str) -> list[float]:
    head, text = parts_of(network)
    found: list[float] = (head.nearest(text.embed(words)) @ head.leaning).tolist()
    return found


def test_words_lean_as_they_should_and_others_with_the_kinds_they_mean() -> None:
    network = neutral()
    offsets = lean(network, KINDS_OF, {"some": answers((-2.0, 0.0, 2.0))})
    np.testing.assert_allclose(leaned(network, *WORDS), offsets, atol=0.01)
    # Pictures show deserts seldom; on maps the word says bare ground, and lakes are water.
    desert, lake, bicycle = leaned(network, "desert", "lake", "bicycle")
    assert desert == pytest.approx(offsets[2], rel=0.1)
    assert lake == pytest.approx(offsets[0], rel=0.1)
    assert abs(bicycle) < 0.2 * abs(offsets).max()


@torch.no_grad()
def test_what_a_word_of_the_map_stands_for_is_heard_as_that_word() -> None:
    network = neutral()
    head, text = parts_of(network)

    def likeness(word: str, other: str) -> float:
        mine, theirs = head.hear(text.embed((word, other)))
        return float(mine @ theirs)

    before = {pair: likeness(*pair) for pair in (("desert", "bare ground"), ("ship", "water"))}
    hear_as_on_maps(network, KINDS_OF)
    assert likeness("desert", "bare ground") > before["desert", "bare ground"] + 0.1
    assert likeness("ship", "water") == pytest.approx(before["ship", "water"], abs=0.05)
    untouched = ~torch.from_numpy(np.any(list(KINDS_OF.values()), axis=0))
    assert torch.equal(head.heard[untouched], head.vectors[untouched])


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
        network.head.leaning += torch.randn(len(KINDS))
        after = network(image, None, text)
        moved = (network.head.nearest(text) @ network.head.leaning).reshape(1, 2, 1, 1)
    torch.testing.assert_close(after, before + moved)


def test_words_lean_where_only_the_optical_image_shows_something_and_claim_everywhere() -> None:
    torch.manual_seed(0)
    network = build(mmovseg_compact()).eval()
    head, _ = parts_of(network)
    text = torch.nn.functional.normalize(torch.randn(2, 128), dim=-1)
    optical, sar = torch.randn(1, 5, 32, 32), torch.randn(1, 4, 32, 32)
    left, right = torch.ones(2, 1, 32, 32)
    left[..., 16:], right[..., :16] = 0, 0

    def logits() -> list[torch.Tensor]:
        """Both sensors, one half each; both everywhere; radar alone."""
        return [network(optical, sar, text, left, right), network(optical, sar, text), network(None, sar, text)]

    with torch.inference_mode():
        halves, both, radar = logits()
        head.leaning += torch.randn(len(KINDS))
        moved = (head.nearest(text) @ head.leaning)[..., None, None]
        leaning = logits()[0] - halves
        torch.testing.assert_close(leaning[..., :8], moved.expand_as(leaning[0, ..., :8])[None], atol=1e-4, rtol=0)
        assert leaning[..., 8:].abs().max() < 1e-4
        torch.testing.assert_close(logits()[1:], [both, radar])
        head.claiming += torch.randn(len(KINDS))
        claimed = (head.nearest(text) @ head.claiming)[..., None, None]
        head.lean_for(background=True)
        torch.testing.assert_close(logits()[1:], [both + claimed, radar + claimed])
        head.lean_for(background=False)
        torch.testing.assert_close(logits()[1:], [both, radar])


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
    (found,) = even_offsets({"some": Answers(logits[:, None], truth[:, None])}, 1)
    assert found == pytest.approx(0.75, abs=0.4)


def test_of_claims_that_serve_alike_the_least_is_made() -> None:
    truth = np.array([1, 0] * 50, np.int8)
    for true, false, least in ((-1.0, -6.0, 1.125), (4.0, -4.0, 0.0), (6.0, 2.0, -2.0)):
        logits = np.where(truth, true, false).astype(np.float32)
        assert even_offsets({"some": Answers(logits[:, None], truth[:, None])}, 1)[0] == least


def test_a_word_of_a_few_places_claims_no_further() -> None:
    found = answers((0.0, 3.0, 0.0))
    found.truth[:, 1] = 0
    found.truth[:30, 1] = 1
    assert even_offsets({"some": found}, 3)[1] == 0


@torch.no_grad()
def test_words_claim_what_they_lean_too_little() -> None:
    network = neutral()
    head, text = parts_of(network)
    found = {"some": answers((3.0, 1.0, -1.0))}
    further = claim(network, KINDS_OF, found)
    np.testing.assert_allclose(further, even_offsets(found, 3))
    assert list(np.argsort(further)) == [2, 1, 0]
    claimed = (head.nearest(text.embed(WORDS)) @ head.claiming).numpy()
    np.testing.assert_allclose(claimed, further, atol=0.01)
