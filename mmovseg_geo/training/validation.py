"""How good the network is on places it has not seen, while it trains."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from mmovseg_geo.models.mmovseg.network import MMOVSeg
from mmovseg_geo.training.augment import Augmentation, TrainingBatch, augmented
from mmovseg_geo.training.chips import Chips
from mmovseg_geo.training.concepts import FALSE, TRUE, UNASKED, Concepts
from mmovseg_geo.training.cosine_head import CosineHead, SideHead, forward
from mmovseg_geo.training.recipe import Recipe

PLAIN = {"clouds": 0.0, "optical_only": 0.0, "sar_only": 0.0, "gaps": 0.0, "stretched": 0.0, "single_band": 0.0}
UNDISTURBED = {"gain_spread": 0.0, "gamma_spread": 0.0}
SEED_OF_SIMULATED = 999_000
SIMULATED = "simulated"


@dataclass(frozen=True, eq=False)
class Validation:
    """Chips of places left out, prepared once, and the concepts they are asked for."""

    batches: dict[str, list[TrainingBatch]]
    concepts: Concepts
    words: tuple[str, ...] = ("water", "trees", "grass", "cropland", "built-up area", "bare ground")

    @classmethod
    def of(cls, recipe: Recipe, concepts: Concepts, *, simulated: int = 96) -> Validation:
        """Chips left out of the real data, and simulated ones of other seeds."""
        size = recipe.simulated.size
        settings = Augmentation(crop=size, **PLAIN, **UNDISTURBED)
        invented = [recipe.simulated.chip(SEED_OF_SIMULATED + index) for index in range(simulated)]
        groups = {SIMULATED: Chips.join(invented)} if invented else {}
        for real in recipe.real:
            if real.dataset.left_out_clusters:
                groups[real.dataset.name] = real.make(recipe.data, concepts, size, left_out=True)
        return cls({name: _batches(chips, settings) for name, chips in groups.items()}, concepts)

    def measure(self, network: MMOVSeg, head: nn.Module) -> dict[str, float]:
        """IoU at a score of one half, by group and word, and the mean; `head` may be one that gives cosines only."""
        found: dict[str, float] = {}
        for name, (iou,) in self._iou(network, head, (0.0,)).items():
            found |= {f"{name} {word}": float(value) for word, value in zip(self.words, iou, strict=True)}
            found[f"{name} mean"] = float(iou.mean())
        return found

    def mean_iou(self, network: MMOVSeg, offsets: tuple[float, ...]) -> list[float]:
        """Mean IoU over words with each of the offsets added to the logits, on real places where there are any.

        Of simulated scenes the network is as sure as it was trained to be; of real ones it is less so.
        """
        head = SideHead(network.head, CosineHead())
        found = self._iou(network, head, offsets)
        judges = [iou.mean(1) for name, iou in found.items() if name != SIMULATED or len(found) == 1]
        return [float(value) for value in np.mean(judges, axis=0)]

    @torch.inference_mode()
    def _iou(self, network: MMOVSeg, head: nn.Module, offsets: tuple[float, ...]) -> dict[str, NDArray[np.float64]]:
        """IoU (offsets, words) of each group."""
        assert network.text is not None, "a compact network carries its text tower"
        text = network.text.embed(self.words)  # type: ignore[operator]
        numbers = [self._number(word) for word in self.words]
        table = np.full((256, len(numbers)), UNASKED, np.int8)
        table[: len(self.concepts.truth)] = self.concepts.truth[:, numbers]
        found: dict[str, NDArray[np.float64]] = {}
        for name, batches in self.batches.items():
            hits = np.zeros((len(offsets), 3, len(numbers)))
            for batch in batches:
                logits, side = forward(network, head, batch, text)
                logits = side[-1] if logits is None else logits
                truth = torch.from_numpy(table.T[:, batch.labels.numpy()]).transpose(0, 1)
                scores = F.interpolate(torch.sigmoid(logits), size=truth.shape[-2:], mode="bilinear")
                for row, offset in enumerate(offsets):
                    hits[row] += _hits(scores > 1 / (1 + math.exp(offset)), truth)
            found[name] = hits[:, 0] / np.maximum(hits.sum(1), 1)
        return found

    def _number(self, word: str) -> int:
        return next(k for k, concept in enumerate(self.concepts.concepts) if word in concept.words)


def _batches(chips: Chips, settings: Augmentation, size: int = 8) -> list[TrainingBatch]:
    rng = np.random.Generator(np.random.PCG64(5))
    rows = np.arange(len(chips))
    return [augmented(chips.chosen(rows[i : i + size]), settings, rng) for i in range(0, len(chips), size)]


def _hits(said: torch.Tensor, truth: torch.Tensor) -> NDArray[np.float64]:
    """Pixels found, missed and wrongly found, for each class (3, T)."""
    is_true, is_false = truth == TRUE, truth == FALSE
    sums = [(said & is_true), (~said & is_true), (said & is_false)]
    return np.stack([part.sum((0, 2, 3)).numpy() for part in sums]).astype(np.float64)
