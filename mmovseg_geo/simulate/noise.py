"""Random fields and cell patterns from which scenes are made."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Field = NDArray[np.float32]
Ints = NDArray[np.int64]

TEXTURE_SIZE = 512
HASH_SIZE = 4096


@lru_cache(maxsize=64)
def _spectrum(shape: tuple[int, int], wavelength: float, slope: float) -> Field:
    rows = np.fft.fftfreq(shape[0])[:, None]
    cols = np.fft.rfftfreq(shape[1])[None, :]
    frequency2 = rows**2 + cols**2
    amplitude = (frequency2 + wavelength**-2.0) ** (-slope / 2)
    amplitude[0, 0] = 0
    return amplitude.astype(np.float32)


def fractal(rng: np.random.Generator, shape: tuple[int, int], wavelength: float, slope: float = 1.9) -> Field:
    """A random field (H, W), mean about 0 and deviation 1, rough below `wavelength` (pixels) and smooth above it.

    `slope` is the decay of the amplitude with frequency: 1 is cloudy, 1.9 terrain, 3 rolling.
    """
    padded = tuple(fft.next_fast_len(int(n * 1.25) + 8, real=True) for n in shape)
    # Quantized, so that the filter comes from the cache.
    wavelength = float(2 ** (round(np.log2(max(wavelength, 1.0)) * 2) / 2))
    filter_ = _spectrum((padded[0], padded[1]), wavelength, slope)
    white = rng.standard_normal((2, *filter_.shape), dtype=np.float32)
    spectrum = white[0] + 1j * white[1]
    spectrum *= filter_
    field = fft.irfft2(spectrum, s=padded)[: shape[0], : shape[1]].astype(np.float32)
    if wavelength > max(shape):
        # The transform is periodic: what is longer than the picture is a slope across it.
        slope_row, slope_col = rng.standard_normal(2) * min(wavelength / max(shape) - 1, 2.0) * float(field.std())
        field += np.linspace(-slope_row, slope_row, shape[0], dtype=np.float32)[:, None]
        field += np.linspace(-slope_col, slope_col, shape[1], dtype=np.float32)[None, :]
    field -= field.mean()
    field /= field.std() + 1e-6
    return field


@lru_cache(maxsize=8)
def _texture_tile(grain: int) -> Field:
    rng = np.random.default_rng(1000 + grain)
    white = rng.standard_normal((TEXTURE_SIZE, TEXTURE_SIZE), dtype=np.float32)
    if grain > 1:
        rows = np.fft.fftfreq(TEXTURE_SIZE)[:, None]
        cols = np.fft.rfftfreq(TEXTURE_SIZE)[None, :]
        frequency = np.sqrt(rows**2 + cols**2) * grain * 2
        band = frequency * np.exp(-(frequency**2) / 2)
        white = fft.irfft2(fft.rfft2(white) * band, s=white.shape).astype(np.float32)
        white /= white.std()
    return white


def texture(rng: np.random.Generator, shape: tuple[int, int], grain: int) -> Field:
    """Band-limited noise (H, W) of deviation 1 with blobs of about `grain` pixels, cut at random from a cached tile."""
    tile = _texture_tile(grain)
    row, col = rng.integers(0, TEXTURE_SIZE, 2)
    if rng.random() < 0.5:
        tile = tile.T
    rows = np.arange(row, row + shape[0]) % TEXTURE_SIZE
    cols = np.arange(col, col + shape[1]) % TEXTURE_SIZE
    return tile[rows[:, None], cols[None, :]]


def quantile(field: Field, q: float) -> float:
    """The q-quantile of a field, from a subsample."""
    step = max(1, min(field.shape) // 64)
    return float(np.quantile(field[::step, ::step], min(max(q, 0.0), 1.0)))


def smoothstep(field: Field, low: float, high: float) -> Field:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((field - np.float32(low)) / np.float32(max(high - low, 1e-6)), 0, 1)
    return t * t * (3 - 2 * t)


def hashed(i: Ints, j: Ints) -> Ints:
    """A pseudo-random number below HASH_SIZE for every pair of integers."""
    h = i * 73856093 ^ j * 19349663
    return (h ^ (h >> 13) ^ (h >> 7)) & (HASH_SIZE - 1)


def cells(rng: np.random.Generator, u: Field, v: Field, jitter: float = 0.8) -> tuple[Ints, Field, Field]:
    """Nearest point of a jittered unit grid: its hash, the distance to it, and the distance left to the border.

    `u`, `v` are coordinates in cell units. Only the four nearest points are looked at: rarely wrong for jitter below 1.
    """
    points = ((rng.random((2, HASH_SIZE), dtype=np.float32) - 0.5) * np.float32(jitter) + np.float32(0.5))
    u0 = np.floor(u - np.float32(0.5))
    v0 = np.floor(v - np.float32(0.5))
    best = np.full(u.shape, 9.0, np.float32)
    second = best.copy()
    ids = np.zeros(u.shape, np.int64)
    iu, iv = u0.astype(np.int64), v0.astype(np.int64)
    du, dv = u - u0, v - v0
    for a in (0, 1):
        for b in (0, 1):
            h = hashed(iu + a, iv + b)
            distance = (du - (a + points[0][h])) ** 2 + (dv - (b + points[1][h])) ** 2
            closer = distance < best
            second = np.where(closer, best, np.minimum(second, distance))
            ids = np.where(closer, h, ids)
            best = np.minimum(best, distance)
    root = np.sqrt(best)
    return ids, root, (np.sqrt(second) - root) / 2
