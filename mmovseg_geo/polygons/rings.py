"""Many lines of corners in a few arrays, one line after the other: closed rings, chains, borders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmovseg_geo.polygons.corners import SADDLE, Corners, places

Numbers = NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class Rings:
    """Closed lines; the last corner of each is joined to its first, which is not repeated.

    Attributes:
        corners: (n,) corners, ring after ring.
        lengths: (rings,) how many each has.
        owners: (rings,) number of the region that each borders, the region at its right hand.
    """

    corners: Corners
    lengths: NDArray[np.int64]
    owners: NDArray[np.int64]

    @classmethod
    def none(cls) -> Rings:
        empty = np.empty(0, np.int64)
        return cls(empty, empty, empty)

    @property
    def starts(self) -> NDArray[np.int64]:
        """(rings,) where each begins in `corners`."""
        return np.cumsum(self.lengths) - self.lengths

    def taken(self, which: Numbers) -> Rings:
        """Some rings, in the order given."""
        lengths = self.lengths[which]
        return Rings(self.corners[spread(self.starts[which], lengths)], lengths, self.owners[which])

    def owned_by(self, numbers: Numbers) -> Rings:
        """The same rings under other numbers: `numbers[owner]`."""
        return Rings(self.corners, self.lengths, numbers[self.owners].astype(np.int64))

    def from_first_corner(self) -> Rings:
        """The same rings, each beginning at its first corner in raster order."""
        if not len(self.lengths):
            return self
        starts = self.starts
        bare = places(self.corners)
        lowest = np.repeat(np.minimum.reduceat(bare, starts), self.lengths)
        first = np.flatnonzero(bare == lowest) - starts
        within = spread(np.zeros_like(starts), self.lengths) + np.repeat(first, self.lengths)
        sizes = np.repeat(self.lengths, self.lengths)
        within -= np.where(within >= sizes, sizes, 0)
        return Rings(self.corners[within + np.repeat(starts, self.lengths)], self.lengths, self.owners)

    def never_touching_themselves(self) -> Rings:
        """Rings that pass a corner twice become two rings that touch there, as valid polygons want it.

        The new ones lie at the end, each from its first corner on.
        """
        marked = np.flatnonzero(self.corners & SADDLE)
        ring = np.searchsorted(np.cumsum(self.lengths), marked, side="right")
        order = np.lexsort((self.corners[marked], ring))
        marked, ring = marked[order], ring[order]
        twice = np.flatnonzero((self.corners[marked[1:]] == self.corners[marked[:-1]]) & (ring[1:] == ring[:-1]))
        if not len(twice):
            return self
        touching = np.zeros(len(self.lengths), bool)
        touching[ring[twice]] = True
        old, place = self.taken(np.flatnonzero(touching)), np.cumsum(np.repeat(touching, self.lengths)) - 1
        following = np.arange(1, len(old.corners) + 1, dtype=np.int32)
        following[np.cumsum(old.lengths) - 1] = old.starts
        one, other = place[marked[twice]], place[marked[twice + 1]]
        following[one], following[other] = following[other], following[one]
        walk, lengths = walked(following)
        first = walk[np.cumsum(lengths) - lengths]
        owners = np.repeat(old.owners, old.lengths)[first]
        split = Rings(old.corners[walk], lengths, owners).from_first_corner()
        return joined([self.taken(np.flatnonzero(~touching)), split])


def joined(parts: Sequence[Rings]) -> Rings:
    """All rings of several collections."""
    return Rings(
        np.concatenate([part.corners for part in parts]),
        np.concatenate([part.lengths for part in parts]),
        np.concatenate([part.owners for part in parts]),
    )


def spread(starts: Numbers, lengths: Numbers) -> NDArray[np.int64]:
    """Places `start, start + 1, …` of all lines, one line after the other."""
    before = np.cumsum(lengths) - lengths
    return np.asarray(np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths))


def walked(following: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The cycles of a permutation: its elements, cycle after cycle, and the cycles' lengths.

    Each cycle begins with its smallest element.
    """
    from scipy.sparse.csgraph import connected_components, depth_first_order

    count = len(following)
    if not count:
        return following, np.empty(0, np.int64)
    number, cycle = connected_components(_arrows(following), directed=True, connection="strong")
    elements = np.arange(count, dtype=np.int32)
    first = np.empty(number, np.int32)
    # Of several values for one place the last stays: here the smallest.
    first[cycle[::-1]] = elements[::-1]
    before = np.empty_like(following)
    before[following] = elements
    path = following.copy()
    # The end of a cycle leads on to the next cycle: one path through everything, walked by compiled code.
    path[before[first[:-1]]] = first[1:]
    walk = depth_first_order(_arrows(path), first[0], return_predecessors=False)
    return np.asarray(walk), np.bincount(cycle).astype(np.int64)


def _arrows(following: NDArray[np.int32]) -> Any:
    """Sparse graph with one arrow from each element to the next."""
    from scipy.sparse import csr_array

    count = len(following)
    return csr_array((np.ones(count), following, np.arange(count + 1, dtype=np.int32)), shape=(count, count))
