"""Random fields and cell patterns from which scenes are made."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.sparse import csr_array

Field = NDArray[np.float32]
Ints = NDArray[np.int32]

TEXTURE_SIZE = 512
HASH_SIZE = 4096
COARSE = 4


@lru_cache(maxsize=64)
def _spectrum(shape: tuple[int, int], wavelength: float, slope: float) -> Field:
    rows = np.fft.fftfreq(shape[0])[:, None]
    cols = np.fft.rfftfreq(shape[1])[None, :]
    frequency2 = rows**2 + cols**2
    amplitude = (frequency2 + wavelength**-2.0) ** (-slope / 2)
    amplitude[0, 0] = 0
    return np.asarray(amplitude, np.float32)


@lru_cache(maxsize=16)
def _refining(size: int) -> Any:
    """Matrix that interpolates ceil(size / COARSE) + 3 samples to `size` by a cubic B-spline.

    Sparse: four numbers in a row are not zero, and a dense product would start threads in every process that simulates.
    """
    at = np.arange(size) / COARSE
    cell = np.floor(at).astype(int)
    t = at - cell
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6
    matrix = np.zeros((size, -(-size // COARSE) + 3), np.float32)
    matrix[np.arange(size)[:, None], cell[:, None] + np.arange(4)] = weights
    return csr_array(matrix)


def fractal(rng: np.random.Generator, shape: tuple[int, int], wavelength: float, slope: float = 2.4) -> Field:
    """A random field (H, W), mean about 0 and deviation 1, rough below `wavelength` (pixels) and smooth above it.

    `slope` is the decay of the amplitude with frequency: 1.5 is cloudy, 2.4 terrain, 3 rolling. Nothing in it is finer
    than about 8 pixels, because it is made at a quarter of the resolution; `ragged` adds the rest.
    """
    left, right = _refining(shape[0]), _refining(shape[1])
    coarse = (left.shape[1], right.shape[1])
    padded = tuple(fft.next_fast_len(int(n * 1.25) + 4, real=True) for n in coarse)
    # Quantized, so that the filter comes from the cache.
    wavelength = float(2 ** (round(np.log2(max(wavelength / COARSE, 1.0)) * 2) / 2))
    filter_ = _spectrum((padded[0], padded[1]), wavelength, round(slope, 1))
    white = rng.standard_normal((2, *filter_.shape), dtype=np.float32)
    spectrum = white[0] + 1j * white[1]
    spectrum *= filter_
    made = fft.irfft2(spectrum, s=padded)[: coarse[0], : coarse[1]].astype(np.float32)
    field: Field = np.ascontiguousarray((right @ (left @ made).T).T)
    if wavelength * COARSE > max(shape):
        # The transform is periodic: what is longer than the picture is a slope across it.
        slope_row, slope_col = rng.standard_normal(2) * min(wavelength * COARSE / max(shape), 2.0) * float(field.std())
        field += np.linspace(-slope_row, slope_row, shape[0], dtype=np.float32)[:, None]
        field += np.linspace(-slope_col, slope_col, shape[1], dtype=np.float32)[None, :]
    field -= field.mean()
    field /= field.std() + np.float32(1e-6)
    return field


def ragged(rng: np.random.Generator, field: Field, amount: float) -> Field:
    """The field with detail of a few pixels, so that its level lines are not smooth."""
    shape = (field.shape[0], field.shape[1])
    detail: Field = texture(rng, shape, 4) + texture(rng, shape, 1) / np.float32(3)
    return np.asarray(field + np.float32(amount) * detail, np.float32)


@lru_cache(maxsize=8)
def _texture_tile(grain: int) -> Field:
    """Periodic noise twice beside and below itself, so that any cut up to TEXTURE_SIZE is a view."""
    rng = np.random.default_rng(1000 + grain)
    white = rng.standard_normal((TEXTURE_SIZE, TEXTURE_SIZE), dtype=np.float32)
    if grain > 1:
        rows = np.fft.fftfreq(TEXTURE_SIZE)[:, None]
        cols = np.fft.rfftfreq(TEXTURE_SIZE)[None, :]
        frequency = np.sqrt(rows**2 + cols**2) * grain
        # Blobs of many sizes, four times larger and smaller: one size alone looks like camouflage.
        band = (frequency**2 + 0.06**2) ** -0.6 * np.exp(-(frequency**2))
        band[0, 0] = 0
        white = fft.irfft2(fft.rfft2(white) * band, s=white.shape).astype(np.float32)
        white /= white.std()
    return np.tile(white, (2, 2))


def texture(rng: np.random.Generator, shape: tuple[int, int], grain: int) -> Field:
    """Noise (H, W) of deviation 1 with blobs from about `grain` pixels up, cut at random from a cached tile."""
    tile = _texture_tile(grain)
    row, col = (int(n) for n in rng.integers(0, TEXTURE_SIZE, 2))
    if rng.random() < 0.5:
        tile = tile.T
    if max(shape) <= TEXTURE_SIZE:
        return tile[row : row + shape[0], col : col + shape[1]]
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
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def hashed(i: Ints, j: Ints) -> Ints:
    """A pseudo-random number of 24 bits for every pair of integers (int32; the products may wrap around)."""
    h = i * np.int32(73856093) ^ j * np.int32(19349663)
    h ^= (h >> 13) & np.int32(0x7FFFF)
    h *= np.int32(1274126177)
    return np.asarray((h >> 7) & np.int32(0xFFFFFF), np.int32)


def floored(field: Field) -> Ints:
    """The field rounded down to integers."""
    return np.floor(field).astype(np.int32)


def cells(rng: np.random.Generator, u: Field, v: Field, jitter: float = 0.8) -> tuple[Ints, Field, Field]:
    """Nearest point of a jittered unit grid: its hash (24 bits), the distance to it, and what is left to the border.

    `u`, `v` are coordinates in cell units. Only the four nearest points are looked at: rarely wrong for jitter below 1.
    """
    salt = np.int32(rng.integers(0, 1 << 20))
    iu, iv = floored(u - np.float32(0.5)), floored(v - np.float32(0.5))
    scale, middle = np.float32(jitter / 4095), np.float32(0.5 - jitter / 2)
    du, dv = u - iu - middle, v - iv - middle
    best = np.full(u.shape, 9.0, np.float32)
    second = best.copy()
    ids = np.zeros(u.shape, np.int32)
    for a in (0, 1):
        for b in (0, 1):
            h = hashed(iu + (salt + np.int32(a)), iv + np.int32(b))
            distance = du - (h & 4095).astype(np.float32) * scale
            distance -= np.float32(a)
            distance *= distance
            other = dv - (h >> 12).astype(np.float32) * scale
            other -= np.float32(b)
            other *= other
            distance += other
            np.minimum(second, np.maximum(best, distance), out=second)
            np.copyto(ids, h, where=distance < best)
            np.minimum(best, distance, out=best)
    root = np.sqrt(best)
    return ids, root, (np.sqrt(second) - root) / 2
