"""Outlines of numbered regions as shapely polygons that share every vertex of their common edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray

if TYPE_CHECKING:
    from affine import Affine

EAST, SOUTH, WEST, NORTH = range(4)
OUTSIDE = -1


@dataclass(frozen=True, eq=False)
class Outlines:
    """Polygons as ragged arrays in pixel coordinates (x = column, y = row, corners of pixels).

    Attributes:
        points: (n, 2) vertices; the last of a ring repeats the first.
        ring_ends: (rings + 1,) where rings begin and end in `points`.
        polygon_ends: (polygons + 1,) where polygons begin and end in the rings; the first ring is the shell.
        regions: (polygons,) number of the region that each polygon outlines, rising.
    """

    points: NDArray[np.float64]
    ring_ends: NDArray[np.int64]
    polygon_ends: NDArray[np.int64]
    regions: NDArray[np.int64]

    def polygons(self) -> NDArray[Any]:
        """Array of shapely polygons in pixel coordinates."""
        if not len(self.regions):
            return np.empty(0, object)
        kind = shapely.GeometryType.POLYGON
        return np.asarray(shapely.from_ragged_array(kind, self.points, (self.ring_ends, self.polygon_ends)))


@dataclass(frozen=True, eq=False)
class _Steps:
    """Straight steps along the border of a region, the region at the right hand: from node to node.

    Attributes:
        nodes: (n, 2) row and column of the corners where borders turn or meet, in raster order.
        start: (m,) node where each step begins; steps are ordered by node, then by direction.
        direction: (m,) its direction.
        region: (m,) region at its right hand.
        following: (m,) the step that goes on along the same border.
    """

    nodes: NDArray[np.int32]
    start: NDArray[np.int32]
    direction: NDArray[np.int8]
    region: NDArray[np.int32]
    following: NDArray[np.int32]


def trace(ids: NDArray[np.int32], wanted: NDArray[np.bool_]) -> Outlines:
    """Outlines of the 4-connected regions in `ids` whose number is `wanted`, ordered by number.

    Polygons that meet have the same vertices along their common edge, also where a third region ends on it (GDAL's
    polygonize leaves these out): they are a valid coverage. Where a region touches itself at a corner, a hole
    touches the shell: rings never touch themselves.
    """
    steps = _steps(np.where(wanted[ids], ids, OUTSIDE))
    if not len(steps.start):
        empty = np.zeros(1, np.int64)
        return Outlines(np.empty((0, 2)), empty, empty, np.empty(0, np.int64))
    ring, first = _rings(steps.following)
    region = steps.region[first]
    # The first step in raster order leaves the upper left corner: eastward on a shell, southward around a hole.
    is_hole = steps.direction[first] != EAST
    order = np.lexsort((is_hole, region))
    lengths = np.bincount(ring)[order] + 1
    ends = np.concatenate([[0], np.cumsum(lengths)])
    closed = np.empty(ends[-1], np.int32)
    closing = np.zeros(ends[-1], bool)
    closing[ends[1:] - 1] = True
    closed[~closing] = _walked(steps.following, first[order])
    closed[closing] = first[order]
    corners = steps.nodes[steps.start[closed]]
    shells = np.flatnonzero(~is_hole[order])
    return Outlines(
        points=corners[:, ::-1].astype(np.float64),
        ring_ends=ends,
        polygon_ends=np.append(shells, len(order)),
        regions=region[order][shells].astype(np.int64),
    )


def simplified(polygons: NDArray[Any], tolerance_px: float) -> NDArray[Any]:
    """The coverage with fewer vertices; shared edges stay shared, edges to the outside stay as they are.

    `tolerance_px` is the square root of the area, in pixels, of the triangles that are cut off (Visvalingam-Whyatt).
    """
    if not len(polygons):
        return polygons
    return np.asarray(shapely.coverage_simplify(polygons, tolerance_px, simplify_boundary=False))


def on_map(polygons: NDArray[Any], affine: Affine) -> NDArray[Any]:
    """Polygons in pixel coordinates, placed on the map."""
    points = shapely.get_coordinates(polygons)
    x = affine.a * points[:, 0] + affine.b * points[:, 1] + affine.c
    y = affine.d * points[:, 0] + affine.e * points[:, 1] + affine.f
    return np.asarray(shapely.set_coordinates(polygons, np.stack([x, y], axis=1)))


def _steps(ids: NDArray[np.int32]) -> _Steps:
    framed = np.pad(ids, 1, constant_values=OUTSIDE)
    northwest, northeast = framed[:-1, :-1], framed[:-1, 1:]
    southwest, southeast = framed[1:, :-1], framed[1:, 1:]
    upright = (northwest != northeast) | (southwest != southeast)
    level = (northwest != southwest) | (northeast != southeast)
    nodes = np.argwhere(upright & level).astype(np.int32)
    rows, columns = nodes[:, 0], nodes[:, 1]
    # Around each node, the quarter ahead at the right hand of each direction; the one at its left hand comes before.
    ahead = np.stack([quarter[rows, columns] for quarter in (southeast, southwest, northwest, northeast)], axis=1)
    exists = (ahead != np.roll(ahead, 1, axis=1)) & (ahead != OUTSIDE)
    start, direction = (part.astype(np.int32) for part in np.nonzero(exists))
    region = ahead[start, direction]
    stop = _neighbor_nodes(nodes)[direction, start]
    left = ahead[stop, direction - 1] == region
    straight = ahead[stop, direction] == region
    turn = np.where(left, -1, np.where(straight, 0, 1))
    number = np.cumsum(exists.ravel(), dtype=np.int32) - 1
    following = number[stop.astype(np.int64) * 4 + (direction + turn) % 4]
    return _Steps(nodes, start, direction.astype(np.int8), region, following)


def _neighbor_nodes(nodes: NDArray[np.int32]) -> NDArray[np.int32]:
    """(4, n) next node in each direction; only meant where a border leads there."""
    count = len(nodes)
    number = np.arange(count, dtype=np.int32)
    by_column = np.lexsort((nodes[:, 0], nodes[:, 1])).astype(np.int32)
    south, north = np.zeros(count, np.int32), np.zeros(count, np.int32)
    south[by_column[:-1]], north[by_column[1:]] = by_column[1:], by_column[:-1]
    return np.stack([number + 1, south, number - 1, north])


def _rings(following: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Ring of each step, and the first step of each ring."""
    from scipy.sparse.csgraph import connected_components

    count, ring = connected_components(_chain(following), directed=True, connection="strong")
    first = np.empty(count, np.int64)
    backward = np.arange(len(ring))[::-1]
    # Of several values for one place the last stays: here the smallest.
    first[ring[backward]] = backward
    return ring, first


def _walked(following: NDArray[np.int32], first: NDArray[np.int64]) -> NDArray[np.int32]:
    """All steps, ring after ring as `first` lists them, each in the order of walking."""
    from scipy.sparse.csgraph import depth_first_order

    before = np.empty_like(following)
    before[following] = np.arange(len(following), dtype=np.int32)
    path = following.copy()
    # The end of a ring leads on to the next ring: one path through everything, walked by compiled code.
    path[before[first[:-1]]] = first[1:]
    return np.asarray(depth_first_order(_chain(path), first[0], return_predecessors=False))


def _chain(following: NDArray[np.int32]) -> Any:
    """Sparse graph with one arrow from each step to the next."""
    from scipy.sparse import csr_array

    count = len(following)
    return csr_array((np.ones(count), following, np.arange(count + 1, dtype=np.int32)), shape=(count, count))
