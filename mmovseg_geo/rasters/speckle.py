"""Speckle filters for backscatter in power: each looks at 7 x 7 pixels, so a window read with a halo of 3 has no seams.

Sums are added pixel by pixel in one order, so that a pixel comes out the same, to the last bit, in any window.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mmovseg_geo.grid import Window
from mmovseg_geo.rasters.box import box_sums

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmovseg_geo.tiles import Speckle

    Values = NDArray[np.float32]

HALO = 3
"""Pixels around a window that a filter must see."""
SIDE = 2 * HALO + 1
CHUNK_PIXELS = 2**15
"""Pixels filtered at a time: some fifteen arrays of this size stay in the processor's cache."""
FEWEST = 9
"""A pixel with fewer valid pixels around stays as it is: their spread says nothing."""
SAMPLE_SIDE, SAMPLES = 256, 5
"""Looks are estimated from 5 x 5 windows of 256 x 256 pixels, evenly over the file."""
LOOKS = (0.8, 400.0)
"""Fewer than one look there cannot be but for the estimate's own spread; with so many there is no speckle."""
BIN = 0.05
"""Width of the bins in which local looks are counted, in natural logarithms."""
SMOOTH = 9
"""Bins that are averaged, twice, before the fullest is sought."""


@dataclass(frozen=True)
class SpeckleFilter:
    """A filter and the equivalent number of looks of each band, decided once for a scene.

    lee: Lee 1980. refined-lee: Lee 1981, the statistics from the half of the window on the pixel's side of the
    strongest edge. gamma-map: Lopes, Nezry, Touzi and Laur 1990.
    """

    name: Speckle
    looks: tuple[float, ...]

    def __call__(self, power: Values, valid: NDArray[np.bool_]) -> Values:
        """Filtered power (N, H, W) of a window from power (N, H + 6, W + 6) and its validity; invalid values are 0."""
        height, width = (side - 2 * HALO for side in valid.shape)
        found = np.empty((len(power), height, width), np.float32)
        strip = max(1, CHUNK_PIXELS // max(width, 1))
        for top in range(0, height, strip):
            low = min(top + strip, height)
            present = valid[top : low + 2 * HALO].astype(np.float32)
            for band, looks in enumerate(self.looks):
                found[band, top:low] = _filtered(
                    self.name, power[band, top : low + 2 * HALO], present, np.float32(1.0 / looks)
                )
        return found

    @property
    def words(self) -> str:
        looks = ", ".join(f"{one:.3g}" for one in self.looks)
        return f"{self.name} over {SIDE} x {SIDE} pixels of the file, {looks} looks by its own smooth places"


def estimated_looks(power: Values, valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Local equivalent numbers of looks (N, n): squared mean over variance in 7 x 7 windows that are wholly valid."""
    present = valid.astype(np.float32)
    whole = box_sums(present, SIDE) == SIDE * SIDE
    mean, variance = _moments(power, present, np.float32(SIDE * SIDE))
    spread: Values = variance / np.maximum(np.square(mean), np.float32(1e-30))
    with np.errstate(divide="ignore"):
        looks: Values = np.float32(1) / spread[:, whole & (mean > 0).all(axis=0)]
    return looks


def looks_of(local: NDArray[np.float32]) -> tuple[float, ...]:
    """The looks of each band: what most places of an image have, from `estimated_looks` of places all over it.

    Edges and textures have fewer, each their own; places that show speckle alone agree with each other.
    """
    edges = np.arange(np.log(LOOKS[0]), np.log(LOOKS[1]) + BIN, BIN)
    box = np.ones(SMOOTH) / SMOOTH
    found = []
    for band in local:
        count = np.histogram(np.log(np.clip(band, *LOOKS)), edges)[0]
        fullest = int(np.convolve(np.convolve(count, box, "same"), box, "same").argmax())
        found.append(float(f"{np.exp(edges[fullest] + BIN / 2):.3g}") if count.any() else 1.0)
    return tuple(found)


def sample_windows(shape: tuple[int, int]) -> Iterator[Window]:
    """Windows spread evenly over an image of `shape`, from which its looks are estimated."""
    starts = []
    for side in shape:
        room = max(side - SAMPLE_SIDE, 0)
        starts.append(sorted({room * step // (SAMPLES - 1) for step in range(SAMPLES)}))
    for row in starts[0]:
        for col in starts[1]:
            yield Window(row, col, min(SAMPLE_SIDE, shape[0]), min(SAMPLE_SIDE, shape[1]))


def _filtered(name: Speckle, power: Values, present: Values, noise: np.float32) -> Values:
    """One band; `noise` is the squared coefficient of variation of speckle, one over the looks."""
    if name == "refined-lee":
        mean, variance, count = _beside_the_edge(power, present)
    else:
        count = box_sums(present, SIDE)
        mean, variance = _moments(power, present, np.maximum(count, np.float32(1)))
    own = power[HALO:-HALO, HALO:-HALO]
    estimate = _gamma_map if name == "gamma-map" else _lee
    return np.where(count >= FEWEST, estimate(own, mean, variance, noise), own)


def _lee(own: Values, mean: Values, variance: Values, noise: np.float32) -> Values:
    """The linear estimate of least mean square error, for multiplicative noise."""
    signal = (variance - np.square(mean) * noise) / (np.float32(1) + noise)
    weight = np.maximum(signal, np.float32(0)) / np.maximum(variance, np.float32(1e-30))
    estimate: Values = mean + weight * (own - mean)
    return estimate


def _gamma_map(own: Values, mean: Values, variance: Values, noise: np.float32) -> Values:
    """The likeliest value where both speckle and backscatter follow gamma distributions.

    As smooth as speckle: the mean. Twice as rough: a target, kept.
    """
    looks = np.float32(1) / noise
    spread = variance / np.maximum(np.square(mean), np.float32(1e-30))
    shape = (np.float32(1) + noise) / np.maximum(spread - noise, np.float32(1e-6))
    half = (shape - looks - np.float32(1)) * mean
    root = np.sqrt(np.square(half) + np.float32(4) * shape * looks * own * mean)
    between: Values = (half + root) / (np.float32(2) * shape)
    rough = np.where(spread >= np.float32(2) * noise, own, between)
    estimate: Values = np.where(spread <= noise, mean, rough)
    return estimate


def _moments(power: Values, present: Values, count: Values | np.float32) -> tuple[Values, Values]:
    """Mean and variance over whole windows; `count` is how many of their pixels are valid, at least 1."""
    mean: Values = box_sums(power, SIDE) / count
    return mean, np.maximum(box_sums(np.square(power), SIDE) / count - np.square(mean), np.float32(0))


def _beside_the_edge(power: Values, present: Values) -> tuple[Values, Values, Values]:
    """Mean, variance and count of the half window, of eight, that lies on the pixel's side of the strongest edge."""
    choice = _half(power, present)
    sums, squares, count = (_half_sum(values, choice) for values in (power, np.square(power), present))
    known = np.maximum(count, np.float32(1))
    mean = sums / known
    return mean, np.maximum(squares / known - np.square(mean), np.float32(0)), count


HALVES = {
    "left": [(0, 4)] * 7,
    "right": [(3, 7)] * 7,
    "top": [(0, 7)] * 4 + [(0, 0)] * 3,
    "bottom": [(0, 0)] * 3 + [(0, 7)] * 4,
    "top left": [(0, 7 - row) for row in range(7)],
    "bottom right": [(6 - row, 7) for row in range(7)],
    "top right": [(row, 7) for row in range(7)],
    "bottom left": [(0, row + 1) for row in range(7)],
}
"""First and last column (exclusive) of each row of the half windows of 28 pixels; opposite halves stand together."""


def _half(power: Values, present: Values) -> NDArray[np.uint8]:
    """For each pixel the number of its half window.

    The window's nine overlapping 3 x 3 parts give the edge's direction: the largest difference between opposite
    sides. Of these the side is taken whose middle part is more like the pixel's own.
    """
    sums, counts = box_sums(power, 3), box_sums(present, 3)
    every = box_sums(power, SIDE) / np.maximum(box_sums(present, SIDE), np.float32(1))
    height, width = every.shape
    part = {}
    for row in range(3):
        for col in range(3):
            at = (slice(2 * row, 2 * row + height), slice(2 * col, 2 * col + width))
            part[row, col] = np.where(counts[at] > 0, sums[at] / np.maximum(counts[at], np.float32(1)), every)
    pairs = (
        (((0, 0), (1, 0), (2, 0)), ((0, 2), (1, 2), (2, 2))),
        (((0, 0), (0, 1), (0, 2)), ((2, 0), (2, 1), (2, 2))),
        (((0, 1), (0, 0), (1, 0)), ((1, 2), (2, 2), (2, 1))),
        (((0, 1), (0, 2), (1, 2)), ((1, 0), (2, 0), (2, 1))),
    )
    strongest = np.full(every.shape, -1, np.float32)
    choice = np.zeros(every.shape, np.uint8)
    for number, (one, other) in enumerate(pairs):
        first, second = (part[a] + part[b] + part[c] for a, b, c in (one, other))
        edge = np.abs(first - second)
        nearer = np.abs(part[one[1]] - part[1, 1]) <= np.abs(part[other[1]] - part[1, 1])
        stronger = edge > strongest
        strongest = np.where(stronger, edge, strongest)
        choice = np.where(stronger, np.where(nearer, 2 * number, 2 * number + 1), choice).astype(np.uint8)
    return choice


def _half_sum(values: Values, choice: NDArray[np.uint8]) -> Values:
    """Sums over each pixel's half window: rows of it are runs that begin at the left or end at the right."""
    height, width = choice.shape
    from_left, to_right = (
        [np.zeros((values.shape[0], width), np.float32)],
        [np.zeros((values.shape[0], width), np.float32)],
    )
    for step in range(SIDE):
        from_left.append(from_left[-1] + values[:, step : step + width])
        to_right.append(to_right[-1] + values[:, SIDE - 1 - step : SIDE - 1 - step + width])
    found = np.zeros(choice.shape, np.float32)
    for number, runs in enumerate(HALVES.values()):
        total = np.zeros(choice.shape, np.float32)
        for row, (first, last) in enumerate(runs):
            if last > first:
                run = from_left[last] if first == 0 else to_right[last - first]
                total += run[row : row + height]
        np.copyto(found, total, where=choice == number)
    return found
