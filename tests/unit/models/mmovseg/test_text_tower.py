"""The text tower takes any phrase."""

from __future__ import annotations

import pytest
import torch

from mmovseg_geo.models.mmovseg.text_tower import TextParams, TextTower, tokenize


@pytest.fixture(scope="module")
def tower() -> TextTower:
    torch.manual_seed(0)
    return TextTower(TextParams(token_dim=8, width=16, layers=1, heads=2, embed_dim=12)).eval()


@pytest.mark.parametrize(
    "phrase",
    ["water", "", "a very long phrase about " + "many " * 40 + "things", "лес и вода", "水域", "🌊", "!", "\x00"],
)
@torch.inference_mode()
def test_any_phrase_gives_a_unit_vector(tower: TextTower, phrase: str) -> None:
    vector = tower.embed([phrase])
    assert vector.shape == (1, 12)
    assert torch.isfinite(vector).all()
    assert vector.norm().item() == pytest.approx(1, abs=1e-5)


@torch.inference_mode()
def test_a_phrase_has_the_same_vector_in_any_company(tower: TextTower) -> None:
    alone = tower.embed(["river"])[0]
    among = tower.embed(["a much longer phrase that pads the others", "river"])[1]
    torch.testing.assert_close(alone, among, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_case_and_surrounding_space_do_not_matter(tower: TextTower) -> None:
    torch.testing.assert_close(tower.embed(["  Water "]), tower.embed(["water"]))


def test_phrases_longer_than_the_context_keep_their_end_token() -> None:
    ids = tokenize(["one two three four five six seven"], context=4)
    end = tokenize([""], context=4)[0, 0]
    assert ids.shape == (1, 4)
    assert ids[0, -1] == end
