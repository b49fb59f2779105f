"""What the network sees in a step, and what it is scored on: crops read by window, so that scenes may be of any size.

Shape suffixes: B crops, C bands, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmovseg_geo.datasets.codes import IGNORE
from mmovseg_geo.grid import Window
from mmovseg_geo.models.mmovseg.compact import paired_bands
from mmovseg_geo.rasters.radiometry import BRIGHT_REFLECTANCE, CO_POLARIZED_DB, CROSS_POLARIZED_DB
from mmovseg_geo.simulate import add_clouds
from mmovseg_geo.tiles import Sensor
from mmovseg_geo.training.area.kept import ROOM, Crop, Kept, read
from mmovseg_geo.training.area.scenes import LabelledScene
from mmovseg_geo.training.area.settings import AreaConfig
from mmovseg_geo.training.area.split import Blocks, pixels_of
from mmovseg_geo.training.augment import Augmentation, optical_picture, sar_picture
from mmovseg_geo.training.loop_batches import Draw

CONTEXT = 64
"""Pixels of the network that are shown around a held-out block."""
MOST_JUDGED = 120
"""Held-out blocks that are scored; of more, so many are drawn."""
RADIOMETRY = Augmentation(stretched=0.15, single_band=0.0, gain_spread=0.12, gamma_spread=0.08)
"""Milder than in the training of the bundled weights: one area is seen by few sensors, in few kinds of light."""
GSD_SPREAD = 0.05
MOST_PIXELS = 256
"""Of a class in a block, that crops are laid around."""
OPAQUE = 0.6
"""Opacity of a cloud that hides what lies under it."""
Generator = np.random.Generator
Sample = dict[str, Any]


class TrainingCrops:
    """Crops around labelled pixels, in the network's own pixels, turned and disturbed at random.

    A class is drawn first, then a block in proportion to its pixels of the class, then one of these pixels, which lies
    somewhere in the crop. Labels of held-out blocks are taken out.

    Args:
        readers: processes that read; what is kept of the scenes is shared out among them.
    """

    def __init__(
        self, scenes: Sequence[LabelledScene], every: Sequence[Blocks], config: AreaConfig, *, readers: int = 1
    ) -> None:
        self.scenes, self.every, self.config = list(scenes), list(every), config
        self.kept = Kept(scenes, every, room=ROOM // max(1, readers))
        self._found: dict[int, dict[int, NDArray[np.int64]]] = {}
        self.sensors = frozenset[Sensor]().union(*(one.scene.sensors for one in scenes))
        self.places = [
            (number, row, col) for number, blocks in enumerate(every) for row, col in blocks.listed(held_out=False)
        ]
        self.counts_NK = np.stack([every[number].counts[row, col] for number, row, col in self.places])
        shares_K = pixels_of(every, held_out=False) / pixels_of(every, held_out=False).sum()
        drawn_K = np.where(shares_K > 0, shares_K ** (1 - config.balance), 0.0)
        self.class_shares = drawn_K / drawn_K.sum()

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, draw: Draw) -> Sample:
        rng = np.random.Generator(np.random.PCG64([self.config.seed, draw.number]))
        number, window = self.window(rng)
        one = self.scenes[number]
        crop = _turned(self.kept.crop(number, window), rng)
        shown = self._disturbed(crop, one.scene.gsd_m * one.reduction, rng)
        return {"id": f"{one.name} {window.row * one.reduction},{window.col * one.reduction}", **shown}

    def window(self, rng: Generator) -> tuple[int, Window]:
        """The scene and the network's pixels of one crop; inside the scene, where that is large enough."""
        wanted = int(rng.choice(len(self.class_shares), p=self.class_shares))
        shares_N = self.counts_NK[:, wanted] / self.counts_NK[:, wanted].sum()
        at = int(rng.choice(len(shares_N), p=shares_N))
        number, one = self.places[at][0], self.scenes[self.places[at][0]]
        pixels = self._pixels(at)[wanted]
        pixel = pixels[int(rng.integers(len(pixels)))] // one.reduction
        side = self.config.crop
        room = np.maximum(-(-np.array(one.shape) // one.reduction) - side, 0)
        top, left = (int(value) for value in np.clip(pixel - rng.integers(0, side, 2), 0, room))
        return number, Window(top, left, side, side)

    def _pixels(self, at: int) -> dict[int, NDArray[np.int64]]:
        """Rows and columns in the scene (N, 2) of pixels of each class of a block, of many so many drawn once."""
        if at not in self._found:
            number, row, col = self.places[at]
            block = self.every[number].window(row, col)
            labels = self.scenes[number].labels(block)
            rng = np.random.Generator(np.random.PCG64([self.config.seed, 13, at]))
            self._found[at] = {}
            for wanted in np.flatnonzero(self.counts_NK[at]).tolist():
                inside = np.flatnonzero(labels == wanted)
                drawn = inside if len(inside) <= MOST_PIXELS else rng.choice(inside, MOST_PIXELS, replace=False)
                rows, cols = np.unravel_index(drawn, labels.shape)
                self._found[at][wanted] = np.stack([rows + block.row, cols + block.col], axis=1)
        return self._found[at]

    def _disturbed(self, crop: Crop, gsd_m: float, rng: Generator) -> Sample:
        labels = crop.labels
        optical_valid, sar_valid = crop.optical_valid, crop.sar_valid
        side = labels.shape
        nothing = np.zeros(side, np.float32)
        has_both = optical_valid is not None and sar_valid is not None and optical_valid.any() and sar_valid.any()
        pick = rng.random() if has_both else 1.0
        loses_optical = pick < self.config.drop_optical
        loses_sar = not loses_optical and pick < self.config.drop_optical + self.config.drop_sar
        optical_valid = nothing if optical_valid is None or loses_optical else optical_valid
        sar_valid = nothing if sar_valid is None or loses_sar else sar_valid
        found: Sample = {"gsd_m": torch.tensor(gsd_m * float(np.exp(rng.normal(0, GSD_SPREAD))), dtype=torch.float32)}
        if "optical" in self.sensors:
            picture = np.zeros((3, *side), np.float32) if crop.optical is None else crop.optical
            reflectance = picture * np.float32(BRIGHT_REFLECTANCE / 255)
            if has_both and not loses_optical and rng.random() < self.config.clouds:
                cover, thick = float(rng.uniform(0.1, 0.8)), float(rng.beta(2, 1))
                reflectance, opacity = add_clouds(reflectance, rng, cover=cover, thick=thick, gsd_m=gsd_m)
                # Nobody can tell what lies under an opaque cloud where radar does not see it either.
                labels = np.where((opacity > OPAQUE) & (sar_valid < 0.5), np.uint8(IGNORE), labels)
            valid = torch.from_numpy(np.ascontiguousarray(optical_valid))
            shown = optical_picture(torch.from_numpy(np.ascontiguousarray(reflectance))[None], RADIOMETRY, rng)[0]
            found |= {"optical": shown * valid, "optical_valid": valid}
        if "sar" in self.sensors:
            shown = torch.zeros(2, *side) if crop.sar is None else _radar(crop.sar, rng)
            valid = torch.from_numpy(np.ascontiguousarray(sar_valid))
            found |= {"sar": shown * valid, "sar_valid": valid}
        seen = np.maximum(optical_valid, sar_valid) > 0.5
        found["labels"] = torch.from_numpy(np.where(seen, labels, np.uint8(IGNORE)).astype(np.int64))
        return found


class HeldOutBlocks:
    """Held-out blocks in scene pixels, as `segment` reads them, with some of what lies around them; `labels` are 255
    there."""

    def __init__(self, scenes: Sequence[LabelledScene], every: Sequence[Blocks], config: AreaConfig) -> None:
        self.scenes, self.every = list(scenes), list(every)
        places = [(number, *at) for number, blocks in enumerate(every) for at in blocks.listed(held_out=True)]
        rng = np.random.Generator(np.random.PCG64([config.seed, 12]))
        drawn = sorted(rng.permutation(len(places))[:MOST_JUDGED].tolist())
        self.places = [places[at] for at in drawn]
        self.left_out = len(places) - len(self.places)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, draw: Draw) -> Sample:
        number, row, col = self.places[draw.index]
        one, block = self.scenes[number], self.every[number].window(row, col)
        margin = CONTEXT * one.reduction
        top, left = max(block.row - margin, 0), max(block.col - margin, 0)
        bottom = min(block.row + block.height + margin, one.shape[0])
        right = min(block.col + block.width + margin, one.shape[1])
        window = Window(top, left, bottom - top, right - left)
        labels = np.full(window.shape, IGNORE, np.uint8)
        inner = Window(block.row - top, block.col - left, block.height, block.width)
        labels[inner.slices] = one.labels(block)
        crop = read(one, window, labels)
        seen = np.maximum(*(np.zeros(labels.shape) if v is None else v for v in (crop.optical_valid, crop.sar_valid)))
        found = {
            name: torch.from_numpy(value)
            for name in ("optical", "sar", "optical_valid", "sar_valid")
            if (value := getattr(crop, name)) is not None
        }
        found["labels"] = torch.from_numpy(np.where(seen > 0.5, labels, np.uint8(IGNORE)).astype(np.int64))
        return {"id": f"{one.name} {block.row},{block.col}", "gsd_m": torch.tensor(one.scene.gsd_m), **found}


def _turned(crop: Crop, rng: Generator) -> Crop:
    """One of the eight ways to lay a square, the same for all that belongs to the crop."""
    turns, mirrored = int(rng.integers(4)), rng.random() < 0.5

    def laid(part: NDArray[Any] | None) -> Any:
        if part is None:
            return None
        part = np.rot90(part, turns, axes=(-2, -1))
        return np.ascontiguousarray(part[..., ::-1] if mirrored else part)

    return Crop(*(laid(part) for part in (crop.optical, crop.sar, crop.optical_valid, crop.sar_valid, crop.labels)))


def _radar(sar: NDArray[np.float32], rng: Generator) -> Tensor:
    """Both bands (2, H, W) in 0..255 with another calibration, speckle and stretch."""
    low, high = (torch.tensor([CO_POLARIZED_DB[end], CROSS_POLARIZED_DB[end]]).reshape(1, 2, 1, 1) for end in (0, 1))
    bands = paired_bands(torch.from_numpy(np.ascontiguousarray(sar))[None])
    return paired_bands(sar_picture(low + bands / 255 * (high - low), RADIOMETRY, rng))[0]
