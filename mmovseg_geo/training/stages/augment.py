"""What is laid on images in a step: one geometry for both sensors and labels, then each sensor's own disturbances.

Shape suffixes: C bands, H rows, W columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from mmovseg_geo.datasets.codes import IGNORE
from mmovseg_geo.errors import ConfigError
from mmovseg_geo.models.mmovseg.preprocessing import MEAN
from mmovseg_geo.rasters.ratio import RATIO_DB
from mmovseg_geo.simulate import add_clouds

Generator = np.random.Generator
LONGEST = 1333 / 384
"""An image is resized so that its longer side is at most this many times the crop, as in the published program."""
BRIGHTNESS, CONTRAST, SATURATION, HUE = 32.0, (0.5, 1.5), (0.5, 1.5), 18 / 180
"""The published color jitter: gray levels, factors, factors, and share of the color circle."""
GAIN_DB, DB_RANGE = 1.5, 25.0
"""Spread of a SAR calibration error, and the decibels that 0..255 stand for."""


@dataclass(frozen=True)
class Augmentation:
    """How often things happen, as probabilities; all but `flip` and `color` are additions to the published recipe.

    Attributes:
        flip: mirror left and right; with `turns`, also turn by quarters, as scenes have no upright.
        color: each of brightness, contrast, saturation and hue of the optical image.
        speckle: more speckle on SAR; `gain`: another calibration of SAR, by some tenths of its range.
        clouds: simulated clouds with shadows on the optical image, from thin to opaque.
        drop_optical, drop_sar: hide a sensor, where the other is there.
    """

    flip: float = 0.5
    turns: bool = False
    color: float = 0.5
    speckle: float = 0.0
    gain: float = 0.0
    clouds: float = 0.0
    drop_optical: float = 0.0
    drop_sar: float = 0.0

    def __post_init__(self) -> None:
        for name in ("flip", "color", "speckle", "gain", "clouds", "drop_optical", "drop_sar"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"augmentation.{name} {getattr(self, name)} is no probability; give 0 to 1.")
        if self.drop_optical + self.drop_sar > 1:
            raise ConfigError("augmentation.drop_optical and drop_sar exceed 1 together: one sensor must be left.")


@dataclass
class Sample:
    """One image as it is read: pixels (C, H, W) in 0..255, validity (H, W) of 0 or 1, labels (H, W); see `tiles.Tile`.

    What an image does not have is None.
    """

    optical: Tensor | None
    sar: Tensor | None
    optical_valid: Tensor | None
    sar_valid: Tensor | None
    labels: Tensor | None = None
    gsd_m: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        seen = self.optical if self.optical is not None else self.sar
        assert seen is not None, "an image has at least one sensor"
        return seen.shape[-2], seen.shape[-1]


def cut(sample: Sample, size: int, rng: Generator, settings: Augmentation) -> Sample:
    """A random square of `size` pixels from the image with its shorter side brought to that, perhaps mirrored."""
    height, width = sample.shape
    factor = min(size / min(height, width), LONGEST * size / max(height, width))
    shape = max(1, round(height * factor)), max(1, round(width * factor))
    row, col = (int(rng.integers(0, max(side - size, 0) + 1)) for side in shape)
    mirrored, turns = rng.random() < settings.flip, int(rng.integers(4)) if settings.turns else 0

    def placed(image: Tensor, beyond: float) -> Tensor:
        image = image[..., row : row + size, col : col + size]
        image = F.pad(image, (0, size - image.shape[-1], 0, size - image.shape[-2]), value=beyond)
        image = image.flip(-1) if mirrored else image
        return torch.rot90(image, turns, (-2, -1)).contiguous()

    optical, sar, optical_valid, sar_valid = (
        None if part is None else placed(part, 0.0) for part in resized(sample, shape)
    )
    labels = None if sample.labels is None else placed(_nearest(sample.labels, shape), IGNORE)
    return Sample(optical, sar, optical_valid, sar_valid, labels, sample.gsd_m / factor)


def resized(
    sample: Sample, shape: tuple[int, int]
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """Pixels and validity of both sensors at another size; what is missing takes the mean color."""
    optical, optical_valid = _resized(sample.optical, sample.optical_valid, shape)
    sar, sar_valid = _resized(sample.sar, sample.sar_valid, shape)
    return optical, sar, optical_valid, sar_valid


def disturbed(sample: Sample, rng: Generator, settings: Augmentation) -> Sample:
    """The sample with the disturbances that its sensors get."""
    optical, sar, both = sample.optical, sample.sar, sample.optical is not None and sample.sar is not None
    if optical is not None:
        if rng.random() < settings.clouds:
            optical = _clouded(optical, rng, sample.gsd_m)
        optical = _jittered(optical, rng, settings.color)
    if sar is not None:
        sar = _other_sar(sar, rng, settings)
    optical_valid, sar_valid, dropped = sample.optical_valid, sample.sar_valid, rng.random()
    if both and optical_valid is not None and sar_valid is not None:
        optical_valid = optical_valid * float(dropped >= settings.drop_optical)
        sar_valid = sar_valid * float(not settings.drop_optical <= dropped < settings.drop_optical + settings.drop_sar)
    return Sample(optical, sar, optical_valid, sar_valid, sample.labels, sample.gsd_m)


def _resized(image: Tensor | None, valid: Tensor | None, shape: tuple[int, int]) -> tuple[Tensor | None, Tensor | None]:
    if image is None or valid is None:
        return None, None
    mean = torch.tensor(MEAN).view(3, 1, 1) if len(image) == 3 else torch.tensor(MEAN[0])
    filled = torch.where(valid.bool(), image, mean)
    return _fitted(filled, shape), _fitted(valid[None], shape)[0]


def _fitted(image_CHW: Tensor, shape: tuple[int, int]) -> Tensor:
    """As the published programs bring files to a size: bilinear with antialiasing."""
    if tuple(image_CHW.shape[-2:]) == shape:
        return image_CHW
    return F.interpolate(image_CHW[None], size=shape, mode="bilinear", align_corners=False, antialias=True)[0]


def _nearest(labels_HW: Tensor, shape: tuple[int, int]) -> Tensor:
    return F.interpolate(labels_HW[None, None].float(), size=shape, mode="nearest-exact")[0, 0].to(labels_HW.dtype)


def _jittered(image: Tensor, rng: Generator, probability: float) -> Tensor:
    """Brightness, then contrast, saturation and hue, contrast first or last."""
    happens = rng.random(4) < probability
    if happens[0]:
        image = (image + float(rng.uniform(-BRIGHTNESS, BRIGHTNESS))).clamp(0, 255)
    factor, contrast_first = float(rng.uniform(*CONTRAST)), rng.random() < 0.5
    if happens[1] and contrast_first:
        image = (image * factor).clamp(0, 255)
    saturation, hue = float(rng.uniform(*SATURATION)), float(rng.uniform(-HUE, HUE))
    if happens[2] or happens[3]:
        image = _recolored(image, saturation if happens[2] else 1.0, hue if happens[3] else 0.0)
    if happens[1] and not contrast_first:
        image = (image * factor).clamp(0, 255)
    return image


def _recolored(image: Tensor, saturation: float, hue: float) -> Tensor:
    """With more or less saturation, and hues turned by a share of the circle."""
    picture = Image.fromarray(image.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy())
    hsv: NDArray[np.float32] = np.asarray(picture.convert("HSV"), np.float32)
    turned = (hsv[..., 0] + 256 * hue) % 256
    changed = np.stack([turned, np.clip(hsv[..., 1] * saturation, 0, 255), hsv[..., 2]], axis=-1).astype(np.uint8)
    back = np.asarray(Image.fromarray(changed, "HSV").convert("RGB"), np.float32)
    return torch.from_numpy(back.copy()).permute(2, 0, 1)


def _clouded(image: Tensor, rng: Generator, gsd_m: float) -> Tensor:
    cover, thick = float(rng.uniform(0.1, 0.8)), float(rng.beta(2, 1))
    covered, _ = add_clouds(image.numpy() / np.float32(255), rng, cover=cover, thick=thick, gsd_m=gsd_m)
    return torch.from_numpy(255 * covered)


def _other_sar(image: Tensor, rng: Generator, settings: Augmentation) -> Tensor:
    """Other gain and other speckle; their ratio, a third band, sees the speckle of both polarizations and no gain."""
    bands, ratio = image[:2], image[2:]
    per_db = 255 / DB_RANGE
    if rng.random() < settings.gain:
        bands = bands + per_db * float(rng.normal(0, GAIN_DB))
    if rng.random() < settings.speckle:
        looks = float(rng.uniform(2, 10))
        grains = np.maximum(rng.gamma(looks, 1 / looks, bands.shape), 1e-4)
        speckle_db = torch.from_numpy((10 * np.log10(grains)).astype(np.float32))
        bands = bands + per_db * speckle_db
        if len(ratio):
            ratio = ratio + 255 / (RATIO_DB[1] - RATIO_DB[0]) * (speckle_db[:1] - speckle_db[1:])
    return torch.cat([bands, ratio]).clamp(0, 255)
