"""Numbers of a Sentinel-1 GRD to backscatter, and its border noise found, window by window.

Every step looks at absolute positions and at pixels no farther than a halo, so that a pixel comes out the same in any
window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mmovseg_geo.rasters.box import sums_around

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mmovseg_geo.rasters.source import Pixels

    Positions = NDArray[np.float64]
    Values = NDArray[np.float32]
    Mask = NDArray[np.bool_]

REACH = 4
"""Border noise is told from means over 9 x 9 pixels."""
BELOW_NOISE = 0.25
"""No measured place is darker, on average, than this share of the noise that the instrument itself adds."""
DARKEST = 10.0**-3.5
"""The same as sigma nought, -35 dB, where the noise is not known: it is -22 to -30 dB for Sentinel-1."""
DARKEST_NUMBER = 7.0
"""The same in plain numbers of a GRD, whose calibration constants are 300 to 700."""


@dataclass(frozen=True, eq=False)
class Vectors:
    """A quantity given at some lines (L,) and samples (S,) of an image as values (L, S), linear in between."""

    lines: Positions
    samples: Positions
    values: Positions

    @classmethod
    def of(cls, vectors: Sequence[tuple[float, Positions, Positions]]) -> Vectors:
        """From (line, samples, values) of each vector; the samples need not be the same."""
        vectors = sorted(vectors, key=lambda vector: vector[0])
        samples = np.unique(np.concatenate([samples for _, samples, _ in vectors]))
        return cls(
            np.array([line for line, _, _ in vectors]),
            samples,
            np.stack([np.interp(samples, own, values) for _, own, values in vectors]),
        )

    def __call__(self, rows: Positions, cols: Positions) -> Positions:
        """Values (H, W) at lines `rows` (H,) and samples `cols` (W,); beyond the given ones the nearest hold."""
        first, down = _between(rows, self.lines)
        left, along = _between(cols, self.samples)
        right, low = np.minimum(left + 1, len(self.samples) - 1), np.minimum(first + 1, len(self.lines) - 1)
        at_samples = self.values[:, left] * (1.0 - along) + self.values[:, right] * along
        found: Positions = at_samples[first] * (1.0 - down)[:, None] + at_samples[low] * down[:, None]
        return found


@dataclass(frozen=True, eq=False)
class NoiseBlock:
    """How thermal noise changes along the lines of one part of an image: factors (n,) at lines (n,).

    Attributes:
        rows, cols: first and last (inclusive) line and sample of the part.
    """

    rows: tuple[int, int]
    cols: tuple[int, int]
    lines: Positions
    factors: Positions


@dataclass(frozen=True, eq=False)
class Noise:
    """Thermal noise, in squared numbers: along range everywhere, times a factor along azimuth where there is one."""

    along_range: Vectors
    blocks: tuple[NoiseBlock, ...] = ()

    def __call__(self, rows: Positions, cols: Positions) -> Positions:
        """Noise (H, W) at lines `rows` and samples `cols`."""
        found = self.along_range(rows, cols)
        for block in self.blocks:
            down = slice(*np.searchsorted(rows, (block.rows[0], block.rows[1] + 1)))
            along = slice(*np.searchsorted(cols, (block.cols[0], block.cols[1] + 1)))
            if down.start < down.stop and along.start < along.stop:
                found[down, along] *= np.interp(rows[down], block.lines, block.factors)[:, None]
        return found


@dataclass(frozen=True, eq=False)
class Calibration:
    """What the annotation of a GRD says of its numbers.

    Attributes:
        sigma: sigma nought is (number^2 - noise) / sigma^2; None leaves the numbers as they are.
        noise: thermal noise to subtract; None where it is not known.
        scale: lines and samples of the annotation for one row and column of the file; 1 but for thinned copies.
    """

    sigma: Vectors | None = None
    noise: Noise | None = None
    scale: tuple[float, float] = (1.0, 1.0)

    halo = 2 * REACH

    @property
    def words(self) -> str:
        """What is done, for `info`."""
        if self.sigma is None:
            return "border noise is no data"
        denoised = "thermal noise subtracted, " if self.noise is not None else ""
        return f"calibrated to sigma nought by the annotation, {denoised}border noise is no data"

    def measured(self, numbers: Values, valid: Mask, rows: Positions, cols: Positions) -> Pixels:
        """Backscatter and validity of a window whose outer `halo` pixels have only served to find border noise.

        Args:
            numbers: (N, H, W), 0 where not `valid` (H, W).
            rows, cols: (H,) and (W,) pixel coordinates of the window's centers.
        """
        for band in numbers:
            valid = valid & ~_border_noise(np.square(band), valid, self._darkest(rows, cols))
        return self.apply(numbers, valid, rows, cols)

    def apply(self, numbers: Values, valid: Mask, rows: Positions, cols: Positions) -> Pixels:
        """Backscatter, as power, of pixels at any positions; border noise is not looked for."""
        if self.sigma is None:
            return np.where(valid, numbers, np.float32(0)), valid
        power = np.square(numbers)
        if self.noise is not None:
            power = np.maximum(power - self.noise(*self._own(rows, cols)).astype(np.float32), np.float32(0))
        gain = 1.0 / np.square(self.sigma(*self._own(rows, cols)))
        return np.where(valid, power * gain.astype(np.float32), np.float32(0)), valid

    def _darkest(self, rows: Positions, cols: Positions) -> Values:
        """Squared numbers (H, W) that no measured place stays below."""
        darkest: Values = np.full((len(rows), len(cols)), DARKEST_NUMBER**2, np.float32)
        if self.noise is not None:
            darkest = (BELOW_NOISE * self.noise(*self._own(rows, cols))).astype(np.float32)
        elif self.sigma is not None:
            darkest = (DARKEST * np.square(self.sigma(*self._own(rows, cols)))).astype(np.float32)
        return darkest

    def _own(self, rows: Positions, cols: Positions) -> tuple[Positions, Positions]:
        """Lines and samples of the annotation, which counts from the middle of the first pixel."""
        return rows * self.scale[0] - 0.5, cols * self.scale[1] - 0.5


def _border_noise(power: Values, valid: Mask, darkest: Values) -> Mask:
    """Pixels that were not measured, though their numbers are not zero.

    A place is too dark where the mean over its 9 x 9 pixels is; from there border noise reaches up to 4 pixels toward
    the image, as far as single pixels are too dark.
    """
    count = sums_around(valid.astype(np.float32), REACH)
    mean = sums_around(np.where(valid, power, np.float32(0)), REACH) / np.maximum(count, np.float32(1))
    dark: Mask = valid & (mean < darkest)
    if dark.any():
        dark = dark | (valid & (power < darkest) & (sums_around(dark.astype(np.float32), REACH) > 0))
    return dark


def _between(at: Positions, known: Positions) -> tuple[NDArray[np.int64], Positions]:
    """The last known position at or before each, kept inside, and how far it is to the next one, 0..1."""
    if len(known) == 1:
        return np.zeros(len(at), np.int64), np.zeros(len(at))
    first = np.clip(np.searchsorted(known, at, side="right") - 1, 0, len(known) - 2)
    return first, np.clip((at - known[first]) / (known[first + 1] - known[first]), 0.0, 1.0)
