"""What is counted of regions while strips go by: pixels, ground, confidence, where they begin and end."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from mmovseg_geo.polygons.components import Components
from mmovseg_geo.polygons.strips import Strip

Sums = NDArray[np.float64]
"""Whole numbers below 2 ** 53: their sums are exact, so they do not depend on where a map is cut into strips."""


@dataclass(frozen=True, eq=False)
class Tally:
    """Counts of regions, one of each.

    Attributes:
        first: number of the first pixel in the map, in raster order.
        last: last row.
        pixels: how many.
        ground: area in the units of `Ground`.
        confidence: sum over the pixels that have one, in the units of the strips' values.
        known: how many have a confidence.
    """

    first: NDArray[np.int64]
    last: NDArray[np.int64]
    pixels: Sums
    ground: Sums
    confidence: Sums
    known: Sums

    @classmethod
    def none(cls) -> Tally:
        whole, empty = np.empty(0, np.int64), np.empty(0)
        return cls(whole, whole, empty, empty, empty, empty)

    def taken(self, which: NDArray[np.integer]) -> Tally:
        """The counts of some regions, in the order given."""
        return Tally(*(getattr(self, field.name)[which] for field in fields(self)))


def tally(strip: Strip, found: Components, above: Tally) -> Tally:
    """Counts of the regions of a strip, with those of `above` for the regions that come from there, by slot."""
    height, width = strip.codes.shape
    count, pixels = len(found.codes), height * width
    member = np.concatenate([found.of_slot, found.of_run])
    starts = found.run_starts
    rows = starts // width
    lengths = np.diff(starts, append=pixels).astype(np.float64)

    def total(before: Sums, here: NDArray[np.float64]) -> Sums:
        return np.bincount(member, np.concatenate([before, here]), minlength=count).astype(np.float64)

    first = np.full(count, np.iinfo(np.int64).max)
    # Of several values for one place the last stays: here the first run, and then the last.
    first[found.of_run[::-1]] = starts[::-1] + strip.row * width
    np.minimum.at(first, found.of_slot, above.first)
    last = np.full(count, strip.row - 1, np.int64)
    last[found.of_run] = rows + strip.row
    ground, confidence, valid = strip.measures.ground, strip.measures.confidence, strip.measures.known
    area = lengths
    if ground is not None:
        area = lengths * ground[rows, 0] if ground.shape[1] == 1 else np.add.reduceat(ground.ravel(), starts)
    value = known = np.zeros(len(starts))
    if confidence is not None and valid is not None:
        value = np.add.reduceat(np.where(valid, confidence, 0).ravel(), starts, dtype=np.int64).astype(np.float64)
        known = np.add.reduceat(valid.ravel(), starts, dtype=np.int64).astype(np.float64)
    return Tally(
        first,
        last,
        total(above.pixels, lengths),
        total(above.ground, area),
        total(above.confidence, value),
        total(above.known, known),
    )
