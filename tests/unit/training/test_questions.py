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
from mmovseg_geo.training.questions import Asker, Questions, ranking_loss

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


def test_every_concept_is_asked_at_every_eighth_pixel(concepts: Concepts) -> None:
    lake = next(number for number, cover in enumerate(LAND_COVERS) if cover.name == "lake")
    forest = next(number for number, cover in enumerate(LAND_COVERS) if cover.name == "broadleaf forest")
    labels = np.full((1, 32, 32), lake, np.uint8)
    labels[:, :, 16:] = forest
    labels[:, :8] = 255
    asker = Asker(concepts, directions(), count=3, text_noise=0.0)
    questions = asker.everything(labels, np.random.default_rng(0))
    assert questions.text.shape == (1, 2 + 4, len(WORDS))
    water, trees, *absurd = questions.truth[0].numpy()
    assert (water[1:] == [1, 1, 0, 0]).all()
    assert (trees[1:] == [0, 0, 1, 1]).all()
    assert (np.array(absurd)[:, 1:] == 0).all()
    assert (questions.truth[0, :, 0] == -1).all()


def ranked(*logits: float, truth: tuple[int, ...]) -> float:
    cells = (1, len(logits), 1, 1)
    asked = Questions(torch.zeros(1, len(logits), 4), torch.tensor(truth).reshape(cells))
    return ranking_loss(torch.tensor(logits).reshape(cells), asked).item()


def test_a_true_word_is_ranked_against_false_ones_only() -> None:
    assert ranked(1.0, 0.0, truth=(1, 0)) == pytest.approx(np.log(1 + np.exp(-1)))
    assert ranked(1.0, 0.0, 5.0, truth=(1, 0, -1)) == pytest.approx(np.log(1 + np.exp(-1)))
    assert ranked(1.0, 1.0, 0.0, truth=(1, 1, 0)) == pytest.approx(np.log(1 + np.exp(-1)))
    assert ranked(0.0, 0.0, 0.0, truth=(1, 0, 0)) == pytest.approx(np.log(3))


def test_nothing_false_costs_nothing() -> None:
    assert ranked(-3.0, truth=(1,)) == pytest.approx(0.0)
    assert ranked(-3.0, 2.0, truth=(-1, -1)) == pytest.approx(0.0)
