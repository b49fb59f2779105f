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

    Each cycle begins with its smallest element; cycles come in the order of these.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import depth_first_order

    count = len(following)
    if not count:
        return following, np.empty(0, np.int64)
    elements = np.arange(count, dtype=np.int32)
    # An element that is smaller than both of its neighbors may be the smallest of its cycle.
    may_be_first = np.zeros(count, bool)
    may_be_first[following[following <= elements]] = True
    may_be_first &= following >= elements
    first = np.flatnonzero(may_be_first)
    # A signpost for each points to it and then to the next signpost. Whoever follows all arrows from the first signpost
    # on, as far as they lead to something new, walks cycle after cycle, in compiled code.
    arrows = np.empty(count + 2 * len(first), np.int32)
    arrows[:count] = following
    arrows[count::2] = first
    arrows[count + 1 :: 2] = np.arange(count + 1, count + len(first) + 1)
    arrows[-1] = count  # the last one leads to nothing new
    begins = np.append(elements, np.arange(count, len(arrows) + 1, 2, dtype=np.int32))
    signposts = csr_array((np.ones(len(arrows)), arrows, begins), shape=(len(begins) - 1,) * 2)
    walk = depth_first_order(signposts, count, return_predecessors=False)
    is_element = walk < count
    starts = np.flatnonzero(~is_element) - np.arange(len(first))
    lengths = np.diff(starts, append=count)
    return np.asarray(walk[is_element]), lengths[lengths > 0]
