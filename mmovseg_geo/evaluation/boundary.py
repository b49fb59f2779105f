"""How well the outlines of a map lie: boundary F1, streamed over windows.

After Csurka et al., What is a good evaluation measure for semantic segmentation? (BMVC 2013), with two differences:
the tolerance is a distance given in pixels, not a share of the image's diagonal, so that a score does not depend on how
scenes were cut; and the counts of all scenes make one score, as they make one IoU.

A pixel is on the boundary of its class where one of its four neighbors has another class. Neighbors that are not
scored, or lie beyond the image, make no boundary. Precision is the share of the map's boundary pixels of a class that
have a boundary pixel of that class in the labels within the tolerance (Euclidean); recall the same the other way round.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mmovseg_geo.datasets.codes import IGNORE, Indices
from mmovseg_geo.evaluation.confusion import ByClass, defined

Mask = NDArray[np.bool_]

MAP, MAP_NEAR, LABELS, LABELS_NEAR = range(4)
"""Columns of the counts: boundary pixels of the map, those of them near the labels' boundary, and the other way."""


class Boundaries:
    """Boundary pixels by class, and how many of them were found within `tolerance_px`."""

    def __init__(self, names: Sequence[str], tolerance_px: float = 2.0) -> None:
        self.names, self.tolerance_px = tuple(names), tolerance_px
        self.counts: NDArray[np.int64] = np.zeros((len(names), 4), np.int64)

    @property
    def halo(self) -> int:
        """Rows that a window must hold beyond those it counts."""
        return math.floor(self.tolerance_px) + 1

    def add(self, labels: Indices, found: Indices, rows: slice = slice(None)) -> None:
        """Count the `rows` of a window (H, W) of class indices; 255 is not scored in `labels`, no data in `found`.

        Where there are rows of the scene above and below `rows`, the window holds `halo` of them.
        """
        true, said = edges(labels), edges(np.where(labels == IGNORE, np.uint8(IGNORE), found))
        for ours, theirs, column in ((said, true, MAP), (true, said, LABELS)):
            edge = ours[rows]
            on_edge = edge != IGNORE
            close = near(ours, theirs, self.tolerance_px)[rows]
            self.counts[:, column] += np.bincount(edge[on_edge], minlength=len(self.names))[: len(self.names)]
            self.counts[:, column + 1] += np.bincount(edge[close], minlength=len(self.names))[: len(self.names)]

    def f1(self) -> tuple[ByClass, float | None]:
        """F1 by class, None where neither side has a boundary; and the mean over classes whose labels have one."""
        counts = self.counts.astype(float)
        # 2 P R / (P + R), with P and R taken as 0 where the other side has no boundary at all.
        precision = counts[:, MAP_NEAR] / np.maximum(counts[:, MAP], 1)
        recall = counts[:, LABELS_NEAR] / np.maximum(counts[:, LABELS], 1)
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
        f1[(counts[:, MAP] == 0) & (counts[:, LABELS] == 0)] = np.nan
        labelled = counts[:, LABELS] > 0
        mean = float(f1[labelled].mean()) if labelled.any() else None
        return {name: defined(value) for name, value in zip(self.names, f1, strict=True)}, mean


def edges(indices: Indices) -> Indices:
    """The class (H, W) of each boundary pixel, 255 elsewhere."""
    found = np.full_like(indices, IGNORE)
    for one, other in (
        ((slice(1, None),), (slice(None, -1),)),
        ((slice(None), slice(1, None)), (slice(None), slice(None, -1))),
    ):
        differ = (indices[one] != indices[other]) & (indices[one] != IGNORE) & (indices[other] != IGNORE)
        for side in (one, other):
            np.copyto(found[side], indices[side], where=differ)
    return found


def near(ours: Indices, theirs: Indices, tolerance_px: float) -> Mask:
    """Boundary pixels (H, W) of `ours` that have one of the same class in `theirs` within the tolerance."""
    close = np.zeros(ours.shape, np.bool_)
    for row, col in _offsets(tolerance_px):
        here, there = _shifted(ours.shape, row, col)
        close[here] |= ours[here] == theirs[there]
    return np.asarray(close & (ours != IGNORE))


def _offsets(tolerance_px: float) -> Iterator[tuple[int, int]]:
    reach = math.floor(tolerance_px)
    for row in range(-reach, reach + 1):
        for col in range(-reach, reach + 1):
            if math.hypot(row, col) <= tolerance_px:
                yield row, col


def _shifted(shape: tuple[int, ...], row: int, col: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Slices of an array and of the same array `row` and `col` further on, where both are inside."""
    sides = []
    for by, length in ((row, shape[0]), (col, shape[1])):
        first, last = max(-by, 0), max(min(length - by, length), 0)
        sides.append((slice(first, max(last, first)), slice(first + by, max(last, first) + by)))
    return (sides[0][0], sides[1][0]), (sides[0][1], sides[1][1])
