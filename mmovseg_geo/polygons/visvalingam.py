"""Lines with fewer points, after Visvalingam and Whyatt: the flattest bends go first. Many lines at once.

M. Visvalingam, J. D. Whyatt: Line generalisation by repeated elimination of points. The Cartographic Journal 30, 1993.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmovseg_geo.polygons.rings import spread

Places = NDArray[np.int64]

_NEVER = np.iinfo(np.int64).max
_TIES = 64
"""More than the powers of two in any number of points."""
_ROWS_FIRST = 64
_ROWS_AT_ONCE = 1 << 18
_POINTS_AT_ONCE = 1 << 20


@dataclass(frozen=True, eq=False)
class Lines:
    """Lines of points with whole coordinates, one line after the other.

    Attributes:
        x, y: (n,) coordinates.
        lengths: (lines,) points of each.
        closed: (lines,) whether its last point is joined to its first; the ends of others stay.
        least: (lines,) points that each keeps at least.
    """

    x: Places
    y: Places
    lengths: Places
    closed: NDArray[np.bool_]
    least: Places


Taken = Callable[[Places, Places], NDArray[np.bool_]]
"""Whether points (x, y) are points of any line at all, before any was removed."""


def kept_points(lines: Lines, largest: float, taken: Taken) -> NDArray[np.bool_]:
    """(n,) which points are left when all bends of at most the area `largest` are cut off.

    A bend is the triangle of a point and its neighbors; cutting it off removes the point. Bends that hold another point
    of the line, or one that any other line had from the start, stay: lines never cross or touch anew. Bends that are
    smaller than both of their neighbors are cut off together, round by round. So what happens to a line depends on no
    other line's turn, only on where the points of all lines were.
    """
    bends = _Bends(lines, largest)
    while True:
        chosen = bends.smallest()
        if not len(chosen):
            return bends.kept
        blocked = _blocked(bends, chosen, taken)
        bends.key[chosen[blocked]] = _NEVER
        bends.cut(chosen[~blocked])


def _place(x: Places, y: Places) -> Places:
    return np.asarray((y << 32) | x)


class _Bends:
    """The points of lines that could go, while some of them do."""

    def __init__(self, lines: Lines, largest: float) -> None:
        count = len(lines.x)
        self.x, self.y = lines.x, lines.y
        self.largest = 2 * largest
        starts = np.cumsum(lines.lengths) - lines.lengths
        last = starts + lines.lengths - 1
        self.line = np.repeat(np.arange(len(lines.lengths)), lines.lengths)
        self.spare = lines.lengths - lines.least
        self.kept = np.ones(count, bool)
        self.before, self.after = np.arange(-1, count - 1), np.arange(1, count + 1)
        self.before[starts], self.after[last] = last, starts
        self.fixed = np.zeros(count, bool)
        is_open = ~lines.closed
        self.fixed[starts[is_open]] = self.fixed[last[is_open]] = True
        # Of equal bends every second goes first, then every fourth: regular stairs become one straight line.
        position = np.arange(count) - starts[self.line]
        self.tie = np.where(position > 0, np.frexp(position & -position)[1] - 1, _TIES - 1)
        self.key = np.full(count, _NEVER)
        self._listed = np.zeros(count, bool)
        self._open = np.empty(0, np.int64)
        movable = np.flatnonzero(~self.fixed)
        place = _place(self.x[movable], self.y[movable])
        order = np.argsort(place)
        self._places, self._by_place = place[order], movable[order]
        self._weigh(movable)

    def smallest(self) -> NDArray[np.int64]:
        """Bends that are smaller than their neighbors, no more of any line than it can spare."""
        at = self._open
        chosen = at[self._less(at, self.before[at]) & self._less(at, self.after[at])]
        line = self.line[chosen]
        crowded = np.bincount(line, minlength=len(self.spare)) > self.spare
        if crowded.any():
            # Near the end of what a line can spare, one bend at a time.
            order = chosen[np.lexsort((chosen, self.key[chosen], line))]
            is_first = np.append(True, np.diff(self.line[order]) != 0)
            line = self.line[order]
            chosen = np.sort(order[~crowded[line] | (is_first & (self.spare[line] > 0))])
        return chosen

    def cut(self, points: NDArray[np.int64]) -> None:
        """Remove points, no two of which are neighbors."""
        before, after = self.before[points], self.after[points]
        self.kept[points] = False
        self.key[points] = _NEVER
        self.after[before], self.before[after] = after, before
        self.spare -= np.bincount(self.line[points], minlength=len(self.spare))
        self._weigh(np.unique(np.concatenate([before, after])))

    def _weigh(self, points: NDArray[np.int64]) -> None:
        """Tell anew how large the bends at some points are."""
        points = points[~self.fixed[points]]
        area = np.abs(self.twice_area(points))
        self.key[points] = np.where(area <= self.largest, area * _TIES + self.tie[points], _NEVER)
        fresh = points[~self._listed[points]]
        self._listed[fresh] = True
        at = np.concatenate([self._open, fresh])
        is_open = (self.key[at] < _NEVER) & (self.spare[self.line[at]] > 0)
        self._listed[at[~is_open]] = False
        self._open = at[is_open]

    def twice_area(self, points: NDArray[np.int64]) -> Places:
        before, after = self.before[points], self.after[points]
        x, y = self.x[points], self.y[points]
        return np.asarray(
            (self.x[before] - x) * (self.y[after] - y) - (self.x[after] - x) * (self.y[before] - y), np.int64
        )

    def holds(self, points: NDArray[np.int64], corners: NDArray[np.int64], x: Places, y: Places) -> NDArray[np.bool_]:
        """Whether points (x, y), taken by some line, are in the way of cutting off `points` with bends (3, n)."""
        is_corner = ((self.x[corners] == x) & (self.y[corners] == y)).any(axis=0)
        at = np.minimum(np.searchsorted(self._places, _place(x, y)), len(self._places) - 1)
        own = self._by_place[at]
        # What the line itself has given up is in nobody's way.
        gone = (self._places[at] == _place(x, y)) & (self.line[own] == self.line[points]) & ~self.kept[own]
        return np.asarray(~is_corner & ~gone)

    def _less(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.asarray((self.key[one] < self.key[other]) | ((self.key[one] == self.key[other]) & (one < other)))


def _blocked(bends: _Bends, chosen: NDArray[np.int64], taken: Taken) -> NDArray[np.bool_]:
    """Whether a point that is still there lies in a bend, its edges included."""
    blocked = np.zeros(len(chosen), bool)
    # A triangle of half a unit, the least there is, holds no other point with whole coordinates.
    large = np.flatnonzero(np.abs(bends.twice_area(chosen)) > 1)
    corners = np.stack([bends.before[chosen[large]], chosen[large], bends.after[chosen[large]]])
    corners = np.take_along_axis(corners, np.argsort(bends.y[corners], axis=0, kind="stable"), axis=0)
    x, y = bends.x[corners], bends.y[corners]
    height = y[2] - y[0] + 1
    done = np.zeros(len(large), np.int64)
    while True:
        # Of high bends some rows at a time: most of those that are blocked are so by something near.
        waiting = np.flatnonzero((done < height) & ~blocked[large])
        if not len(waiting):
            return blocked
        rows = np.minimum(height[waiting] - done[waiting], np.maximum(_ROWS_FIRST, done[waiting]))
        waiting = waiting[: 1 + int(np.searchsorted(np.cumsum(rows), _ROWS_AT_ONCE))]
        rows = rows[: len(waiting)]
        which = np.repeat(waiting, rows)
        level = spread(y[0, waiting] + done[waiting], rows)
        first, last = _across(x[:, which], y[:, which], level)
        done[waiting] += rows
        counts = np.maximum(last - first + 1, 0)
        part = np.cumsum(counts) // _POINTS_AT_ONCE
        for number in np.unique(part):
            these = np.flatnonzero((part == number) & ~blocked[large[which]])
            bend = np.repeat(which[these], counts[these])
            inside_x, inside_y = spread(first[these], counts[these]), np.repeat(level[these], counts[these])
            hit = np.flatnonzero(taken(inside_x, inside_y))
            there = bends.holds(chosen[large[bend[hit]]], corners[:, bend[hit]], inside_x[hit], inside_y[hit])
            blocked[large[bend[hit[there]]]] = True


def _across(x: Places, y: Places, level: Places) -> tuple[Places, Places]:
    """First and last whole x of triangles (3, n), sorted by y, at the height `level`; none where last < first."""
    above = (level < y[1]) | (y[1] == y[2])
    top_x, top_y = np.where(above, x[0], x[1]), np.where(above, y[0], y[1])
    bottom_x, bottom_y = np.where(above, x[1], x[2]), np.where(above, y[1], y[2])
    long_rise, long_run = (level - y[0]) * (x[2] - x[0]), y[2] - y[0]
    short_rise, short_run = (level - top_y) * (bottom_x - top_x), bottom_y - top_y
    first = np.minimum(x[0] - (-long_rise // long_run), top_x - (-short_rise // short_run))
    last = np.maximum(x[0] + long_rise // long_run, top_x + short_rise // short_run)
    return first, last
