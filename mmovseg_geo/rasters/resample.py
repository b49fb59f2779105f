"""A source's pixels on the scene's grid, each interpolated once: block means where the source is finer, then bilinear.

Every step looks at absolute source positions only, so that a pixel comes out the same, to the last bit, in any window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mmovseg_geo.grid import Window

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Pixels = tuple[NDArray[np.float32], NDArray[np.bool_]]
    Positions = NDArray[np.float64]
    Places = NDArray[np.int64]
    Weights = NDArray[np.float32]

FINER = 1.5
"""A source with more pixels than this along one scene pixel is averaged before it is interpolated."""
CACHED_ROWS = 32
"""Rows interpolated at a time: their coordinates and weights stay in the processor's cache."""
CHUNK_PIXELS = 4 * 2**20
"""Source pixels averaged at a time: memory does not grow with how much finer a source is."""


def factors_of(scale: tuple[float, float]) -> tuple[int, int]:
    """Source rows and cols to average into one before interpolating."""
    rows, cols = (round(along) if along > FINER else 1 for along in scale)
    return max(rows, 1), max(cols, 1)


def block_means(read: Callable[[Window], Pixels], window: Window, factors: tuple[int, int]) -> Pixels:
    """Means of blocks of `factors` source pixels, counted from the source's first; `window` is in blocks.

    A block is valid when at least half of its pixels are.
    """
    if factors == (1, 1):
        return read(window)
    rows, cols = factors
    strip = max(1, CHUNK_PIXELS // (rows * cols * max(window.width, 1)))
    parts = []
    for top in range(window.row, window.row + window.height, strip):
        height = min(strip, window.row + window.height - top)
        parts.append(shrunk(*read(Window(top * rows, window.col * cols, height * rows, window.width * cols)), factors))
    return np.concatenate([p[0] for p in parts], axis=1), np.concatenate([p[1] for p in parts], axis=0)


def shrunk(values: NDArray[np.float32], valid: NDArray[np.bool_], factors: tuple[int, int]) -> Pixels:
    """Block means of arrays whose sides are multiples of `factors`; invalid values must be 0."""
    rows, cols = factors
    total = np.zeros((len(values), valid.shape[0] // rows, valid.shape[1] // cols), np.float32)
    count = np.zeros(total.shape[1:], np.float32)
    for row in range(rows):  # added slice by slice: numpy's own sum may add in an order that depends on the shape
        for col in range(cols):
            total += values[:, row::rows, col::cols]
            count += valid[row::rows, col::cols]
    enough = count * 2 >= rows * cols
    return np.where(enough, total / np.maximum(count, np.float32(1)), np.float32(0)), enough


def bilinear(
    read: Callable[[Window], Pixels],
    planes: int,
    shape: tuple[int, int],
    rows: Positions,
    cols: Positions,
) -> Pixels:
    """Values (N, H, W) and validity (H, W) at positions `rows`, `cols` of a source of `shape`.

    Valid is a position whose nearest source pixel is; its value is the weighted mean of the valid ones of the four
    pixels around it. `read` gives the source's pixels of a window.
    """
    inside = (rows >= 0) & (cols >= 0) & (rows < shape[0]) & (cols < shape[1])
    values = np.zeros((planes, *rows.shape), np.float32)
    valid = inside.copy()
    if not inside.any():
        return values, valid
    if not inside.all():  # send the others to a place that is read anyway
        first = np.unravel_index(int(inside.argmax()), inside.shape)
        rows, cols = np.where(inside, rows, rows[first]), np.where(inside, cols, cols[first])
    span = _span(rows, cols, shape)
    pixels, present = read(span)
    for start in range(0, len(rows), CACHED_ROWS):
        part = slice(start, start + CACHED_ROWS)
        near = _Neighbors.of(rows[part], cols[part], shape, span)
        values[:, part], seen = near.mean(pixels.reshape(planes, -1), present.ravel(), bool(present.all()))
        valid[part] &= seen
    return np.where(valid, values, np.float32(0)), valid


@dataclass(frozen=True, eq=False)
class _Neighbors:
    """The four pixels around positions, as places in a flat window, their weights, and the nearest of them."""

    rows: tuple[Places, Places]
    cols: tuple[Places, Places]
    row_weights: tuple[Weights, Weights]
    col_weights: tuple[Weights, Weights]
    nearest: Places

    @classmethod
    def of(cls, rows: Positions, cols: Positions, shape: tuple[int, int], span: Window) -> _Neighbors:
        top, low, down = _around(rows, shape[0])
        left, right, along = _around(cols, shape[1])
        nearest_row, nearest_col = np.floor(rows).astype(np.int64), np.floor(cols).astype(np.int64)
        return cls(
            ((top - span.row) * span.width, (low - span.row) * span.width),
            (left - span.col, right - span.col),
            (1 - down, down),
            (1 - along, along),
            (nearest_row - span.row) * span.width + nearest_col - span.col,
        )

    def mean(self, flat: NDArray[np.float32], mask: NDArray[np.bool_], complete: bool) -> Pixels:
        """Weighted means of flat windows (N, n), whose invalid values are 0; `complete` says that none is invalid.

        Where all four neighbors are valid nothing is divided, so that the two ways agree to the last bit.
        """
        values = np.zeros((len(flat), *self.nearest.shape), np.float32)
        weights = np.zeros(self.nearest.shape, np.float32)
        every = np.ones(self.nearest.shape, np.bool_)
        for row, row_weight in zip(self.rows, self.row_weights, strict=True):
            for col, col_weight in zip(self.cols, self.col_weights, strict=True):
                at, weight = row + col, row_weight * col_weight
                for plane in range(len(flat)):
                    values[plane] += weight * flat[plane][at]
                if not complete:
                    seen = mask[at]
                    every &= seen
                    weights += weight * seen
        valid = mask[self.nearest]
        if not complete:
            values /= np.where(valid & ~every, weights, np.float32(1))
        return values, valid


def _around(at: Positions, length: int) -> tuple[Places, Places, Weights]:
    """The pixels before and after positions, kept inside, and how far these are from the first to the second."""
    first = np.floor(at - 0.5)
    before = first.astype(np.int64)
    return np.maximum(before, 0), np.minimum(before + 1, length - 1), (at - 0.5 - first).astype(np.float32)


def _span(rows: Positions, cols: Positions, shape: tuple[int, int]) -> Window:
    """The source window that holds every neighbor of positions inside a source of `shape`."""
    top, left = (max(int(np.floor(at.min() - 0.5)), 0) for at in (rows, cols))
    low, right = (
        min(int(np.floor(at.max() - 0.5)) + 1, side - 1) for at, side in zip((rows, cols), shape, strict=True)
    )
    return Window(top, left, low - top + 1, right - left + 1)
