"""Real chips among the simulated ones: open data, cut to one size, with SAR invented where there is none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmovseg_geo.datasets import PairedChip, PairedDataset
from mmovseg_geo.simulate import LAND_COVERS, speckle
from mmovseg_geo.simulate.noise import fractal
from mmovseg_geo.training.chips import UNKNOWN, Chips, packed_db, packed_reflectance
from mmovseg_geo.training.concepts import Concepts

WATER_ABOVE, DRY_BELOW = 0.15, -0.05
"""Water index (MNDWI) that open water exceeds, and that land stays below; between them nothing is said."""


@dataclass(frozen=True)
class RealChips:
    """How a dataset becomes chips.

    Attributes:
        share: of the training batches.
        copies: chips made of every file, each mirrored or combined in another way.
        invent_sar: backscatter is drawn for the labels where there is no SAR.
    """

    dataset: PairedDataset
    share: float
    copies: int = 1
    invent_sar: bool = False

    def make(self, root: Path, concepts: Concepts, size: int, *, left_out: bool = False, seed: int = 7) -> Chips:
        """The chips of training, or those left out; small files are put together to one chip."""
        names = self.dataset.split(root)[1 if left_out else 0]
        rng = np.random.Generator(np.random.PCG64(seed))
        made: list[Chips] = []
        for _ in range(1 if left_out else self.copies):
            order = [names[i] for i in rng.permutation(len(names))]
            parts = [self._one(chip, concepts, rng) for chip in self.dataset.read(root, order)]
            made += _filled(parts, size)
        return Chips.join(made)

    def _one(self, chip: PairedChip, concepts: Concepts, rng: np.random.Generator) -> Chips:
        labels = self._labels(chip, concepts)
        sar, has_sar = chip.sar, chip.sar is not None
        if sar is None:
            sar = np.full((2, *labels.shape), -40, np.float32)
            if self.invent_sar:
                sar, has_sar = invented_sar(labels, concepts, rng), True
        optical = np.zeros((3, *labels.shape), np.float32) if chip.optical is None else chip.optical
        return Chips(
            packed_reflectance(optical)[None],
            packed_db(np.nan_to_num(sar, nan=-40.0))[None],
            labels[None],
            np.array([chip.gsd_m], np.float32),
            np.array([chip.optical is not None]),
            np.array([has_sar]),
            np.array([False]),
        )

    def _labels(self, chip: PairedChip, concepts: Concepts) -> NDArray[np.uint8]:
        assert chip.labels is not None, "chips of training have labels"
        table = np.full(256, UNKNOWN, np.uint8)
        for value, name in self.dataset.values.items():
            table[value] = concepts.number(name)
        labels = table[chip.labels]
        if chip.water_index is None:
            return labels
        # The map is a year's, the picture a day's: floods are not in the map.
        water, dry = concepts.number("worldcover 80"), concepts.number("dry")
        is_water, is_dry = chip.water_index > WATER_ABOVE, chip.water_index < DRY_BELOW
        labels = np.where(~is_dry & ~is_water, np.uint8(UNKNOWN), labels)
        labels = np.where(is_dry & (labels == water), np.uint8(dry), labels)
        return np.asarray(np.where(is_water, np.uint8(water), labels), np.uint8)


def invented_sar(labels: NDArray[np.uint8], concepts: Concepts, rng: np.random.Generator) -> NDArray[np.float32]:
    """Backscatter (2, H, W) in dB that the labels could have; each label is one of its land covers in a chip."""
    mean = np.full((2, *labels.shape), -13.0, np.float32)
    mean[1] = -20
    shift = rng.normal(0, 1)
    for label in np.unique(labels[labels != UNKNOWN]):
        cover = LAND_COVERS[int(rng.choice(np.flatnonzero(concepts.possible[label])))]
        drawn = rng.normal(0, cover.spread_db) + shift
        mean[:, labels == label] = np.array([[cover.vv_db], [cover.vh_db]]) + drawn
    mean += 0.8 * fractal(rng, labels.shape, 30.0, 1.3)
    power = speckle(np.power(10, mean / 10).astype(np.float32), float(rng.uniform(3, 12)), rng)
    noise = 10 ** (np.array([-24.0, -28.0]) / 10 + rng.normal(0, 0.15, 2))
    return np.asarray(10 * np.log10(power + noise[:, None, None]), np.float32)


def _filled(parts: list[Chips], size: int) -> list[Chips]:
    """Chips of `size`: several small ones side by side, a larger one mirrored at its border or cut."""
    height = parts[0].labels.shape[1]
    across = max(1, size // height)
    groups = [parts[start : start + across**2] for start in range(0, len(parts) - across**2 + 1, across**2)]
    return [_laid(group, across, size) for group in groups]


def _laid(group: list[Chips], across: int, size: int) -> Chips:
    def tiled(name: str) -> NDArray[np.uint8]:
        arrays = [getattr(chip, name)[0] for chip in group]
        rows = [np.concatenate(arrays[row * across : (row + 1) * across], axis=-1) for row in range(across)]
        whole = np.concatenate(rows, axis=-2)
        short = [max(0, size - length) for length in whole.shape[-2:]]
        pad = [(0, 0)] * (whole.ndim - 2) + [(0, missing) for missing in short]
        return np.pad(whole, pad, mode="symmetric")[None, ..., :size, :size]

    first = group[0]
    return Chips(
        tiled("optical"), tiled("sar"), tiled("labels"), first.gsd_m, first.has_optical, first.has_sar, first.has_clouds
    )
