"""Real chips among the simulated ones: open data, cut to one size, with SAR invented where there is none."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mmovseg_geo.datasets import PairedChip, PairedDataset
from mmovseg_geo.datasets.paired import WHOLE
from mmovseg_geo.rasters.source import Source, probe
from mmovseg_geo.simulate import LAND_COVERS, speckle
from mmovseg_geo.simulate.noise import fractal
from mmovseg_geo.training.chips import UNKNOWN, Chips, packed_db, packed_reflectance
from mmovseg_geo.training.concepts import DRY, WATER, Concepts

Part = Literal["training", "calibration", "left out"]
MOSTLY = 0.99
"""Share of a chip that must hold data."""
WATER_ABOVE, DRY_BELOW = 0.0, -0.3
"""Water index (MNDWI) that open water exceeds, and that land stays below; between them, where water stands among plants
or in parts of a pixel, nothing is said."""
BRIGHTEST_WATER = 0.2
"""Reflectance of green; what is brighter and exceeds the index is snow, salt or cloud as often as water."""
GREEN = 1


@dataclass(frozen=True)
class RealChips:
    """How a dataset becomes chips.

    Attributes:
        share: of the training batches.
        copies: chips made of every file, each with other invented backscatter.
        invent_sar: backscatter is drawn for the labels where there is no SAR.
        size: side of the chips, where it is not that of the simulated ones.
        calibration_clusters: place clusters of the manifest that say in the end how far scores can be trusted; they are
            not learned from either.
    """

    dataset: PairedDataset
    share: float
    copies: int = 1
    invent_sar: bool = False
    size: int = 0
    calibration_clusters: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        return self.dataset.name

    def make(self, root: Path, concepts: Concepts, size: int, *, part: Part = "training", seed: int = 7) -> Chips:
        """The chips of one part of the places; files that are smaller than a chip are put together."""
        size = self.size or size
        names = self.names(root, part)
        rng = np.random.Generator(np.random.PCG64(seed))
        made: list[Chips] = []
        for _ in range(self.copies if part == "training" else 1):
            order = [names[i] for i in rng.permutation(len(names))]
            parts = [self._one(chip, concepts, rng) for chip in self.dataset.read(root, order)]
            made += _filled(parts, size)
        return Chips.join(made)

    def names(self, root: Path, part: Part) -> list[str]:
        """The chips of training, of calibration, or those left out of both."""
        known, left_out = self.dataset.split(root)
        apart = replace(self.dataset, left_out_clusters=self.calibration_clusters).split(root)[1]
        if part == "training":
            return [name for name in known if name not in apart]
        return apart if part == "calibration" else left_out

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
        water, dry = concepts.number(WATER), concepts.number(DRY)
        assert chip.optical is not None, "the index is of an optical image"
        is_dry = chip.water_index < DRY_BELOW
        is_water = (chip.water_index > WATER_ABOVE) & (chip.optical[GREEN] < BRIGHTEST_WATER)
        labels = np.where(~is_dry & ~is_water, np.uint8(UNKNOWN), labels)
        labels = np.where(is_dry & (labels == water), np.uint8(dry), labels)
        return np.asarray(np.where(is_water, np.uint8(water), labels), np.uint8)


@dataclass(frozen=True)
class RadarWater:
    """Real radar images in which cross-polarization alone tells open water from land.

    Over water VH is little more than the sensor's noise, whatever the wind does to VV. Where smoothed VH has two modes
    far apart, what is well below the valley between them is labelled water and what is well above it dry; the rest is
    not asked for.

    Attributes:
        vv, vh: amplitude in digital numbers, 0 where there is no data.
        offset_db: subtracted from 20 log10 of the amplitude.
        water_below_db, dry_above_db: of VH, averaged in power over `smooth` x `smooth` pixels.
        gsd_m: what the network is told; amplitudes of water do not depend on it.
        looks: range of those that the chips get by further speckle: a decimated swath has hardly any left, and a
            network would learn that water is what is smooth.
        copies: chips made of every place, each with other speckle.
    """

    name: str
    share: float
    vv: str
    vh: str
    offset_db: float
    water_below_db: float
    dry_above_db: float
    gsd_m: float
    smooth: int = 5
    looks: tuple[float, float] = (2.5, 9.0)
    copies: int = 1

    def make(self, root: Path, concepts: Concepts, size: int, *, seed: int = 7) -> Chips:
        """Chips of `size` that overlap by half, without those that reach beyond the swath."""
        paths = (root / self.vv, root / self.vh)
        amplitude = np.stack([Source(probe(str(path)), (1,)).decimated(WHOLE)[0][0] for path in paths])
        is_data = np.all(amplitude > 0, axis=0)
        db = 20 * np.log10(np.maximum(amplitude, 1)) - np.float32(self.offset_db)
        level = 10 * np.log10(ndimage.uniform_filter(10 ** (db[1] / 10), self.smooth))
        labels = np.full(level.shape, UNKNOWN, np.uint8)
        labels[level < self.water_below_db] = concepts.number(WATER)
        labels[level > self.dry_above_db] = concepts.number(DRY)
        no, yes = np.zeros(1, bool), np.ones(1, bool)
        rng = np.random.Generator(np.random.PCG64(seed))
        made = []
        for row in range(0, level.shape[0] - size + 1, size // 2):
            for col in range(0, level.shape[1] - size + 1, size // 2):
                rows, cols = slice(row, row + size), slice(col, col + size)
                if is_data[rows, cols].mean() <= MOSTLY:
                    continue
                empty = np.zeros((1, 3, size, size), np.uint8)
                for _ in range(self.copies):
                    power = speckle(10 ** (db[:, rows, cols] / 10), float(rng.uniform(*self.looks)), rng)
                    sar = packed_db(np.asarray(10 * np.log10(np.maximum(power, 1e-5)), np.float32))[None]
                    gsd_m = np.array([self.gsd_m], np.float32)
                    made.append(Chips(empty, sar, labels[rows, cols][None], gsd_m, no, yes, no))
        return Chips.join(made)


def invented_sar(labels: NDArray[np.uint8], concepts: Concepts, rng: np.random.Generator) -> NDArray[np.float32]:
    """Backscatter (2, H, W) in dB that the labels could have; each label is one of its land covers in a chip."""
    mean = np.full((2, *labels.shape), -13.0, np.float32)
    mean[1] = -20
    shift = rng.normal(0, 1)
    for label in np.unique(labels[labels != UNKNOWN]):
        cover = LAND_COVERS[int(rng.choice(np.flatnonzero(concepts.possible[label, : len(LAND_COVERS)])))]
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
