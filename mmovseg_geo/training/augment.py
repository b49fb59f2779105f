"""What is laid on chips in a training step: geometry for all, radiometry, clouds, speckle and gaps for each sensor.

Shape suffixes: B chips, C bands, H rows, W columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mmovseg_geo.rasters.radiometry import BRIGHT_REFLECTANCE, CO_POLARIZED_DB, CROSS_POLARIZED_DB
from mmovseg_geo.simulate import add_clouds
from mmovseg_geo.training.chips import SAR_LOWEST_DB, SAR_STEP_DB, UNKNOWN, Chips

Generator = np.random.Generator


@dataclass(frozen=True)
class Augmentation:
    """How much is laid on; probabilities unless said otherwise.

    Attributes:
        crop: side of the crops in pixels.
        clouds: of chips that have none yet.
        optical_only, sar_only: of a batch to lose the other sensor; else both are there.
        gaps: of a chip to lose a part of one sensor.
        stretched: of an optical chip to be stretched between percentiles instead of by reflectance.
        single_band: of a SAR batch to have one band only.
        gain_spread, gamma_spread: deviation of the logarithm of the optical gain and gamma.
    """

    crop: int = 192
    clouds: float = 0.33
    optical_only: float = 0.3
    sar_only: float = 0.25
    gaps: float = 0.15
    stretched: float = 0.4
    single_band: float = 0.2
    gain_spread: float = 0.4
    gamma_spread: float = 0.2


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """What the network is shown (see `tiles.Batch` for the ranges), and the labels (B, H, W)."""

    optical: Tensor | None
    sar: Tensor | None
    optical_valid: Tensor
    sar_valid: Tensor
    labels: Tensor
    gsd_m: Tensor


def augmented(chips: Chips, settings: Augmentation, rng: Generator) -> TrainingBatch:
    """A batch of randomly cut, turned and disturbed chips."""
    optical, sar, labels = _cut_and_turned(chips, settings.crop, rng)
    reflectance = np.square(optical.astype(np.float32) / 255)
    for i in range(len(chips)):
        if chips.has_optical[i] and not chips.has_clouds[i] and rng.random() < settings.clouds:
            cover, thick = rng.uniform(0.1, 0.8), rng.beta(2, 1)
            reflectance[i], _ = add_clouds(reflectance[i], rng, cover=cover, thick=thick, gsd_m=float(chips.gsd_m[i]))
    db = torch.from_numpy(sar.astype(np.float32) * np.float32(SAR_STEP_DB) + np.float32(SAR_LOWEST_DB))
    valid = _gaps(chips, settings, rng)
    kept = _kept_sensors(chips, settings, rng)
    seen = sum((mask for mask, sensor in zip(valid, ("optical", "sar"), strict=True) if sensor in kept), torch.zeros(1))
    answered = torch.from_numpy(labels).long().masked_fill(seen == 0, UNKNOWN)
    return TrainingBatch(
        optical_picture(torch.from_numpy(reflectance), settings, rng) * valid[0][:, None]
        if "optical" in kept
        else None,
        sar_picture(db, settings, rng) * valid[1][:, None] if "sar" in kept else None,
        valid[0],
        valid[1],
        answered,
        torch.from_numpy(chips.gsd_m * np.exp(rng.normal(0, 0.1, len(chips))).astype(np.float32)),
    )


def optical_picture(reflectance_BCHW: Tensor, settings: Augmentation, rng: Generator) -> Tensor:
    """Reflectance as 0..255, as the many ways of making pictures would show it."""
    batch = len(reflectance_BCHW)
    low = torch.zeros(batch, 3, 1, 1)
    high = torch.full((batch, 3, 1, 1), BRIGHT_REFLECTANCE)
    for i in np.flatnonzero(rng.random(batch) < settings.stretched):
        flat = reflectance_BCHW[i].flatten(1)
        flat = flat if rng.random() < 0.5 else flat.reshape(1, -1).expand(3, -1)
        percent = float(rng.uniform(0.005, 0.03))
        low[i, :, 0, 0] = flat[:, ::7].quantile(percent, dim=1)
        high[i, :, 0, 0] = flat[:, ::7].quantile(1 - percent, dim=1)
    picture = ((reflectance_BCHW - low) / (high - low).clamp(min=0.02)).clamp(min=0)
    gain = _spread(rng, settings.gain_spread, (batch, 1, 1, 1)) * _spread(rng, 0.07, (batch, 3, 1, 1))
    gamma = _spread(rng, settings.gamma_spread, (batch, 1, 1, 1))
    haze = torch.from_numpy(np.abs(rng.normal(0, 0.03, (batch, 3, 1, 1))).astype(np.float32))
    noise = torch.from_numpy(rng.normal(0, 1, picture.shape).astype(np.float32)) * _uniform(rng, 0, 0.012, batch)
    return 255 * ((picture + 1e-4).pow(gamma) * gain + haze + noise).clamp(0, 1)


def sar_picture(db_BCHW: Tensor, settings: Augmentation, rng: Generator) -> Tensor:
    """Backscatter in dB as 0..255, with other calibration, looks and stretches; one or two bands."""
    batch = len(db_BCHW)
    power = 10 ** (db_BCHW / 10)
    for i in np.flatnonzero(rng.random(batch) < 0.3):
        power[i] = F.avg_pool2d(F.pad(power[i : i + 1], (1, 1, 1, 1), mode="reflect"), 3, 1)[0]
    for i in np.flatnonzero(rng.random(batch) < 0.25):
        looks = rng.uniform(2, 10)
        power[i] *= torch.from_numpy(rng.gamma(looks, 1 / looks, power[i].shape).astype(np.float32))
    db = 10 * (power + 1e-5).log10()
    db += _calibration(batch, rng)
    low = torch.tensor([CO_POLARIZED_DB[0], CROSS_POLARIZED_DB[0]]).reshape(1, 2, 1, 1)
    high = torch.tensor([CO_POLARIZED_DB[1], CROSS_POLARIZED_DB[1]]).reshape(1, 2, 1, 1)
    picture = ((db - low) / (high - low)).clamp(0, 1)
    for i in np.flatnonzero(rng.random(batch) < 0.15):
        ends = picture[i].flatten(1)[:, ::7].quantile(torch.tensor([0.01, 0.99]), dim=1)[..., None, None]
        picture[i] = ((picture[i] - ends[0]) / (ends[1] - ends[0]).clamp(min=0.05)).clamp(0, 1)
    return 255 * (picture[:, :1] if rng.random() < settings.single_band else picture)


def _calibration(batch: int, rng: Generator) -> Tensor:
    """Offsets in dB (B, 2, 1, 1): mostly common to both bands."""
    offsets = rng.normal(0, 1.5, (batch, 1)) + rng.normal(0, 0.7, (batch, 2))
    return torch.from_numpy(offsets.astype(np.float32))[..., None, None]


def _cut_and_turned(chips: Chips, crop: int, rng: Generator) -> tuple[NDArray[np.uint8], ...]:
    size = chips.labels.shape[1]
    cuts: tuple[list[NDArray[np.uint8]], ...] = ([], [], [])
    for i in range(len(chips)):
        row, col = rng.integers(0, size - crop + 1, 2)
        turns, mirrored = int(rng.integers(4)), rng.random() < 0.5
        for cut, whole in zip(cuts, (chips.optical[i], chips.sar[i], chips.labels[i]), strict=True):
            part = np.rot90(whole[..., row : row + crop, col : col + crop], turns, axes=(-2, -1))
            cut.append(part[..., ::-1] if mirrored else part)
    return tuple(np.stack(cut) for cut in cuts)


def _gaps(chips: Chips, settings: Augmentation, rng: Generator) -> tuple[Tensor, Tensor]:
    """Validity of both sensors (B, H, W) float: sometimes one ends at a slanted line, as swaths do."""
    size = settings.crop
    valid = np.ones((2, len(chips), size, size), np.float32)
    rows, cols = np.mgrid[0:size, 0:size] / size - 0.5
    for i in np.flatnonzero(rng.random(len(chips)) < settings.gaps):
        angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.3, 0.4)
        valid[int(rng.integers(2)), i] = np.cos(angle) * rows + np.sin(angle) * cols < offset
    valid[0] *= chips.has_optical[:, None, None]
    valid[1] *= chips.has_sar[:, None, None]
    return torch.from_numpy(valid[0]), torch.from_numpy(valid[1])


def _kept_sensors(chips: Chips, settings: Augmentation, rng: Generator) -> tuple[str, ...]:
    pick = rng.random()
    if pick < settings.optical_only and chips.has_optical.any():
        return ("optical",)
    if pick < settings.optical_only + settings.sar_only and chips.has_sar.any():
        return ("sar",)
    return ("optical", "sar")


def _spread(rng: Generator, deviation: float, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(np.exp(rng.normal(0, deviation, shape)).astype(np.float32))


def _uniform(rng: Generator, low: float, high: float, batch: int) -> Tensor:
    return torch.from_numpy(rng.uniform(low, high, (batch, 1, 1, 1)).astype(np.float32))
