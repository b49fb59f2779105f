"""Regions of a map as polygons, handed out as soon as they are complete; memory holds what is still open."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mmovseg_geo.polygons.components import Components, Seam, components
from mmovseg_geo.polygons.corners import places, rows_of
from mmovseg_geo.polygons.outlines import Chains, Nodes, nodes_of, trace
from mmovseg_geo.polygons.rings import Rings, joined
from mmovseg_geo.polygons.strips import UNTRACED, Codes, Strip
from mmovseg_geo.polygons.tally import Tally, tally
from mmovseg_geo.stages import ahead


@dataclass(frozen=True, eq=False)
class Regions:
    """Complete regions: what was counted of them and their outlines.

    Attributes:
        codes: (n,) class code of each.
        counts: of each.
        rings: outlines; owners are the places of the regions here, rising; of each region the shell comes first.
        shells: (n,) ring that is the shell of each.
    """

    codes: Codes
    counts: Tally
    rings: Rings
    shells: NDArray[np.int64]

    def without(self, code: int) -> Regions:
        """The regions of other codes."""
        left = self.codes != code
        if left.all():
            return self
        which = np.flatnonzero(left[self.rings.owners])
        rings = self.rings.taken(which).owned_by(np.cumsum(left) - 1)
        shells = np.flatnonzero(np.diff(rings.owners, prepend=-1))
        return Regions(self.codes[left], self.counts.taken(np.flatnonzero(left)), rings, shells)


@dataclass
class _Waiting:
    """Closed rings of regions that are still open: holes of what spans many strips. Owners are slots."""

    parts: list[Rings] = field(default_factory=list)

    def released(self, found: Components) -> list[Rings]:
        """Rings of regions that end in a strip, owned by its regions; the others get the slots of the next."""
        ended = []
        for number, part in enumerate(self.parts):
            region = np.where(part.owners < 0, 0, found.of_slot[part.owners])
            slots = np.where(part.owners < 0, -1, found.slots[region])
            ending = np.flatnonzero((part.owners >= 0) & (slots < 0))
            if len(ending):
                ended.append(replace(part, owners=region).taken(ending))
            part = replace(part, owners=slots)
            if part.lengths[slots < 0].sum() > len(part.corners) // 2:
                part = part.taken(np.flatnonzero(slots >= 0))
            self.parts[number] = part
        self.parts = [part for part in self.parts if len(part.lengths)]
        return ended


def complete_regions(strips: Iterable[Strip]) -> Iterator[Regions]:
    """The regions of a map in the order in which they end, from top to bottom; of those that end in a row, the one
    that began first comes first. The same whatever the heights of the strips.

    Strips are read, and their pixels looked at, in another thread while the outlines of the one before are traced.
    """
    chains, waiting = Chains.none(), _Waiting()
    for strip, found, counts, nodes in ahead(_looked_at(strips), name="strips"):
        closed, chains = trace(strip, nodes, found, chains)
        ending = np.flatnonzero((found.slots < 0) & (found.codes != UNTRACED))
        ending = ending[np.lexsort((counts.first[ending], counts.last[ending]))]
        place = np.full(len(found.codes), -1)
        place[ending] = np.arange(len(ending))
        ends = found.slots[closed.owners] < 0
        rings = joined([closed.taken(np.flatnonzero(ends)), *waiting.released(found)])
        waiting.parts.append(closed.taken(np.flatnonzero(~ends)).owned_by(found.slots))
        if len(ending):
            yield _assembled(rings.owned_by(place), found.codes[ending], counts.taken(ending))


def _looked_at(strips: Iterable[Strip]) -> Iterator[tuple[Strip, Components, Tally, Nodes]]:
    """Strips with what is known of their pixels before outlines are traced."""
    seam: Seam | None = None
    open_counts = Tally.none()
    for strip in strips:
        found, seam = components(strip, seam)
        counts = tally(strip, found, open_counts)
        open_counts = counts.taken(found.going_on)
        yield strip, found, counts, nodes_of(strip)


def _assembled(rings: Rings, codes: Codes, counts: Tally) -> Regions:
    """Regions whose rings are sorted: shell, then holes as they begin."""
    rings = rings.never_touching_themselves()
    first = places(rings.corners[rings.starts])
    # From its upper left corner, a shell goes east and the border of a hole south.
    is_hole = rows_of(rings.corners[rings.starts + 1]) != rows_of(first)
    order = np.lexsort((first, is_hole, rings.owners))
    return Regions(codes, counts, rings.taken(order), np.flatnonzero(~is_hole[order]))
