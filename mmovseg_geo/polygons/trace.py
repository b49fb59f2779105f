"""Outlines of numbered regions as shapely polygons that share every vertex of their common edges."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import shapes

if TYPE_CHECKING:
    from affine import Affine

SEGMENTS_AT_ONCE = 1 << 19


@dataclass(frozen=True, eq=False)
class Outlines:
    """Polygons as ragged arrays in pixel coordinates (x = column, y = row, corners of pixels).

    Attributes:
        points: (n, 2) vertices; the last of a ring repeats the first.
        ring_ends: (rings + 1,) where rings begin and end in `points`.
        polygon_ends: (polygons + 1,) where polygons begin and end in the rings; the first ring is the shell.
        regions: (polygons,) number of the region that each polygon outlines.
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


def trace(ids: NDArray[np.int32], wanted: NDArray[np.bool_]) -> Outlines:
    """Outlines of the 4-connected regions in `ids` whose number is `wanted`, ordered by number.

    Polygons that meet have the same vertices along their common edge, also where a third region ends on it
    (GDAL leaves these out): they are a valid coverage.
    """
    owners: list[int] = []
    rings_of: list[int] = [0]
    lengths: list[int] = [0]
    parts: list[NDArray[np.float64]] = []
    for geometry, number in shapes(ids, mask=wanted[ids], connectivity=4):
        owners.append(int(number))
        rings = geometry["coordinates"]
        rings_of.append(len(rings))
        lengths.extend(map(len, rings))
        parts.append(np.fromiter(chain.from_iterable(chain.from_iterable(rings)), np.float64))
    points = np.concatenate(parts).reshape(-1, 2) if parts else np.empty((0, 2))
    outlines = Outlines(points, np.cumsum(lengths), np.cumsum(rings_of), np.asarray(owners, np.int64))
    return _with_junctions(outlines, (ids.shape[0] + 1, ids.shape[1] + 1))


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


def _with_junctions(outlines: Outlines, corners: tuple[int, int]) -> Outlines:
    """The same outlines with a vertex wherever any other outline turns."""
    is_vertex = np.zeros(corners, bool)
    points = outlines.points.astype(np.int64)
    is_vertex[points[:, 1], points[:, 0]] = True
    step = np.diff(points, axis=0, append=points[:1])
    # The last point of a ring repeats the first; nothing lies between it and the next ring.
    step[outlines.ring_ends[1:] - 1] = 0
    length = np.abs(step).sum(axis=1)
    step = np.sign(step)
    kept, added = [], np.zeros(len(points), np.int64)
    for start in range(0, len(points), SEGMENTS_AT_ONCE):
        part = slice(start, start + SEGMENTS_AT_ONCE)
        repeats = np.maximum(length[part], 1)
        owner = np.repeat(np.arange(len(repeats)), repeats)
        along = np.arange(len(owner)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
        dense = points[part][owner] + step[part][owner] * along[:, None]
        keep = is_vertex[dense[:, 1], dense[:, 0]]
        kept.append(dense[keep])
        added[part] = np.bincount(owner[keep], minlength=len(repeats))
    ends = np.concatenate([[0], np.cumsum(added)])
    dense_points = np.concatenate(kept).astype(np.float64) if kept else outlines.points
    order = np.argsort(outlines.regions, kind="stable")
    return _reordered(Outlines(dense_points, ends[outlines.ring_ends], outlines.polygon_ends, outlines.regions), order)


def _reordered(outlines: Outlines, order: NDArray[np.int64]) -> Outlines:
    rings, ring_counts = _take(outlines.polygon_ends, order)
    points, point_counts = _take(outlines.ring_ends, rings)
    return Outlines(
        outlines.points[points],
        np.concatenate([[0], np.cumsum(point_counts)]),
        np.concatenate([[0], np.cumsum(ring_counts)]),
        outlines.regions[order],
    )


def _take(ends: NDArray[np.int64], order: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the members of the groups `order`, and how many each has; group i spans ends[i] to ends[i + 1]."""
    counts = np.diff(ends)[order]
    first = np.cumsum(counts) - counts
    members = np.repeat(ends[:-1][order] - first, counts) + np.arange(counts.sum())
    return members, counts
