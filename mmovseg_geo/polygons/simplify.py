"""Outlines with fewer corners: each border is simplified once, when the first of its two regions is complete."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mmovseg_geo.polygons.borders import Borders
from mmovseg_geo.polygons.corners import JUNCTION, Corners, columns_of, rows_of
from mmovseg_geo.polygons.outlines import bends
from mmovseg_geo.polygons.rings import Rings
from mmovseg_geo.polygons.stream import Regions
from mmovseg_geo.polygons.strips import Strip
from mmovseg_geo.polygons.visvalingam import Lines, kept_points

_RING = 3
"""Fewer corners enclose nothing."""
_BITS = 8


class Simplifier:
    """Takes corners out of the outlines of regions, the same out of both sides of a border; the frame of the map stays.

    A border runs from junction to junction, corners where more than two regions meet; or it is a ring. What is left
    of it depends on its own corners and on where others lie, never on which others were simplified before: so it does
    not matter in which strip a region ends. Two bits for each corner of the map remember what was decided.

    Args:
        shape: rows and columns of the map.
        tolerance_px: square root of the area, in pixels, of the bends that are cut off.
    """

    def __init__(self, shape: tuple[int, int], tolerance_px: float) -> None:
        self.shape = shape
        self.largest = tolerance_px**2
        row_bytes = -(-(shape[1] + 1) // _BITS)
        # Of each corner of an outline one bit at least is set: the first while nothing is decided or if it went, the
        # second once it is decided.
        self._open_or_gone = np.zeros((shape[0] + 1, row_bytes), np.uint8)
        self._decided = np.zeros((shape[0] + 1, row_bytes), np.uint8)

    def seen(self, strips: Iterable[Strip]) -> Iterator[Strip]:
        """Pass strips on and remember where their outlines have corners, before regions that end there are thinned.

        Another thread may be some strips ahead: regions that are complete lie in the rows above.
        """
        for strip in strips:
            found = np.packbits(bends(strip), axis=1, bitorder="little")
            self._open_or_gone[strip.row : strip.row + len(found)] = found
            yield strip

    def thinned(self, regions: Regions) -> Regions:
        """Complete regions with fewer corners; none of them loses a ring."""
        rings = regions.rings
        at_frame_corner = np.isin(rows_of(rings.corners), (0, self.shape[0]))
        at_frame_corner &= np.isin(columns_of(rings.corners), (0, self.shape[1]))
        borders = Borders.of(rings, ((rings.corners & JUNCTION) != 0) | at_frame_corner)
        fresh = np.flatnonzero((borders.lengths > 2) | borders.closed)
        fresh = fresh[~self._get(self._decided, borders.corner(1)[fresh])]
        # Where both of its sides end together, a border is there twice.
        keys, which = np.unique(borders.keys[fresh], return_index=True)
        which = fresh[which]
        corners, lengths = borders.lines(which), borders.lengths[which]
        closed, loops = borders.closed[which], borders.loops[which]
        bent = np.isin(keys, _stay_bent(borders, regions.shells))
        least = np.where(closed, _RING, np.where(loops, _RING + 1, np.where(bent, 3, 2)))
        lines = Lines(columns_of(corners), rows_of(corners), lengths, closed, least)
        kept = kept_points(lines, self.largest, self._is_corner)
        self._decide(lines, kept)
        gone = self._get(self._decided, rings.corners) & self._get(self._open_or_gone, rings.corners)
        left = np.add.reduceat(~gone, rings.starts, dtype=np.int64)
        return replace(regions, rings=Rings(rings.corners[~gone], left, rings.owners))

    def _decide(self, lines: Lines, kept: NDArray[np.bool_]) -> None:
        inner = np.ones(len(kept), bool)
        starts = np.cumsum(lines.lengths) - lines.lengths
        inner[starts[~lines.closed]] = inner[(starts + lines.lengths - 1)[~lines.closed]] = False
        place, bit = self._bit(lines.y[inner], lines.x[inner])
        np.bitwise_or.at(self._decided.reshape(-1), place, bit)
        stays = kept[inner]
        np.bitwise_xor.at(self._open_or_gone.reshape(-1), place[stays], bit[stays])

    def _is_corner(self, x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.bool_]:
        place, bit = self._bit(y, x)
        return np.asarray(((self._open_or_gone.reshape(-1)[place] | self._decided.reshape(-1)[place]) & bit) != 0)

    def _get(self, bits: NDArray[np.uint8], corners: Corners) -> NDArray[np.bool_]:
        place, bit = self._bit(rows_of(corners), columns_of(corners))
        return np.asarray((bits.reshape(-1)[place] & bit) != 0)

    def _bit(self, row: NDArray[np.int64], column: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Byte and bit of corners."""
        return row * self._decided.shape[1] + (column >> 3), np.left_shift(1, column & 7).astype(np.uint8)


def _stay_bent(borders: Borders, shells: NDArray[np.int64]) -> NDArray[np.int64]:
    """Keys of borders that keep a corner, lest a region between two borders vanishes when both become straight.

    It is the one that reaches further down: so it is known when the first region beside it ends.
    """
    count = np.bincount(borders.ring, minlength=len(borders.rings.lengths))
    of_two = np.zeros(len(count), bool)
    of_two[shells] = count[shells] == 2
    both = np.flatnonzero(of_two[borders.ring])
    lengths = borders.lengths[both]
    rows = rows_of(borders.lines(both))
    lowest = np.maximum.reduceat(rows, np.cumsum(lengths) - lengths) if len(both) else lengths
    order = np.lexsort((borders.keys[both], lengths, lowest, borders.ring[both]))
    return np.asarray(borders.keys[both[order[1::2]]])
