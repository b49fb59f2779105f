"""What is asked of chips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from mmovseg_geo.simulate import LAND_COVERS
from mmovseg_geo.training.concepts import Concepts, read_concepts
from mmovseg_geo.training.questions import Asker, Questions

WORDS = ("water", "lake", "sea", "forest", "giraffe")


@pytest.fixture
def concepts(tmp_path: Path) -> Concepts:
    listed = {
        "held_out": [],
        "groups": {},
        "labels": {},
        "absurd": "giraffe",
        "concepts": [
            {"words": "water", "joined": "lake, sea", "covers": ["lake", "sea"], "weight": 1},
            {"words": "forest", "covers": ["broadleaf forest"], "weight": 1},
        ],
    }
    path = tmp_path / "concepts.yaml"
    path.write_text(yaml.safe_dump(listed))
    return read_concepts(path)


def directions() -> dict[str, Tensor]:
    return dict(zip(WORDS, torch.eye(len(WORDS)), strict=True))


def asked(concepts: Concepts, joined: float) -> Questions:
    lake = next(number for number, cover in enumerate(LAND_COVERS) if cover.name == "lake")
    asker = Asker(concepts, directions(), count=3, text_noise=0.0, joined=joined)
    return asker.ask(np.full((40, 8, 8), lake, np.uint8), np.random.default_rng(0))


def test_parts_of_a_concept_are_never_asked_alone(concepts: Concepts) -> None:
    parts = directions()["lake"] + directions()["sea"]
    assert not (asked(concepts, joined=0.0).text @ parts).any()


def test_joined_questions_are_unit_means_of_several_words(concepts: Concepts) -> None:
    questions = asked(concepts, joined=1.0)
    watery = questions.text[questions.truth[:, :, 0, 0] == 1]
    assert len(watery) == 40
    torch.testing.assert_close(watery.norm(dim=-1), torch.ones(40))
    assert ((watery > 0).sum(1) >= 2).all()
    assert not (watery[:, WORDS.index("forest")]).any()


def test_absurd_words_are_false_everywhere(concepts: Concepts) -> None:
    questions = asked(concepts, joined=0.5)
    absurd = questions.text[..., WORDS.index("giraffe")] > 0
    assert absurd.any()
    assert not questions.truth[absurd].any()
