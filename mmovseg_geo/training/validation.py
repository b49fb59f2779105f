"""How good the network is, while it trains."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mmovseg_geo.models.mmovseg.network import MMOVSeg
from mmovseg_geo.training.augment import Augmentation, TrainingBatch, augmented
from mmovseg_geo.training.calibration import Answers, alone
from mmovseg_geo.training.chips import Chips
from mmovseg_geo.training.concepts import UNASKED, Concepts
from mmovseg_geo.training.cosine_head import forward
from mmovseg_geo.training.recipe import Recipe

PLAIN = {"clouds": 0.0, "optical_only": 0.0, "sar_only": 0.0, "gaps": 0.0, "stretched": 0.0, "single_band": 0.0}
UNDISTURBED = {"gain_spread": 0.0, "gamma_spread": 0.0}
SEED_OF_UNSEEN, SEED_OF_FAMILIAR = 999_000, 998_000
NUM_CHIPS = 64
SENSORS = {"simulated": {}, "simulated optical": {"optical_only": 1.0}, "simulated SAR": {"sar_only": 1.0}}
"""Groups of simulated chips, which are the same seen by both sensors or by one."""


@dataclass(frozen=True, eq=False)
class Validation:
    """Chips in groups, prepared once, and the words that they are asked for."""

    batches: dict[str, list[TrainingBatch]]
    concepts: Concepts
    words: tuple[str, ...] = ("water", "trees", "grass", "cropland", "built-up area", "bare ground")

    @classmethod
    def of(cls, recipe: Recipe, concepts: Concepts, *, simulated: int = NUM_CHIPS) -> Validation:
        """Chips left out of the real data, and simulated ones of other seeds."""
        groups = _simulated(recipe, SEED_OF_UNSEEN, simulated)
        for real in recipe.real:
            if real.dataset.left_out_clusters:
                left_out = real.make(recipe.data, concepts, recipe.simulated.size, left_out=True)
                groups[real.dataset.name] = _batches(left_out, _settings(recipe.simulated.size))
        return cls(groups, concepts)

    @classmethod
    def familiar(cls, recipe: Recipe, concepts: Concepts, folder: Path, *, simulated: int = NUM_CHIPS) -> Validation:
        """Chips from which nothing is kept secret: trained on, as `gather` left them in the folder, or simulated."""
        groups = _simulated(recipe, SEED_OF_FAMILIAR, simulated)
        for real in recipe.real:
            if real.dataset.left_out_clusters:
                chips = Chips.load(folder / f"{real.dataset.name}.npz")
                rows = np.linspace(0, len(chips) - 1, min(len(chips), NUM_CHIPS)).astype(np.int64)
                groups[real.dataset.name] = _batches(chips.chosen(rows), _settings(recipe.simulated.size))
        return cls(groups, concepts)

    def measure(self, network: MMOVSeg, head: nn.Module) -> dict[str, float]:
        """IoU at a score of one half, by group and word, and the mean; `head` may be one that gives cosines only."""
        found: dict[str, float] = {}
        for name, part in self.answers(network, head).items():
            iou = alone(part)
            found |= {f"{name} {word}": float(value) for word, value in zip(self.words, iou, strict=True)}
            found[f"{name} mean"] = float(iou.mean())
        return found

    @torch.inference_mode()
    def answers(self, network: MMOVSeg, head: nn.Module) -> dict[str, Answers]:
        """Logits and truth of each group, at the middle of every cell of the logits."""
        assert network.text is not None, "a compact network carries its text tower"
        text = network.text.embed(self.words)  # type: ignore[operator]
        numbers = [self._number(word) for word in self.words]
        table = np.full((256, len(numbers)), UNASKED, np.int8)
        table[: len(self.concepts.truth)] = self.concepts.truth[:, numbers]
        found: dict[str, Answers] = {}
        for name, batches in self.batches.items():
            logits, truth = [], []
            for batch in batches:
                answered, side = forward(network, head, batch, text)
                scores = side[-1] if answered is None else answered
                step = batch.labels.shape[-1] // scores.shape[-1]
                labels = batch.labels.numpy()[:, step // 2 :: step, step // 2 :: step]
                logits.append(scores.movedim(1, -1).reshape(-1, len(numbers)).float().numpy())
                truth.append(table[labels].reshape(-1, len(numbers)))
            found[name] = Answers(np.concatenate(logits), np.concatenate(truth))
        return found

    def _number(self, word: str) -> int:
        return next(k for k, concept in enumerate(self.concepts.concepts) if word in concept.words)


def _simulated(recipe: Recipe, seed: int, count: int) -> dict[str, list[TrainingBatch]]:
    chips = Chips.join(recipe.simulated.chip(seed + index) for index in range(count))
    return {name: _batches(chips, _settings(recipe.simulated.size, **sensors)) for name, sensors in SENSORS.items()}


def _settings(size: int, **sensors: float) -> Augmentation:
    return Augmentation(crop=size, **{**PLAIN, **UNDISTURBED, **sensors})


def _batches(chips: Chips, settings: Augmentation, size: int = 8) -> list[TrainingBatch]:
    rng = np.random.Generator(np.random.PCG64(5))
    rows = np.arange(len(chips))
    return [augmented(chips.chosen(rows[i : i + size]), settings, rng) for i in range(0, len(chips), size)]
