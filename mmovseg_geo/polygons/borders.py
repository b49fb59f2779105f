"""Borders between two regions: the parts of rings from junction to junction, told the same from both of their sides."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mmovseg_geo.polygons.corners import MARK_BITS, Corners, places, rows_of
from mmovseg_geo.polygons.rings import Rings, spread

EAST, SOUTH, WEST, NORTH = range(4)


@dataclass(frozen=True, eq=False)
class Borders:
    """The borders of rings, ring after ring; a ring without junctions is one closed border.

    Attributes:
        rings: the rings.
        ring: (n,) ring of each border.
        start: (n,) where in `rings.corners` it begins.
        lengths: (n,) corners of each, both ends included.
        closed: (n,) whether it is a ring without junctions.
        loops: (n,) whether it ends at the junction where it begins.
        keys: (n,) what tells it from all others: of its two ends, or directions, the first in raster order.
        backward: (n,) whether it starts, seen from that end, at the other end.
    """

    rings: Rings
    ring: NDArray[np.int64]
    start: NDArray[np.int64]
    lengths: NDArray[np.int64]
    closed: NDArray[np.bool_]
    loops: NDArray[np.bool_]
    keys: NDArray[np.int64]
    backward: NDArray[np.bool_]

    @classmethod
    def of(cls, rings: Rings, is_junction: NDArray[np.bool_]) -> Borders:
        """The borders of rings that begin at their first corner in raster order."""
        starts, ends = rings.starts, np.cumsum(rings.lengths)
        junctions = np.flatnonzero(is_junction)
        ring = np.searchsorted(ends, junctions, side="right")
        count = np.bincount(ring, minlength=len(ends))
        free = np.flatnonzero(count == 0)
        ring = np.concatenate([ring, free])
        start = np.concatenate([junctions, starts[free]])
        closed = np.arange(len(start)) >= len(junctions)
        order = np.argsort(ring, kind="stable")
        ring, start, closed = ring[order], start[order], closed[order]
        # The next junction of the same ring, which may be the first again.
        is_last = np.append(ring[1:] != ring[:-1], True)
        is_first = np.append(True, is_last[:-1])
        stop = np.append(start[1:], 0)
        stop[is_last] = start[is_first] + rings.lengths[ring[is_last]]
        lengths = stop - start + ~closed
        borders = cls(rings, ring, start, lengths, closed, is_first & is_last & ~closed, start, closed)
        ahead = _ray(borders.corner(0), borders.corner(1))
        back = _ray(borders.corner(lengths - 1), borders.corner(lengths - 2))
        # A ring goes from its first corner eastward first.
        southward = ahead >> MARK_BITS & 3 == SOUTH
        keys = np.where(closed, places(borders.corner(0)), np.minimum(ahead, back))
        return replace(borders, keys=keys, backward=np.where(closed, southward, back < ahead))

    def corner(self, number: NDArray[np.int64] | int) -> Corners:
        """The corner of each border that has a number from its start."""
        return np.asarray(self.rings.corners[self._wrapped(self.start + number, self.ring)])

    def lines(self, which: NDArray[np.integer]) -> Corners:
        """The corners of some borders, border after border, the same from whichever side they are told."""
        lengths = self.lengths[which]
        number = spread(np.zeros_like(lengths), lengths)
        last = np.repeat(lengths - 1 + self.closed[which], lengths)
        number = np.where(np.repeat(self.backward[which], lengths), last - number, number)
        ring = np.repeat(self.ring[which], lengths)
        return np.asarray(self.rings.corners[self._wrapped(np.repeat(self.start[which], lengths) + number, ring)])

    def _wrapped(self, place: NDArray[np.int64], ring: NDArray[np.int64]) -> NDArray[np.int64]:
        lengths = self.rings.lengths[ring]
        return np.asarray(np.where(place >= self.rings.starts[ring] + lengths, place - lengths, place))


def _ray(corner: Corners, toward: Corners) -> Corners:
    """A corner and the direction in which another lies, as one number that sorts by the corner."""
    level = rows_of(corner) == rows_of(toward)
    ahead = places(toward) > places(corner)
    direction = np.where(level, np.where(ahead, EAST, WEST), np.where(ahead, SOUTH, NORTH))
    return np.asarray(places(corner) | direction << MARK_BITS)
