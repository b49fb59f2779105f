"""How good the network is on places it has not seen, while it trains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from mmovseg_geo.models.mmovseg.network import MMOVSeg
from mmovseg_geo.training.augment import Augmentation, TrainingBatch, augmented
from mmovseg_geo.training.chips import Chips
from mmovseg_geo.training.concepts import FALSE, TRUE, UNASKED, Concepts
from mmovseg_geo.training.cosine_head import forward
from mmovseg_geo.training.recipe import Recipe

PLAIN = {"clouds": 0.0, "optical_only": 0.0, "sar_only": 0.0, "gaps": 0.0, "stretched": 0.0, "single_band": 0.0}
UNDISTURBED = {"gain_spread": 0.0, "gamma_spread": 0.0}
SEED_OF_SIMULATED = 999_000


@dataclass(frozen=True, eq=False)
class Validation:
    """Chips of places left out, prepared once, and the concepts they are asked for."""

    batches: dict[str, list[TrainingBatch]]
    concepts: Concepts
    words: tuple[str, ...] = ("water", "trees", "grass", "cropland", "built-up area", "bare ground")

    @classmethod
    def of(cls, recipe: Recipe, concepts: Concepts, *, simulated: int = 32) -> Validation:
        """Chips left out of the real data, and simulated ones of other seeds."""
        size = recipe.simulated.size
        settings = Augmentation(crop=size, **PLAIN, **UNDISTURBED)
        invented = [recipe.simulated.chip(SEED_OF_SIMULATED + index) for index in range(simulated)]
        groups = {"simulated": Chips.join(invented)} if invented else {}
        for real in recipe.real:
            if real.dataset.left_out_clusters:
                groups[real.dataset.name] = real.make(recipe.data, concepts, size, left_out=True)
        return cls({name: _batches(chips, settings) for name, chips in groups.items()}, concepts)

    @torch.inference_mode()
    def measure(self, network: MMOVSeg, head: nn.Module) -> dict[str, float]:
        """IoU at a score of one half for each word, by group; `head` may be one that gives cosines only."""
        assert network.text is not None, "a compact network carries its text tower"
        text = network.text.embed(self.words)  # type: ignore[operator]
        numbers = [self._number(word) for word in self.words]
        table = np.full((256, len(numbers)), UNASKED, np.int8)
        table[: len(self.concepts.truth)] = self.concepts.truth[:, numbers]
        found: dict[str, float] = {}
        for name, batches in self.batches.items():
            hits = np.zeros((3, len(numbers)))
            for batch in batches:
                logits, side = forward(network, head, batch, text)
                logits = side[-1] if logits is None else logits
                truth = torch.from_numpy(table.T[:, batch.labels.numpy()]).transpose(0, 1)
                hits += _hits(logits, truth)
            iou = hits[0] / np.maximum(hits.sum(0), 1)
            found |= {f"{name} {word}": float(value) for word, value in zip(self.words, iou, strict=True)}
        return found

    def _number(self, word: str) -> int:
        return next(k for k, concept in enumerate(self.concepts.concepts) if word in concept.words)


def _batches(chips: Chips, settings: Augmentation, size: int = 8) -> list[TrainingBatch]:
    rng = np.random.Generator(np.random.PCG64(5))
    rows = np.arange(len(chips))
    return [augmented(chips.chosen(rows[i : i + size]), settings, rng) for i in range(0, len(chips), size)]


def _hits(logits: torch.Tensor, truth: torch.Tensor) -> np.ndarray:
    """Pixels found, missed and wrongly found, for each class (3, T)."""
    scores = torch.sigmoid(logits)
    scores = torch.nn.functional.interpolate(scores, size=truth.shape[-2:], mode="bilinear")
    said = scores > 0.5
    is_true, is_false = truth == TRUE, truth == FALSE
    sums = [(said & is_true), (~said & is_true), (said & is_false)]
    return np.stack([part.sum((0, 2, 3)).numpy() for part in sums]).astype(float)
