"""How good the network is on chips it has not seen, while it trains."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mmovseg_geo.models.mmovseg.network import MMOVSeg
from mmovseg_geo.models.mmovseg.text_tower import TextTower
from mmovseg_geo.training.augment import Augmentation, TrainingBatch, augmented
from mmovseg_geo.training.calibration import Answers
from mmovseg_geo.training.chips import Chips
from mmovseg_geo.training.concepts import FALSE, TRUE, UNASKED, Concepts
from mmovseg_geo.training.cosine_head import forward
from mmovseg_geo.training.real import RealChips
from mmovseg_geo.training.recipe import Recipe

UNDISTURBED = Augmentation(
    clouds=0,
    optical_only=0,
    sar_only=0,
    gaps=0,
    stretched=0,
    single_band=0,
    speckled=0,
    gain_spread=0,
    tint_spread=0,
    gamma_spread=0,
    haze=0,
    noise=0,
    gsd_spread=0,
)
SLIGHTLY_DISTURBED = replace(UNDISTURBED, noise=Augmentation.noise, gsd_spread=Augmentation.gsd_spread)
SEED = 999_000
EVERY = 4
"""Pixels between those that calibration looks at."""
NUM_CHIPS = 24
DRAWS = 6
"""How often every chip of calibration is shown, each time a little disturbed; what they say once is chance."""
BATCH = 8
Shares = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Validation:
    """Chips in groups, prepared once, and the words that they are asked for."""

    batches: dict[str, list[TrainingBatch]]
    concepts: Concepts
    words: tuple[str, ...] = ("water", "trees", "grass", "cropland", "built-up area", "bare ground")

    @classmethod
    def of(cls, recipe: Recipe, concepts: Concepts, *, seed: int = SEED, simulated: int = NUM_CHIPS) -> Validation:
        """Chips of calibration, and simulated ones, seen by both sensors and by one: none of them was trained on, and
        none is of the places that are left out, by which a model is judged in the end."""
        groups = _simulated(recipe, seed, simulated)
        for real in recipe.real:
            if isinstance(real, RealChips) and real.calibration_clusters:
                chips = real.make(recipe.data, concepts, recipe.simulated.size, part="calibration")
                settings = replace(SLIGHTLY_DISTURBED, crop=chips.labels.shape[1], optical_only=1.0)
                groups[real.name] = _batches(chips.chosen(np.tile(np.arange(len(chips)), DRAWS)), settings)
        return cls(groups, concepts)

    @property
    def kinds(self) -> dict[str, NDArray[np.bool_]]:
        """The words, and the kinds of land cover (K,) that each stands for: all that it covers, but for those that a
        label of finer maps tells from the rest, as "building" is told from the rest of a built-up area."""
        count = self.concepts.possible.shape[1]  # the first labels are the kinds
        labels_LK, found = self.concepts.possible[count:], {}
        for word in self.words:
            covers_K = self.concepts.truth[:count, self._number(word)] == TRUE
            finer_L = (labels_LK <= covers_K).all(1) & (labels_LK < covers_K).any(1)
            found[word] = covers_K & ~labels_LK[finer_L].any(0)
        return found

    @torch.inference_mode()
    def answers(self, network: MMOVSeg, head: nn.Module) -> dict[str, Answers]:
        """Logits and truth of each group, at the middle of every `EVERY`-th pixel."""
        text, table = self._asked(network)
        found: dict[str, Answers] = {}
        for name, batches in self.batches.items():
            logits, truth = [], []
            for batch in batches:
                answered, side, _ = forward(network, head, batch, text)
                scores = side[-1] if answered is None else answered
                labels = batch.labels[:, EVERY // 2 :: EVERY, EVERY // 2 :: EVERY].numpy()
                size = labels.shape[-2:]
                shown = nn.functional.interpolate(scores.float(), size=size, mode="bilinear", align_corners=False)
                logits.append(shown.movedim(1, -1).reshape(-1, len(self.words)).numpy())
                truth.append(table[labels].reshape(-1, len(self.words)))
            found[name] = Answers(np.concatenate(logits), np.concatenate(truth))
        return found

    def _asked(self, network: MMOVSeg) -> tuple[torch.Tensor, NDArray[np.int8]]:
        """Vectors of the words, and what is true of each label (256, T)."""
        assert isinstance(network.text, TextTower), "a compact network carries its text tower"
        text: torch.Tensor = network.text.embed(self.words)
        numbers = [self._number(word) for word in self.words]
        table = np.full((256, len(numbers)), UNASKED, np.int8)
        table[: len(self.concepts.truth)] = self.concepts.truth[:, numbers]
        return text, table

    @torch.inference_mode()
    def measure(self, network: MMOVSeg, head: nn.Module) -> dict[str, float]:
        """For each group the mean IoU of words at a score of one half, and where the best of the words wins a pixel.

        Only words that occur count, and only pixels of which it is known whether a word is true; `head` may be one that
        gives cosines only.
        """
        text, table = self._asked(network)
        found: dict[str, float] = {}
        for name, batches in self.batches.items():
            alone, among = np.zeros((2, 3, len(self.words)))
            for batch in batches:
                logits, side, _ = forward(network, head, batch, text)
                logits = side[-1] if logits is None else logits
                size = batch.labels.shape[-2:]
                shown = nn.functional.interpolate(logits.float(), size=size, mode="bilinear", align_corners=False)
                truth = torch.from_numpy(table[batch.labels.numpy()]).movedim(-1, 1)
                is_best = torch.zeros_like(shown, dtype=torch.bool).scatter_(1, shown.argmax(1, keepdim=True), True)
                decided = ((truth == TRUE).sum(1, keepdim=True) == 1) & (truth != UNASKED).all(1, keepdim=True)
                alone += _hits(shown > 0, truth)
                among += _hits(is_best, torch.where(decided, truth, UNASKED))
            found |= {f"{name}: half": _mean_iou(alone), f"{name}: best": _mean_iou(among)}
            found |= {f"{name}: {word}": value for word, value in zip(self.words, _iou(among).tolist(), strict=True)}
        return found

    def _number(self, word: str) -> int:
        return next(k for k, concept in enumerate(self.concepts.concepts) if word in concept.words)


def _simulated(recipe: Recipe, seed: int, count: int) -> dict[str, list[TrainingBatch]]:
    """The same chips seen by both sensors and by one."""
    if not count:
        return {}
    invented = Chips.join(recipe.simulated.chip(seed + index) for index in range(count))
    sensors = {"both": (0.0, 0.0), "optical": (1.0, 0.0), "SAR": (0.0, 1.0)}
    return {
        f"simulated {name}": _batches(
            invented, replace(UNDISTURBED, crop=recipe.simulated.size, optical_only=optical, sar_only=sar)
        )
        for name, (optical, sar) in sensors.items()
    }


def _batches(chips: Chips, settings: Augmentation) -> list[TrainingBatch]:
    rng = np.random.Generator(np.random.PCG64(5))
    rows = np.arange(len(chips))
    return [augmented([chips.chosen(rows[i : i + BATCH])], settings, rng) for i in range(0, len(chips), BATCH)]


def _hits(said: torch.Tensor, truth: torch.Tensor) -> Shares:
    """Pixels found, missed and wrongly found, for each word (3, T)."""
    is_true, is_false = truth == TRUE, truth == FALSE
    sums = [(said & is_true), (~said & is_true), (said & is_false)]
    return np.stack([part.sum((0, 2, 3)).numpy() for part in sums]).astype(float)


def _iou(hits: Shares) -> Shares:
    return np.asarray(hits[0] / np.maximum(hits.sum(0), 1))


def _mean_iou(hits: Shares) -> float:
    occurs = hits[:2].sum(0) > 0
    return float(_iou(hits)[occurs].mean()) if occurs.any() else 0.0
