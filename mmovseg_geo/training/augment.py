"""What is laid on chips in a training step: geometry for all, radiometry, clouds, speckle and gaps for each sensor.

Shape suffixes: B chips, C bands, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mmovseg_geo.rasters.radiometry import BRIGHT_REFLECTANCE, CO_POLARIZED_DB, CROSS_POLARIZED_DB
from mmovseg_geo.simulate import add_clouds
from mmovseg_geo.simulate.noise import fractal
from mmovseg_geo.training.chips import SAR_LOWEST_DB, SAR_STEP_DB, UNKNOWN, Chips

Generator = np.random.Generator
ALIKE_GSD = 4.0
"""Ratio of ground sampling distances up to which an image may stand in the place of another."""
OPAQUE = 0.6
"""Opacity of a cloud that hides what lies under it."""


@dataclass(frozen=True)
class Augmentation:
    """How much is laid on; probabilities unless said otherwise.

    Attributes:
        crop: side of the crops in pixels.
        zoom: largest factor by which chips are magnified or reduced, with their ground sampling distance.
        clouds: of chips that have none yet.
        optical_only, sar_only: of a chip with both sensors to lose the other one.
        gaps: of a chip to lose a part of one sensor.
        stretched: of an optical chip to be stretched between percentiles instead of by reflectance.
        single_band: of a SAR chip to have one band only.
        speckled: of a SAR chip to get further speckle.
        gain_spread, tint_spread, gamma_spread: deviation of the logarithm of the optical gain, of that of each band
            by itself, and of gamma.
        haze: deviation of what is added to optical bands, in shares of the range.
        noise: highest deviation of what is added to every optical pixel, in shares of the range.
        gsd_spread: deviation of the logarithm by which the ground sampling distance that is told is off.
        calibration_spread: deviation in dB of what is added to both bands of SAR; where it is large, contrast within a
            chip tells more than level.
        misleading: of an optical chip beside SAR to have colors that say little, so that SAR must carry the answer.
        outdated: of a SAR chip to stand beside the optical image of another place, in all of it or a part. Floods come
            between two overpasses: water is then where SAR sees it, and nothing else is asked.
    """

    crop: int = 192
    zoom: float = 1.0
    clouds: float = 0.33
    optical_only: float = 0.3
    sar_only: float = 0.25
    gaps: float = 0.15
    stretched: float = 0.4
    single_band: float = 0.2
    speckled: float = 0.25
    gain_spread: float = 0.4
    tint_spread: float = 0.07
    gamma_spread: float = 0.2
    haze: float = 0.03
    noise: float = 0.012
    gsd_spread: float = 0.1
    calibration_spread: float = 1.5
    misleading: float = 0.0
    outdated: float = 0.0


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """What the network is shown (see `tiles.Batch` for the ranges), and the labels (B, H, W).

    A sensor that no chip has is None; a chip that lacks one is invalid everywhere.
    """

    optical: Tensor | None
    sar: Tensor | None
    optical_valid: Tensor
    sar_valid: Tensor
    labels: Tensor
    gsd_m: Tensor


def augmented(
    parts: Sequence[Chips], settings: Augmentation, rng: Generator, water_or_dry_L: NDArray[np.uint8] | None = None
) -> TrainingBatch:
    """A batch of randomly cut, turned and disturbed chips; those of a part have one size, parts may differ.

    `water_or_dry_L` says of every label which one is left where the optical image is outdated.
    """
    chips = Chips.join(_cut_and_turned(part, settings, rng) for part in parts)
    reflectance = np.square(chips.optical.astype(np.float32) / 255)
    opaque = np.zeros(chips.labels.shape, bool)
    for i in range(len(chips)):
        if chips.has_optical[i] and not chips.has_clouds[i] and rng.random() < settings.clouds:
            cover, thick, gsd_m = rng.uniform(0.1, 0.8), rng.beta(2, 1), float(chips.gsd_m[i])
            reflectance[i], opacity = add_clouds(reflectance[i], rng, cover=cover, thick=thick, gsd_m=gsd_m)
            opaque[i] = opacity > OPAQUE
    db = torch.from_numpy(chips.sar.astype(np.float32) * np.float32(SAR_STEP_DB) + np.float32(SAR_LOWEST_DB))
    optical_valid, sar_valid = _validity(chips, settings, rng)
    if settings.outdated:
        assert water_or_dry_L is not None, "what radar alone says has labels"
        pictures, clouds = reflectance.copy(), opaque.copy()
        for i, other, where in _outdated(chips, sar_valid.numpy() > 0, settings, rng):
            reflectance[i][:, where], opaque[i][where] = pictures[other][:, where], clouds[other][where]
            optical_valid[i][torch.from_numpy(where)] = 1
            chips.labels[i][where] = water_or_dry_L[chips.labels[i][where]]
    # Nobody can tell what lies under an opaque cloud from the optical picture alone.
    seen = optical_valid * torch.from_numpy(~opaque) + sar_valid
    answered = torch.from_numpy(chips.labels).long().masked_fill(seen == 0, UNKNOWN)
    picture = torch.from_numpy(reflectance)
    has_both = optical_valid.flatten(1).any(1).numpy() & sar_valid.flatten(1).any(1).numpy()
    _mislead(picture, np.flatnonzero(has_both & (rng.random(len(chips)) < settings.misleading)), rng)
    return TrainingBatch(
        optical_picture(picture, settings, rng) * optical_valid[:, None] if optical_valid.any() else None,
        sar_picture(db, settings, rng) * sar_valid[:, None] if sar_valid.any() else None,
        optical_valid,
        sar_valid,
        answered,
        torch.from_numpy(chips.gsd_m) * _spread(rng, settings.gsd_spread, (len(chips),)),
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
    gain = _spread(rng, settings.gain_spread, (batch, 1, 1, 1)) * _spread(rng, settings.tint_spread, (batch, 3, 1, 1))
    gamma = _spread(rng, settings.gamma_spread, (batch, 1, 1, 1))
    haze = torch.from_numpy(np.abs(rng.normal(0, settings.haze, (batch, 3, 1, 1))).astype(np.float32))
    noise = torch.from_numpy(rng.standard_normal(picture.shape, np.float32)) * _uniform(rng, 0, settings.noise, batch)
    return 255 * ((picture + 1e-4).pow(gamma) * gain + haze + noise).clamp(0, 1)


def sar_picture(db_BCHW: Tensor, settings: Augmentation, rng: Generator) -> Tensor:
    """Backscatter in dB as 0..255, with other calibration, looks and stretches; both bands may be the first."""
    batch = len(db_BCHW)
    power = 10 ** (db_BCHW / 10)
    for i in np.flatnonzero(rng.random(batch) < 0.3):
        power[i] = F.avg_pool2d(F.pad(power[i : i + 1], (1, 1, 1, 1), mode="reflect"), 3, 1)[0]
    for i in np.flatnonzero(rng.random(batch) < settings.speckled):
        looks = np.float32(rng.uniform(2, 10))
        power[i] *= torch.from_numpy(rng.standard_gamma(looks, power[i].shape, np.float32) / looks)
    db = 10 * (power + 1e-5).log10()
    db += _calibration(batch, settings.calibration_spread, rng)
    low = torch.tensor([CO_POLARIZED_DB[0], CROSS_POLARIZED_DB[0]]).reshape(1, 2, 1, 1)
    high = torch.tensor([CO_POLARIZED_DB[1], CROSS_POLARIZED_DB[1]]).reshape(1, 2, 1, 1)
    picture = ((db - low) / (high - low)).clamp(0, 1)
    for i in np.flatnonzero(rng.random(batch) < 0.15):
        ends = picture[i].flatten(1)[:, ::7].quantile(torch.tensor([0.01, 0.99]), dim=1)[..., None, None]
        picture[i] = ((picture[i] - ends[0]) / (ends[1] - ends[0]).clamp(min=0.05)).clamp(0, 1)
    for i in np.flatnonzero(rng.random(batch) < settings.single_band):
        picture[i, 1] = picture[i, 0]
    return 255 * picture


def _mislead(reflectance_BCHW: Tensor, rows: NDArray[np.int64], rng: Generator) -> None:
    """Give some pictures far-off exposure, color and contrast, in place."""
    for i in rows:
        picture = reflectance_BCHW[i]
        mean = picture.mean((1, 2), keepdim=True)
        contrast = float(rng.uniform(0.1, 1.2))
        gain = _spread(rng, 0.7, (1, 1, 1)) * _spread(rng, 0.35, (3, 1, 1))
        haze = torch.from_numpy(rng.uniform(0, 0.15, (3, 1, 1)).astype(np.float32))
        reflectance_BCHW[i] = ((mean + contrast * (picture - mean)) * gain + haze).clamp(0, 1)


def _outdated(
    chips: Chips, seen_BHW: NDArray[np.bool_], settings: Augmentation, rng: Generator
) -> Iterator[tuple[int, int, NDArray[np.bool_]]]:
    """Chips that get the image of another of about their distance, which one, and where (H, W), in parts SAR sees."""
    shape = chips.labels.shape[1:]
    for i in np.flatnonzero(chips.has_sar & seen_BHW.any((1, 2)) & (rng.random(len(chips)) < settings.outdated)):
        alike = chips.has_optical & (np.abs(np.log(chips.gsd_m / chips.gsd_m[i])) < np.log(ALIKE_GSD))
        others = np.setdiff1d(np.flatnonzero(alike), i)
        if len(others):
            where = seen_BHW[i].copy()
            if chips.has_optical[i] and rng.random() < 0.5:
                where &= fractal(rng, shape, shape[0] / 3, 2.0) > rng.normal(0, 0.5)
            yield int(i), int(rng.choice(others)), where


def _calibration(batch: int, spread: float, rng: Generator) -> Tensor:
    """Offsets in dB (B, 2, 1, 1): mostly common to both bands."""
    offsets = rng.normal(0, spread, (batch, 1)) + rng.normal(0, 0.7, (batch, 2))
    return torch.from_numpy(offsets.astype(np.float32))[..., None, None]


def _cut_and_turned(chips: Chips, settings: Augmentation, rng: Generator) -> Chips:
    crop, size, reach = settings.crop, chips.labels.shape[1], np.log(settings.zoom)
    planes: tuple[list[NDArray[np.uint8]], ...] = ([], [], [])
    gsd_m = chips.gsd_m.copy()
    for i in range(len(chips)):
        side = min(size, round(crop * float(np.exp(rng.uniform(-reach, reach)))))
        row, col = rng.integers(0, size - side + 1, 2)
        turns, mirrored = int(rng.integers(4)), rng.random() < 0.5
        for cut, whole in zip(planes, (chips.optical[i], chips.sar[i], chips.labels[i]), strict=True):
            part = _scaled(whole[..., row : row + side, col : col + side], crop)
            part = np.rot90(part, turns, axes=(-2, -1))
            cut.append(part[..., ::-1] if mirrored else part)
        gsd_m[i] *= side / crop
    optical, sar, labels = (np.stack(cut) for cut in planes)
    return replace(chips, optical=optical, sar=sar, labels=labels, gsd_m=gsd_m)


def _scaled(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Bands (C, H, W), antialiased, or labels (H, W), nearest, with `side` rows and columns."""
    if image.shape[-1] == side:
        return image
    if image.ndim == 2:
        nearest = ((np.arange(side) + 0.5) * image.shape[-1] / side).astype(np.int64)
        return image[np.ix_(nearest, nearest)]
    values = torch.from_numpy(np.ascontiguousarray(image, np.float32))[None]
    scaled = F.interpolate(values, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
    return np.asarray(scaled[0].round().numpy(), np.uint8)


def _validity(chips: Chips, settings: Augmentation, rng: Generator) -> tuple[Tensor, Tensor]:
    """Where both sensors see (B, H, W) float: one may be missing, or end at a slanted line, as swaths do."""
    size = settings.crop
    valid = np.ones((2, len(chips), size, size), np.float32)
    rows, cols = np.mgrid[0:size, 0:size] / size - 0.5
    for i in np.flatnonzero(rng.random(len(chips)) < settings.gaps):
        angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.3, 0.4)
        valid[int(rng.integers(2)), i] = np.cos(angle) * rows + np.sin(angle) * cols < offset
    pick, has_both = rng.random(len(chips)), chips.has_optical & chips.has_sar
    loses_sar = has_both & (pick < settings.optical_only)
    loses_optical = has_both & ~loses_sar & (pick < settings.optical_only + settings.sar_only)
    valid[0] *= (chips.has_optical & ~loses_optical)[:, None, None]
    valid[1] *= (chips.has_sar & ~loses_sar)[:, None, None]
    return torch.from_numpy(valid[0]), torch.from_numpy(valid[1])


def _spread(rng: Generator, deviation: float, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(np.exp(rng.normal(0, deviation, shape)).astype(np.float32))


def _uniform(rng: Generator, low: float, high: float, batch: int) -> Tensor:
    return torch.from_numpy(rng.uniform(low, high, (batch, 1, 1, 1)).astype(np.float32))
