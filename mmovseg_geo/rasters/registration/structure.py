"""Structure that optical and SAR images share: how strongly and in which direction the image changes, not to what.

Oriented gradients as in CFOG (Ye et al. 2019), kept as even circular harmonics of the direction instead of a histogram:
an edge looks the same from dark to bright and from bright to dark, and one complex FFT takes the place of nine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Mask = NDArray[np.bool_]
    Features = NDArray[np.complex64]

SCALES = (1.0, 2.0)
"""Widths in pixels of the Gaussians whose slope is taken: fine for the place, coarse against speckle."""
AROUND = 4.0
"""Strength is told against its mean over so many times the width: bright towns do not outvote fields."""
FLOOR = 0.3
"""Of the mean strength of the whole image: what is far weaker is noise and stays weak."""
MARGIN = 32
"""Pixels around a window that its features look at."""
KINDS = 3
"""Features of each scale: strength, direction, and direction of finer division."""
CROSS_POLARIZED = 0.5
"""Weight of a second SAR band, which lies nearer to the noise floor of the sensor."""
RED_AGAINST_BLUE, GREEN_AGAINST_BOTH = 1.5, 3.0
"""Differences of colors vary less than brightness; so much more they count."""
FLAT_SIDE = 5
"""Squares of so many SAR pixels of one value are fill: border noise, stripes and undeclared no-data."""


def features(bands: Floats, valid: Mask) -> tuple[Features, Mask]:
    """Structure (K, H, W) of bands (C, H, W) in 0..255, and where it can be told; 0 elsewhere.

    SAR is to come in decibels: the slope of a smoothed logarithm is the ratio of means that speckle leaves unbiased.
    """
    parts, masks = zip(*(_at_scale(bands, valid, scale) for scale in SCALES), strict=True)
    seen: Mask = np.logical_and.reduce(masks)
    return np.concatenate(parts) * seen, seen


def opponent(colors: Floats) -> Floats:
    """Red, green and blue (3, H, W) as brightness, red against blue, and green against both.

    Land covers of equal brightness still differ in color; apart, the three say more than three similar bands.
    """
    red, green, blue = colors
    parts = [(red + green + blue) / 3, RED_AGAINST_BLUE * (red - blue), GREEN_AGAINST_BOTH * (green - (red + blue) / 2)]
    return np.stack(parts).astype(np.float32)


def polarized(bands: Floats) -> Floats:
    """SAR bands (C, H, W), the cross-polarized one at less weight."""
    return np.concatenate([bands[:1], bands[1:] * np.float32(CROSS_POLARIZED)])


def strength(bands: Floats, valid: Mask) -> Floats:
    """Slope of the bands (H, W) in values per pixel at the fine scale, 0 where invalid."""
    energy = sum(_slope(band, SCALES[0])[0] ** 2 + _slope(band, SCALES[0])[1] ** 2 for band in _filled(bands, valid))
    found: Floats = np.where(valid, np.sqrt(np.asarray(energy) / len(bands)), 0).astype(np.float32)
    return found


def _at_scale(bands: Floats, valid: Mask, scale: float) -> tuple[Features, Mask]:
    turned, energy = np.zeros(valid.shape, np.complex64), np.zeros(valid.shape, np.float32)
    for band in _filled(bands, valid):
        down, right = _slope(band, scale)
        slope = right + 1j * down
        turned += slope * slope
        energy += down * down + right * right
    if not valid.all():
        reach = int(np.ceil(2 * scale))
        valid = ndimage.binary_erosion(valid, iterations=reach, border_value=1)
    size = np.where(valid, np.sqrt(energy), 0)
    near = np.maximum(_smooth(valid.astype(np.float32), AROUND * scale), 1e-3)
    typical = float(size[valid].mean()) if valid.any() else 0.0
    size = size / (_smooth(size, AROUND * scale) / near + FLOOR * typical + 1e-6)
    # Where bands differ in direction, the direction says less.
    direction = turned / np.maximum(energy, 1e-12)
    known = np.maximum(np.abs(direction), 1e-12)
    found = []
    for order in (0, 1, 2):
        wave = size * known * (direction / known) ** order if order else size
        wave = _smooth(wave, 1.0)
        if order == 0:
            wave = wave - _smooth(np.where(valid, wave, 0), AROUND * scale) / near
        found.append(np.where(valid, wave, 0).astype(np.complex64))
    return np.stack(found), valid


def _filled(bands: Floats, valid: Mask) -> Floats:
    """Bands whose invalid pixels hold the mean of the valid ones around, so that no border has a slope."""
    if valid.all() or not valid.any():
        return bands
    share = _smooth(valid.astype(np.float32), 4.0)
    found = []
    for band in bands:
        around = _smooth(np.where(valid, band, 0), 4.0) / np.maximum(share, 1e-3)
        around = np.where(share > 1e-3, around, band[valid].mean())
        found.append(np.where(valid, band, around))
    return np.stack(found).astype(np.float32)


def filled(bands: Floats) -> Mask:
    """Pixels of fill in a SAR image: squares of one value in every band, where these reach the border of the image.

    Speckle leaves no two neighbors alike, so such squares were not measured.
    """
    flat = np.ones(bands.shape[1:], np.bool_)
    for band in bands:
        same = ndimage.maximum_filter(band, FLAT_SIDE) == ndimage.minimum_filter(band, FLAT_SIDE)
        flat &= same
    if not flat.any():
        return flat
    flat = ndimage.binary_dilation(flat, np.ones((FLAT_SIDE, FLAT_SIDE)))
    pieces, _ = ndimage.label(flat)
    edges = np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]])
    touching: Mask = np.isin(pieces, np.unique(edges[edges > 0]))
    return touching


def _slope(band: Floats, scale: float) -> tuple[Floats, Floats]:
    return _gaussian(band, scale, (1, 0)), _gaussian(band, scale, (0, 1))


def _smooth(values: Any, scale: float) -> Any:
    if np.iscomplexobj(values):
        return _gaussian(values.real, scale, 0) + 1j * _gaussian(values.imag, scale, 0)
    return _gaussian(values, scale, 0)


def _gaussian(values: Any, scale: float, order: Any) -> Any:
    return ndimage.gaussian_filter(values, scale, order=order, mode="nearest", truncate=3.0)
