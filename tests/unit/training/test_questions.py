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
from mmovseg_geo.training.questions import NUM_ABSURD, Asker, Questions, cover_loss, ranking_loss

WORDS = ("water", "lake", "sea", "forest", "giraffe")
LAKE = next(number for number, cover in enumerate(LAND_COVERS) if cover.name == "lake")


def concepts_of(folder: Path, *concepts: dict[str, object]) -> Concepts:
    listed = {"held_out": [], "groups": {}, "labels": {}, "absurd": "giraffe", "concepts": list(concepts)}
    path = folder / "concepts.yaml"
    path.write_text(yaml.safe_dump(listed))
    return read_concepts(path)


@pytest.fixture
def concepts(tmp_path: Path) -> Concepts:
    return concepts_of(
        tmp_path,
        {"words": "water, lake, sea", "covers": ["lake", "sea"], "weight": 1},
        {"words": "forest", "covers": ["broadleaf forest"], "weight": 1},
    )


def directions() -> dict[str, Tensor]:
    return dict(zip(WORDS, torch.eye(len(WORDS)), strict=True))


def asked(concepts: Concepts, joined: float) -> Questions:
    asker = Asker(concepts, directions(), count=3, text_noise=0.0, joined=joined)
    return asker.ask(np.full((40, 8, 8), LAKE, np.uint8), np.random.default_rng(0))


def test_words_are_true_of_labels_that_mostly_mean_them(tmp_path: Path) -> None:
    wide = ["sea", "river", "flood water", "swimming pool"]
    listed = {
        "held_out": [],
        "groups": {},
        "labels": {"half": ["lake", "sea"], "one of five": ["lake", *wide], "more": ["lake", "broadleaf forest"]},
        "absurd": "giraffe",
        "concepts": [{"words": "lake", "covers": ["lake"], "maybe": wide, "weight": 1}],
    }
    path = tmp_path / "concepts.yaml"
    path.write_text(yaml.safe_dump(listed))
    found = read_concepts(path)
    asked = {name: found.truth[found.number(name), 0] for name in ("lake", "half", "one of five", "more", "tree")}
    assert asked == {"lake": 1, "half": 1, "one of five": -1, "more": -1, "tree": 0}


def test_words_that_are_not_joined_are_asked_one_by_one(concepts: Concepts) -> None:
    assert ((asked(concepts, joined=0.0).text > 0).sum(-1) == 1).all()


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
    questions = asker.everything(labels, np.random.default_rng(0), every=8)
    assert questions.text.shape == (1, 2 + NUM_ABSURD, len(WORDS))
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


def test_every_chip_is_asked_for_the_map(tmp_path: Path) -> None:
    concepts = concepts_of(
        tmp_path,
        {"words": "forest", "covers": ["broadleaf forest"], "weight": 1, "map": True},
        {"words": "lake", "covers": ["lake"], "weight": 1},
        {"words": "water, sea", "covers": ["lake", "sea"], "weight": 1, "map": True},
    )
    asker = Asker(concepts, directions(), count=1, text_noise=0.0)
    questions = asker.ask(np.full((20, 8, 8), LAKE, np.uint8), np.random.default_rng(0))
    assert questions.text.shape == (20, 3, len(WORDS))
    assert (questions.text[:, 0] == directions()["forest"]).all()
    assert (questions.truth[:, 0] == 0).all()
    assert (questions.truth[:, 1] == 1).all()
    assert {tuple(text.tolist()) for text in questions.text[:, 1]} == {
        tuple(directions()[word].tolist()) for word in ("water", "sea")
    }


def kinds_loss(logits: Tensor, labels: list[int], possible: list[list[int]]) -> float:
    """Of one row of pixels; `possible` says which of three kinds each label may be."""
    table = torch.zeros(len(possible), 3, dtype=torch.bool)
    for label, kinds in enumerate(possible):
        table[label, kinds] = True
    return cover_loss(logits.T[None, :, None], torch.tensor(labels)[None, None], table, every=1).item()


def test_a_label_that_may_be_several_kinds_is_met_by_any_of_them() -> None:
    sure = 20.0 * torch.eye(3)
    possible = [[0], [1], [2], [0, 1]]
    assert kinds_loss(sure, [3, 3, 2], possible) == pytest.approx(0, abs=1e-6)
    assert kinds_loss(sure, [3, 3, 3], possible) == pytest.approx((20 - np.log(2)) / 3, rel=1e-3)
    assert kinds_loss(torch.zeros(3, 3), [3, 3, 3], possible) == pytest.approx(np.log(3 / 2), rel=1e-4)


def test_rare_labels_count_more_and_unknown_ones_nothing() -> None:
    wrong = torch.zeros(17, 3)
    wrong[:16, 0], wrong[16, 0] = 20, 20
    possible = [[0], [1], [2]]
    once = kinds_loss(wrong, [0] * 16 + [1], possible)
    assert once == pytest.approx(20 * 4 / (16 + 4), rel=0.05)  # the root of 16 : 1
    assert kinds_loss(wrong, [0] * 16 + [255], possible) == pytest.approx(0, abs=1e-6)
