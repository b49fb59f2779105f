"""Words brought together by what pictures show alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from mmovseg_geo.models.mmovseg.text_tower import TextParams, TextTower
from mmovseg_geo.training.concepts import Concepts, read_concepts
from mmovseg_geo.training.likeness import NEVER, SAME, SELDOM, UNKNOWN, turn_toward, wanted_cosines

PHRASES = ["harbor", "windmill", "snow", "bridge", "glacier", "canal"]


@pytest.fixture
def concepts(tmp_path: Path) -> Concepts:
    listed = {
        "held_out": ["pond"],
        "groups": {"WATER": ["lake", "sea"], "TREES": ["broadleaf forest", "coniferous forest"]},
        "labels": {},
        "absurd": "giraffe",
        "concepts": [
            {"words": "water, open water", "covers": ["WATER"], "weight": 1},
            {"words": "sea, ocean", "covers": ["sea"], "maybe": ["lake"], "weight": 1},
            {"words": "trees, forest", "covers": ["TREES"], "weight": 1},
            {"words": "grass, lawn", "covers": ["grassland"], "maybe": ["broadleaf forest"], "weight": 1},
        ],
    }
    path = tmp_path / "concepts.yaml"
    path.write_text(yaml.safe_dump(listed))
    return read_concepts(path)


def tower() -> TextTower:
    torch.manual_seed(3)
    return TextTower(TextParams(token_dim=16, width=16, layers=1, heads=2, embed_dim=24)).eval()


def test_words_want_what_their_concepts_say(concepts: Concepts) -> None:
    wanted = wanted_cosines(concepts)
    at = {word: number for number, word in enumerate(concepts.words)}

    def pair(first: str, second: str) -> float:
        return float(wanted[at[first], at[second]])

    assert pair("water", "open water") == SAME
    assert pair("water", "sea") == UNKNOWN  # every sea is water
    assert pair("water", "trees") == NEVER
    assert pair("trees", "grass") == SELDOM  # never true together, but grass is not asked under some trees
    assert pair("giraffe", "water") == NEVER
    assert (wanted == wanted.T).all()


def test_words_of_a_concept_agree_afterwards_and_others_do_not(concepts: Concepts) -> None:
    text = tower()
    before = (vectors := text.embed(concepts.words).detach()) @ vectors.T
    turn_toward(text, concepts, PHRASES)
    after = (vectors := text.embed(concepts.words).detach()) @ vectors.T
    wanted = torch.from_numpy(wanted_cosines(concepts))
    alike, apart = (wanted == SAME) & ~torch.eye(len(wanted), dtype=torch.bool), wanted == NEVER
    assert after[alike].mean() > before[alike].mean() + 0.1
    assert after[apart].clamp(min=0).mean() < before[apart].clamp(min=0).mean()
    torch.testing.assert_close(after.diagonal(), torch.ones(len(wanted)))


def test_the_same_concepts_turn_words_alike(concepts: Concepts) -> None:
    matrices = []
    for _ in range(2):
        text = tower()
        turn_toward(text, concepts, PHRASES)
        matrices.append(text.turned.weight.detach().numpy())
    np.testing.assert_array_equal(*matrices)


def test_only_the_turn_is_learned(concepts: Concepts) -> None:
    text = tower()
    before = {name: value.clone() for name, value in text.state_dict().items()}
    turn_toward(text, concepts, PHRASES)
    changed = [name for name, value in text.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == ["turned.weight"]
    assert not any(parameter.requires_grad for parameter in text.parameters())
