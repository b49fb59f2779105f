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
from mmovseg_geo.training.concepts import FALSE, TRUE, UNASKED, Concept, Concepts

SMALLEST_SHARE = 0.004
"""A concept with fewer of a chip's pixels is not sought out; it can still be asked by chance."""
GRID = 4
"""Pixels between the cells of the cost grid, where cosines are judged."""
FINE = 2
"""Pixels between the logits."""
RAREST = 6.0
NUM_ABSURD = 6
"""Absurd words among all that the cosines are asked for."""


@dataclass(frozen=True, eq=False)
class Questions:
    """Text vectors (B, T, C), truth (B, T, H, W): 1 true, 0 false, -1 not asked, and what each word counts (T)."""

    text: Tensor
    truth: Tensor
    weight: Tensor | None = None

    def every(self, pixels: int) -> Questions:
        """The same with the truth at every so many pixels."""
        at = slice(pixels // 2, None, pixels)
        return Questions(self.text, self.truth[..., at, at], self.weight)


class Asker:
    """Draws questions: the concepts of a map, some that are there, some that are not, and absurd words."""

    def __init__(
        self, concepts: Concepts, vectors: dict[str, Tensor], *, count: int, text_noise: float, joined: float = 0.0
    ) -> None:
        self.concepts = concepts
        self.vectors = vectors
        self.count = count
        self.text_noise = text_noise
        self.joined = joined
        self.weights = np.array([concept.weight for concept in concepts.concepts])
        self.on_map = [k for k, concept in enumerate(concepts.concepts) if concept.on_map]
        table = np.full((256, len(concepts.concepts)), UNASKED, np.int8)
        table[: len(concepts.truth)] = concepts.truth
        self.table = table
        self.is_absurd_column = len(concepts.concepts)

    def ask(self, labels_BHW: NDArray[np.uint8], rng: np.random.Generator) -> Questions:
        """Questions on chips with these labels."""
        asked = [self._one(labels, rng) for labels in labels_BHW]
        text = torch.stack([vectors for vectors, _ in asked])
        return Questions(self._blurred(text, rng), torch.from_numpy(np.stack([truth for _, truth in asked])))

    def everything(self, labels_BHW: NDArray[np.uint8], rng: np.random.Generator, *, every: int = GRID) -> Questions:
        """Every concept, and some absurd words, asked of all chips, with the truth at every so many pixels."""
        absurd = rng.choice(self.concepts.absurd, NUM_ABSURD)
        vectors = [self._said(concept, rng) for concept in self.concepts.concepts]
        text = self._blurred(torch.stack(vectors + [self.vectors[str(word)] for word in absurd]), rng)
        table = np.full((256, len(text)), FALSE, np.int8)
        table[:, : len(vectors)] = self.table
        table[UNKNOWN] = UNASKED
        truth = np.moveaxis(table[labels_BHW[:, every // 2 :: every, every // 2 :: every]], -1, 1)
        weight = torch.tensor([*self.weights, *[0.0] * NUM_ABSURD], dtype=torch.float32)
        return Questions(text.expand(len(labels_BHW), -1, -1), torch.from_numpy(np.ascontiguousarray(truth)), weight)

    def _blurred(self, text: Tensor, rng: np.random.Generator) -> Tensor:
        noise = torch.from_numpy(rng.standard_normal(text.shape).astype(np.float32))
        return F.normalize(text + self.text_noise * noise, dim=-1)

    def _said(self, concept: Concept, rng: np.random.Generator) -> Tensor:
        """One of the concept's words or, as users' synonyms are joined, the mean of several."""
        if rng.random() >= self.joined or len(concept.words) < 3:
            return self.vectors[str(rng.choice(concept.words))]
        chosen = rng.choice(concept.words, min(int(rng.integers(2, 5)), len(concept.words)), replace=False)
        return F.normalize(torch.stack([self.vectors[str(word)] for word in chosen]).mean(0), dim=-1)

    def _one(self, labels_HW: NDArray[np.uint8], rng: np.random.Generator) -> tuple[Tensor, NDArray[np.int8]]:
        counts = np.bincount(labels_HW.ravel(), minlength=256)[:, None]
        true_K = (counts * (self.table == TRUE)).sum(0) / labels_HW.size
        false_K = (counts * (self.table == FALSE)).sum(0) / labels_HW.size
        is_free = np.ones(len(true_K), bool)
        is_free[self.on_map] = False
        present = self._drawn(np.flatnonzero(is_free & (true_K > SMALLEST_SHARE)), (self.count + 1) // 2, rng)
        num_absurd = int(rng.random() < 0.7)
        others = np.flatnonzero(is_free & (false_K > 0.2) & (true_K <= SMALLEST_SHARE))
        absent = self._drawn(others, self.count - len(present) - num_absurd, rng)
        numbers = [*self.on_map, *present, *absent]
        missing = self.count + len(self.on_map) - len(numbers)
        vectors = [self._said(self.concepts.concepts[k], rng) for k in numbers]
        vectors += [self.vectors[str(word)] for word in rng.choice(self.concepts.absurd, missing)]
        columns = np.full((256, len(vectors)), FALSE, np.int8)
        columns[:, : len(numbers)] = self.table[:, numbers]
        columns[UNKNOWN] = UNASKED
        return torch.stack(vectors), columns.T[:, labels_HW]

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


def ranking_loss(logits_BTHW: Tensor, questions: Questions) -> Tensor:
    """How far words that are true of a cell stay behind those that are false: log(1 + sum exp(false - true)).

    Words that are true together do not compete. Rare words count more, up to `RAREST`, and each as much as the
    questions say. Logits of a coarser grid than the truth are stretched to it.
    """
    truth = questions.truth
    logits_BTHW = _stretched(logits_BTHW, truth.shape[-1])
    rivals = logits_BTHW.masked_fill(truth != FALSE, -1e4).logsumexp(1, keepdim=True)
    is_true = (truth == TRUE).float()
    weight = is_true * is_true.mean((0, 2, 3), keepdim=True).clamp(min=RAREST**-2).rsqrt()
    if questions.weight is not None:
        weight = weight * questions.weight[:, None, None]
    return (F.softplus(rivals - logits_BTHW) * weight).sum() / weight.sum().clamp(min=1)


def cover_loss(logits_BVHW: Tensor, labels_BHW: Tensor, possible_LV: Tensor, *, every: int = GRID) -> Tensor:
    """Cross-entropy of land covers where a label says which ones a pixel may be: -log of the sum of their shares.

    Rare labels count more, up to `RAREST`, simulated ones and those of real maps each by themselves, so that neither
    outweighs the other. Labels are taken at every so many pixels; logits of a coarser grid are stretched to them.
    """
    labels = labels_BHW[:, every // 2 :: every, every // 2 :: every]
    logits_BVHW = _stretched(logits_BVHW, labels.shape[-1])
    known_BHW = labels != UNKNOWN
    labels_N = labels[known_BHW]
    shares_NV = logits_BVHW.movedim(1, -1)[known_BHW].log_softmax(-1)
    entropy_N = -shares_NV.masked_fill(~possible_LV[labels_N], -1e4).logsumexp(-1)
    weight_N = torch.zeros_like(entropy_N)
    for of_kind in (labels_N < possible_LV.shape[1], labels_N >= possible_LV.shape[1]):
        if of_kind.any():
            share_L = torch.bincount(labels_N[of_kind], minlength=len(possible_LV)) / of_kind.sum()
            weight = share_L.clamp(min=RAREST**-2).rsqrt()[labels_N[of_kind]]
            weight_N[of_kind] = weight / weight.mean()
    return (entropy_N * weight_N).sum() / weight_N.sum().clamp(min=1)


def _stretched(logits: Tensor, side: int) -> Tensor:
    if logits.shape[-1] == side:
        return logits
    return F.interpolate(logits, size=(side, side), mode="bilinear", align_corners=False)


def _contrast(share_BTHW: Tensor) -> Tensor:
    """How far a cell and its neighbors differ, 0..1."""
    most = F.max_pool2d(share_BTHW, 3, stride=1, padding=1)
    least = -F.max_pool2d(-share_BTHW, 3, stride=1, padding=1)
    return most - least
