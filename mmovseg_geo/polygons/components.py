"""Regions of a map, found strip after strip: runs of equal pixels joined with those they touch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmovseg_geo.polygons.strips import Codes, Strip


@dataclass(frozen=True, eq=False)
class Components:
    """The 4-connected regions of a strip, joined with those that come from above.

    Numbers of regions that were open above, their slots, are replaced by numbers of this strip, 0 to n - 1.

    Attributes:
        run: (h, W) number of the run of equal pixels that each pixel lies in, in raster order.
        run_starts: (runs,) pixel of the strip at which each run begins, in raster order.
        of_run: (runs,) region of each run.
        of_slot: (slots,) region of each slot.
        of_above: (W,) region of each pixel of the row above; empty at the top of the map.
        codes: (n,) class code of each region.
        slots: (n,) number under which the region goes on below the strip, -1 where it ends.
        going_on: (slots below,) region of each slot of the next strip.
    """

    run: NDArray[np.int32]
    run_starts: NDArray[np.int64]
    of_run: NDArray[np.int32]
    of_slot: NDArray[np.int32]
    of_above: NDArray[np.int32]
    codes: Codes
    slots: NDArray[np.int32]
    going_on: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Seam:
    """What the last row of a strip hands to the next one.

    Attributes:
        slots: (W,) slot of the region of each pixel.
        open_codes: (slots,) class code of each slot.
    """

    slots: NDArray[np.int32]
    open_codes: Codes


def components(strip: Strip, seam: Seam | None) -> tuple[Components, Seam | None]:
    """The regions of a strip and the seam to the next strip; the seam is None at the top and at the end of the map.

    Runs of equal pixels in a row are joined to runs they touch in the row above: one pass, whatever the classes.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    codes, open_codes = strip.codes, strip.framed[0, :0] if seam is None else seam.open_codes
    height, width = codes.shape
    starts = strip.upright[: height + 1, :-1].copy()
    starts[:, 0] = True
    begins = starts[1:].ravel()
    before = len(open_codes)
    node = np.empty((height + 1, width), np.int32)
    node[0] = 0 if seam is None else seam.slots
    np.cumsum(begins, dtype=np.int32, out=node[1:].reshape(-1))
    node[1:] += before - 1
    # Where two runs overlap, the overlap begins where one of them does: one link for each, not one per pixel.
    touching = ~strip.level[:height, 1:-1] & (starts[1:] | starts[:-1])
    if seam is None:
        touching[0] = False
    linked = np.flatnonzero(touching)
    above, below = node[:-1].reshape(-1)[linked], node[1:].reshape(-1)[linked]
    run_starts = np.flatnonzero(begins)
    count = before + len(run_starts)
    order = np.argsort(above, kind="stable") if before else np.arange(len(above))
    ends = np.concatenate([[0], np.cumsum(np.bincount(above, minlength=count))])
    links = csr_array((np.ones(len(above)), below[order], ends.astype(np.int32)), shape=(count, count))
    number, component = connected_components(links, directed=False)
    found = np.zeros(number, codes.dtype)
    found[component[:before]] = open_codes
    found[component[before:]] = codes.ravel()[run_starts]
    slots = np.full(number, -1, np.int32)
    going_on, following = np.empty(0, np.int32), None
    if not strip.is_last:
        # Numbered along the last row.
        last = component[node[-1]]
        going_on = np.unique(last)
        slots[going_on] = np.arange(len(going_on), dtype=np.int32)
        following = Seam(slots[last], found[going_on])
    of_slot = component[:before]
    of_above = of_slot if seam is None else of_slot[seam.slots]
    run = node[1:] - before
    return Components(run, run_starts, component[before:], of_slot, of_above, found, slots, going_on), following
