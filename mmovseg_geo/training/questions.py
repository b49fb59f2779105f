"""What a training step asks of every chip: a few words, and where each is true.

Shape suffixes: B chips, T questions, C channels of the text, H rows, W columns, L labels, K concepts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mmovseg_geo.training.chips import UNKNOWN
from mmovseg_geo.training.concepts import FALSE, TRUE, UNASKED, Concepts

SMALLEST_SHARE = 0.004
"""A concept with fewer of a chip's pixels is not sought out; it can still be asked by chance."""


@dataclass(frozen=True, eq=False)
class Questions:
    """Text vectors (B, T, C) and truth (B, T, H, W): 1 true, 0 false, -1 not asked."""

    text: Tensor
    truth: Tensor


class Asker:
    """Draws questions: concepts that are there, concepts that are not, and absurd words."""

    def __init__(self, concepts: Concepts, vectors: dict[str, Tensor], *, count: int, text_noise: float) -> None:
        self.concepts = concepts
        self.vectors = vectors
        self.count = count
        self.text_noise = text_noise
        self.weights = np.array([concept.weight for concept in concepts.concepts])
        table = np.full((256, len(concepts.concepts)), UNASKED, np.int8)
        table[: len(concepts.truth)] = concepts.truth
        self.table = table
        self.is_absurd_column = len(concepts.concepts)

    def ask(self, labels_BHW: NDArray[np.uint8], rng: np.random.Generator) -> Questions:
        """Questions on chips with these labels."""
        asked = [self._one(labels, rng) for labels in labels_BHW]
        text = torch.stack([vectors for vectors, _ in asked])
        text = text + self.text_noise * torch.from_numpy(rng.standard_normal(text.shape).astype(np.float32))
        return Questions(F.normalize(text, dim=-1), torch.from_numpy(np.stack([truth for _, truth in asked])))

    def _one(self, labels_HW: NDArray[np.uint8], rng: np.random.Generator) -> tuple[Tensor, NDArray[np.int8]]:
        counts = np.bincount(labels_HW.ravel(), minlength=256)[:, None]
        true_K = (counts * (self.table == TRUE)).sum(0) / labels_HW.size
        false_K = (counts * (self.table == FALSE)).sum(0) / labels_HW.size
        present = self._drawn(np.flatnonzero(true_K > SMALLEST_SHARE), (self.count + 1) // 2, rng)
        num_absurd = int(rng.random() < 0.7)
        others = np.flatnonzero((false_K > 0.2) & (true_K <= SMALLEST_SHARE))
        absent = self._drawn(others, self.count - len(present) - num_absurd, rng)
        numbers = [*present, *absent]
        words = [str(rng.choice(self.concepts.concepts[k].words)) for k in numbers]
        words += [str(rng.choice(self.concepts.absurd)) for _ in range(self.count - len(words))]
        columns = np.full((256, self.count), FALSE, np.int8)
        columns[:, : len(numbers)] = self.table[:, numbers]
        columns[UNKNOWN] = UNASKED
        return torch.stack([self.vectors[word] for word in words]), columns.T[:, labels_HW]

    def _drawn(self, candidates: NDArray[np.int64], count: int, rng: np.random.Generator) -> list[int]:
        if len(candidates) == 0 or count < 1:
            return []
        weights = self.weights[candidates]
        count = min(count, len(candidates))
        return [int(k) for k in rng.choice(candidates, count, replace=False, p=weights / weights.sum())]


def answer_loss(logits_BTHW: Tensor, questions: Questions, *, dice: float, edges: float = 0.0) -> Tensor:
    """Cross-entropy at the grid of the logits against the share of true pixels of each cell, and soft Dice.

    Rare answers count more, up to threefold, and cells beside an edge by `edges` times as much again. Cells where most
    is not asked are left out.
    """
    cell = questions.truth.shape[-1] // logits_BTHW.shape[-1]
    known = F.avg_pool2d((questions.truth != UNASKED).float(), cell)
    share = F.avg_pool2d((questions.truth == TRUE).float(), cell) / known.clamp(min=1e-3)
    weight = (known > 0.5).float()
    if edges:
        weight = weight * (1 + edges * _contrast(share))
    total = weight.sum((2, 3), keepdim=True).clamp(min=1)
    positive = (share * weight).sum((2, 3), keepdim=True) / total
    boost = ((1 - positive) / positive.clamp(min=1e-3)).sqrt().clamp(1, 3)
    entropy = F.binary_cross_entropy_with_logits(logits_BTHW, share, reduction="none") * (1 + (boost - 1) * share)
    loss = (entropy * weight).sum() / weight.sum().clamp(min=1)
    score = torch.sigmoid(logits_BTHW) * weight
    overlap = (score * share).sum((2, 3))
    size = (score + share * weight).sum((2, 3))
    is_there = (positive[..., 0, 0] > SMALLEST_SHARE).float()
    missed = (1 - (2 * overlap + 1) / (size + 1)) * is_there
    return loss + dice * missed.sum() / is_there.sum().clamp(min=1)


def _contrast(share_BTHW: Tensor) -> Tensor:
    """How far a cell and its neighbors differ, 0..1."""
    most = F.max_pool2d(share_BTHW, 3, stride=1, padding=1)
    least = -F.max_pool2d(-share_BTHW, 3, stride=1, padding=1)
    return most - least
