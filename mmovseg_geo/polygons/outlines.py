"""Outlines of regions, traced strip after strip: what a strip leaves open goes on in the next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmovseg_geo.polygons.components import Components
from mmovseg_geo.polygons.corners import JUNCTION, SADDLE, Corners, corners_at
from mmovseg_geo.polygons.rings import Rings, joined, spread, walked
from mmovseg_geo.polygons.strips import UNTRACED, Codes, Strip

EAST, SOUTH, WEST, NORTH = range(4)


@dataclass(frozen=True, eq=False)
class Chains:
    """Open borders of regions, the region at the right hand: they come up from below a strip and go down again.

    Attributes:
        lines: their corners; `owners` are slots.
        heads: (chains,) column in which each comes up.
        tails: (chains,) column in which each goes down; each column has one head at most and one tail.
    """

    lines: Rings
    heads: NDArray[np.int64]
    tails: NDArray[np.int64]

    @classmethod
    def none(cls) -> Chains:
        return cls(Rings.none(), np.empty(0, np.int64), np.empty(0, np.int64))


@dataclass(frozen=True, eq=False)
class Nodes:
    """Corners where borders turn or meet: first the ends of borders that come from above, then those of the strip.

    Attributes:
        entering: how many are ends of borders from above; they have a column, but no place in the strip.
        rows: (n,) row of the corner in the strip.
        columns: (n,) its column.
        ahead: (n, 4) code of the pixel ahead at the right hand, for each direction.
        exists: (n, 4) whether a border with a region at its right hand starts here in each direction.
        corners: (n,) the corner in the map, with its marks.
        above, below: (n,) next node in the same column, -1 where there is none.
        lowest: (W + 1,) last node of each column, -1 where there is none.
    """

    entering: int
    rows: NDArray[np.int32]
    columns: NDArray[np.int32]
    ahead: Codes
    exists: NDArray[np.bool_]
    corners: Corners
    above: NDArray[np.int32]
    below: NDArray[np.int32]
    lowest: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class _Steps:
    """Straight steps along the border of a region, the region at the right hand: from node to node.

    Attributes:
        start: (m,) node where each step begins; steps are ordered by node, then by direction.
        direction: (m,) its direction.
        following: (m,) the step that goes on along the same border.
        chain: (m,) the chain whose last step it is, -1 for steps of this strip.
        head: (m,) column in which a chain that begins with it comes up, else -1.
        tail: (m,) column in which a chain that ends with it goes down, else -1.
    """

    start: NDArray[np.int32]
    direction: NDArray[np.int32]
    following: NDArray[np.int32]
    chain: NDArray[np.int32]
    head: NDArray[np.int64]
    tail: NDArray[np.int64]


def trace(strip: Strip, nodes: Nodes, found: Components, chains: Chains) -> tuple[Rings, Chains]:
    """Rings that are closed at the end of the strip, owned by regions of the strip, and chains that go on below.

    At a corner, a border stays at the pixel that it follows: so it never depends on pixels of later strips, and passes
    corners twice where a region touches itself. Borders that meet have the same corners along their common edge, also
    where a third region ends on it (GDAL's polygonize leaves these out): the polygons are a valid coverage.
    """
    steps = _steps(nodes, strip, chains)
    walk, lengths = walked(steps.following)
    ends = np.cumsum(lengths)
    across = np.flatnonzero(((steps.chain >= 0) | (steps.tail >= 0))[walk])
    crosses = np.zeros(len(lengths), bool)
    crosses[np.searchsorted(ends, across, side="right")] = True
    inside = ~np.repeat(crosses, lengths)
    first = walk[(ends - lengths)[~crosses]]
    node, direction = steps.start[first], steps.direction[first]
    # The first step in raster order leaves the upper left corner: eastward on a shell, southward around a hole.
    run = found.run[nodes.rows[node], nodes.columns[node] - (direction == SOUTH)]
    closed = Rings(nodes.corners[steps.start[walk[inside]]], lengths[~crosses], found.of_run[run].astype(np.int64))
    crossing, going_on = _across(steps, nodes.corners, walk[~inside], lengths[crosses], chains)
    last_row = found.slots[found.of_run[found.run[-1]]]
    lines = Rings(going_on.lines.corners, going_on.lines.lengths, last_row[going_on.heads].astype(np.int64))
    return joined([closed, crossing.owned_by(found.of_slot)]), Chains(lines, going_on.heads, going_on.tails)


def bends(strip: Strip) -> NDArray[np.bool_]:
    """(h, W + 1), one more row at the end of the map: whether borders turn or meet at the corner above each pixel."""
    upright = strip.upright[:-1] | strip.upright[1:]
    level = strip.level[:, :-1] | strip.level[:, 1:]
    return upright & level


def nodes_of(strip: Strip) -> Nodes:
    """The corners that the borders of a strip lead through, whatever strips came before."""
    width = strip.upright.shape[1]
    rows, columns = np.divmod(np.flatnonzero(bends(strip)).astype(np.int32), np.int32(width))
    pixels, stride = strip.framed.ravel(), strip.framed.shape[1]
    at = rows * np.intp(stride) + columns
    northwest, northeast, southwest, southeast = (pixels[at + offset] for offset in (0, 1, stride, stride + 1))
    # The pixel ahead at the right hand of each direction; that at the left hand is the one of the direction before.
    ahead = (southeast, southwest, northwest, northeast)
    differs = [ahead[direction] != ahead[direction - 1] for direction in range(4)]
    degree = sum(each.view(np.uint8) for each in differs)
    opposite = (northwest == southeast) | (northeast == southwest)
    marks = np.where(degree > 2, JUNCTION, 0) | np.where((degree > 3) & opposite, SADDLE, 0)
    # What comes from above only goes south, with the pixel west of it at its right hand; no others are asked for.
    entry = np.flatnonzero(strip.upright[0]).astype(np.int32)
    around = np.zeros((len(entry) + len(rows), 4), pixels.dtype)
    around[: len(entry), SOUTH] = pixels[entry]
    exists = around != UNTRACED
    for direction in range(4):
        around[len(entry) :, direction] = ahead[direction]
        exists[len(entry) :, direction] = differs[direction] & (ahead[direction] != UNTRACED)
    corners = np.concatenate([np.zeros(len(entry), np.int64), corners_at(rows + strip.row, columns) | marks])
    columns = np.concatenate([entry, columns])
    rows = np.concatenate([np.full(len(entry), -1, np.int32), rows])
    return Nodes(len(entry), rows, columns, around, exists, corners, *_columns_linked(columns, width))


def _columns_linked(columns: NDArray[np.int32], width: int) -> tuple[NDArray[np.int32], ...]:
    """The next node above and below each in its column, and the lowest of each column; -1 where there is none."""
    count = len(columns)
    # Numbers of two bytes are sorted in one pass.
    short = columns.astype(np.uint16) if width <= 1 << 16 else columns
    order = np.argsort(short, kind="stable").astype(np.int32)
    above, below = np.full(count, -1, np.int32), np.full(count, -1, np.int32)
    same = columns[order[1:]] == columns[order[:-1]]
    upper, lower = order[:-1][same], order[1:][same]
    below[upper], above[lower] = lower, upper
    lowest = np.full(width, -1, np.int32)
    lowest[columns[order]] = order
    return above, below, lowest


def _steps(nodes: Nodes, strip: Strip, chains: Chains) -> _Steps:
    existing = np.flatnonzero(nodes.exists).astype(np.int32)
    start, direction = existing >> 2, existing & 3
    number = np.cumsum(nodes.exists.ravel(), dtype=np.int32) - np.int32(1)
    ahead = nodes.ahead.ravel()
    entry = np.full(len(nodes.lowest), -1, np.int32)
    entry[nodes.columns[: nodes.entering]] = np.arange(nodes.entering, dtype=np.int32)
    chain = np.full(len(start), -1, np.int32)
    last_steps = number[entry[chains.tails] * 4 + SOUTH]
    chain[last_steps] = np.arange(len(last_steps), dtype=np.int32)
    at_head = np.full(len(nodes.lowest), -1, np.int32)
    at_head[chains.heads] = last_steps

    def after(stop: NDArray[np.int32], heading: NDArray[np.int32], code: Codes) -> NDArray[np.int32]:
        """The step that goes on from a node where a border of a region of some code arrives."""
        around = stop << 2
        right = ahead[around | heading] == code
        left = right & (ahead[around | (heading - 1) & 3] == code)
        following: NDArray[np.int32] = number[around | (heading + 1 - right.view(np.int8) - left.view(np.int8)) & 3]
        # What comes up to the head of a chain goes on with the chain, which stands for all its steps.
        coming_up = np.flatnonzero(stop < nodes.entering)
        following[coming_up] = at_head[nodes.columns[stop[coming_up]]]
        return following

    stop = start + (1 - direction)
    south, north = np.flatnonzero(direction == SOUTH), np.flatnonzero(direction == NORTH)
    stop[south], stop[north] = nodes.below[start[south]], nodes.above[start[north]]
    following = after(np.maximum(stop, 0), direction, ahead[existing])
    head, tail = np.full(len(start), -1, np.int64), np.full(len(start), -1, np.int64)
    if not strip.is_last:
        # Borders that cross the last row are closed along it, with the other border of the same run, and cut later.
        crossed = np.flatnonzero(strip.upright[-1])
        code = strip.framed[-1, crossed[:-1] + 1]
        traced = code != UNTRACED
        heads, tails = crossed[:-1][traced], crossed[1:][traced]
        going_down = number[nodes.lowest[tails] * 4 + SOUTH]
        coming_up = after(nodes.lowest[heads], np.full(len(heads), NORTH, np.int32), code[traced])
        following[going_down] = coming_up
        head[coming_up], tail[going_down] = heads, tails
    return _Steps(start, direction, following, chain, head, tail)


def _across(
    steps: _Steps, corners: Corners, walk: NDArray[np.integer], lengths: NDArray[np.int64], chains: Chains
) -> tuple[Rings, Chains]:
    """Of rings with steps in other strips those that are closed, owned by slots from above, and the chains of others.

    `walk` holds their steps, ring after ring as `lengths` tells.
    """
    if not len(lengths):
        return Rings.none(), Chains.none()
    ends = np.cumsum(lengths)
    cuts = np.flatnonzero(steps.tail[walk] >= 0)
    # Rings that are cut begin after their last cut, so that each cut is the end of a chain.
    last_cut = ends - 1
    last_cut[np.searchsorted(ends, cuts, side="right")] = cuts
    turned = spread(last_cut + 1, lengths)
    turned -= np.repeat(lengths, lengths) * (turned >= np.repeat(ends, lengths))
    walk = walk[turned]
    is_end = steps.tail[walk] >= 0
    is_end[ends - 1] = True
    stops = np.flatnonzero(is_end) + 1
    begins = np.append(0, stops[:-1])
    chain = steps.chain[walk]
    real = chain < 0
    before = len(chains.lines.corners)
    origin = np.where(real, before + steps.start[walk], chains.lines.starts[chain] if before else 0)
    counts = np.where(real, 1, chains.lines.lengths[chain] if before else 1)
    whole = np.concatenate([chains.lines.corners, corners])[spread(origin, counts)]
    sizes = np.add.reduceat(counts, begins)
    owners = np.full(len(walk), -1, np.int64)
    if before:
        owners[~real] = chains.lines.owners[chain[~real]]
    lines = Rings(whole, sizes, np.maximum.reduceat(owners, begins))
    is_open = steps.tail[walk[stops - 1]] >= 0
    opened = np.flatnonzero(is_open)
    chains = Chains(lines.taken(opened), steps.head[walk[begins[opened]]], steps.tail[walk[stops[opened] - 1]])
    return lines.taken(np.flatnonzero(~is_open)).from_first_corner(), chains
