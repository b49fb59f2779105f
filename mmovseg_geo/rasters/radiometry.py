"""Reflectance and backscatter to 0..255, the range models expect: decided once per scene, with the reason in words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Values = NDArray[np.float32]

Kind = Literal["linear", "db", "power", "amplitude"]

BRIGHT_REFLECTANCE = 0.3
"""Reflectance shown as 255: land and water spread over the range, clouds and snow saturate."""
CO_POLARIZED_DB = (-25.0, 0.0)
CROSS_POLARIZED_DB = (-32.0, -7.0)
SENTINEL_2_GAIN = 1e-4
SENTINEL_2_OFFSET_DN = -1000.0
"""Added to reflectance x 10000 of Sentinel-2 since processing baseline 04.00 (January 2022)."""
LANDSAT_GAIN, LANDSAT_OFFSET = 2.75e-5, -0.2
"""Surface reflectance of Landsat collection 2."""
STRETCH_PERCENT = (1.0, 99.0)
NEPER = 0.1 * math.log(10.0)
"""Natural logarithm of the power ratio of one decibel."""
FLOOR_POWER = 1e-10
"""-100 dB: power and amplitude at or below zero have no logarithm."""


@dataclass(frozen=True)
class Scaling:
    """How the values of a file become 0..255; the same for every pixel of a scene.

    Physical value = stored value * gain + offset. `low` and `high` (one per band) are what 0 and 255 stand for:
    in dB for the backscatter kinds, in physical values for `linear`.
    """

    name: str
    kind: Kind
    low: tuple[float, ...]
    high: tuple[float, ...]
    why: str
    gain: float = 1.0
    offset: float = 0.0

    def averageable(self, raw: Values) -> Values:
        """Stored values (N, H, W) as what may be averaged: power for backscatter, else the physical value."""
        physical = self._physical(raw)
        if self.kind == "db":
            power: Values = np.exp(physical * np.float32(NEPER))  # numpy's exp is 3 times as fast as its power
            return power
        if self.kind == "amplitude":
            return np.square(physical)
        return physical

    def finished(self, averaged: Values) -> Values:
        """What `averageable` gave, averaged or not, to 0..255 (N, H, W)."""
        if self.kind == "linear":
            return self._stretched(averaged)
        return self._stretched(np.float32(10) * np.log10(np.maximum(averaged, np.float32(FLOOR_POWER))))

    def apply(self, raw: Values) -> Values:
        """Stored values (N, H, W) to 0..255 where nothing is averaged in between."""
        if self.kind == "db":
            return self._stretched(self._physical(raw))
        return self.finished(self.averageable(raw))

    def describe(self) -> dict[str, Any]:
        """The scaling in JSON-able values."""
        unit = "" if self.kind == "linear" else " dB"
        spans = sorted({f"{low:g}{unit} .. {high:g}{unit}" for low, high in zip(self.low, self.high, strict=True)})
        return {
            "scaling": self.name,
            "why": self.why,
            "shown_range": [[low, high] for low, high in zip(self.low, self.high, strict=True)],
            "unit": "dB" if unit else "value",
            "gain": self.gain,
            "offset": self.offset,
            "words": f"{self.name}: {' and '.join(spans)} become 0 .. 255 ({self.why})",
        }

    def _physical(self, raw: Values) -> Values:
        if self.gain == 1.0 and self.offset == 0.0:
            return raw
        physical: Values = raw * np.float32(self.gain) + np.float32(self.offset)
        return physical

    def _stretched(self, values: Values) -> Values:
        low = np.asarray(self.low, np.float32)[:, None, None]
        span = np.asarray([high - low for low, high in zip(self.low, self.high, strict=True)], np.float32)
        shown: Values = values - low
        shown *= (np.float32(255) / span)[:, None, None]
        np.clip(shown, np.float32(0), np.float32(255), out=shown)
        return shown


def as_is(why: str, planes: int) -> Scaling:
    """8-bit values stay what they are."""
    return Scaling("8bit", "linear", (0.0,) * planes, (255.0,) * planes, why)


def reflectance(name: str, why: str, *, gain: float = 1.0, offset: float = 0.0) -> Scaling:
    """Reflectance of three bands from stored values."""
    return Scaling(name, "linear", (0.0,) * 3, (BRIGHT_REFLECTANCE,) * 3, why, gain, offset)


def stretch(sample: Values, why: str) -> Scaling:
    """One span for all bands together, so that hues stay: 1 to 99 % of the sampled values (N, n)."""
    low, high = percentiles(sample, STRETCH_PERCENT)
    low, high = apart(low, high)
    return Scaling("stretch", "linear", (low,) * len(sample), (high,) * len(sample), why)


def percentiles(sample: Values, percent: tuple[float, ...]) -> list[float]:
    """Percentiles of all sampled values, rounded to what float32 can repeat."""
    return [float(np.float32(value)) for value in np.percentile(sample, percent)]


def apart(low: float, high: float) -> tuple[float, float]:
    return (low, high) if high > low else (low - 0.5, low + 0.5)
