"""Overlapping scores of tiles, blended into finished pixels in the memory of the rows that tiles share.

Works on numpy arrays and on torch tensors of any device, wherever the scores were made. Nothing here waits for a GPU:
which pixels were seen is known on the host, and scores stay where they are.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import NDArray

from mmovseg_geo.grid import Window
from mmovseg_geo.tiles import Blend, Tiling

CACHED_BYTES = 2 * 2**20
"""Scores released at a time by a CPU: what follows (class values, labels) then finds them in its cache."""
QUEUED_BYTES = 64 * 2**20
"""The same of a GPU, which wants few large steps."""
_FLOAT = 4


def ramp(length: int, blend: Blend) -> NDArray[np.float32]:
    """`length` weights that rise toward 1 and never reach 0."""
    steps = (np.arange(length, dtype=np.float64) + 0.5) / max(length, 1)
    shapes = {"linear": steps, "cosine": np.sin(np.pi / 2 * steps) ** 2, "uniform": np.ones(length)}
    return shapes[blend].astype(np.float32)


def side_weights(start: int, length: int, tiling: Tiling) -> NDArray[np.float32]:
    """Weights (size,) along one side of the tile at `start` of a side of `length` pixels.

    They fall only toward a neighbor, so that the outermost pixels count in full.
    """
    weights = np.ones(tiling.size, dtype=np.float32)
    rise = ramp(min(tiling.overlap, tiling.size), tiling.blend)
    if start > 0:
        weights[: len(rise)] *= rise
    if start + tiling.size < length:
        weights[tiling.size - len(rise) :] *= rise[::-1]
    return weights


Block = tuple[int, int, Any, NDArray[np.bool_]]
"""First row and column, blended scores (Q, h, w) or None where nothing was seen, and which pixels were (h, w)."""


class Stitcher:
    """Blends the scores of windows, and releases the pixels that no later window reaches.

    Windows come as `order` has them, and `release` begins each. Held are float32 scores and weights of the pixels of a
    window, and of the rows that rows of windows share, across the wanted columns; whatever the height of the scene.

    Args:
        shape: (height, width) of the whole scene, which anchors the weights.
        wanted: the rows and columns to deliver; blocks count from its corner.
    """

    def __init__(self, shape: tuple[int, int], wanted: Window, tiling: Tiling, planes: int) -> None:
        self.shape, self.wanted, self.tiling, self.planes = shape, wanted, tiling, planes
        self._bands = [(band[0], band[-1] + tiling.size) for band in tiling.bands(shape[0])]
        tallest, beside, above = _extents(shape, tiling)
        self._here = _Sums(tallest, tiling.size)
        self._beside = _Sums(tallest, beside)
        self._above = _Sums(above, wanted.width)
        self._at: Window | None = None
        self._columns_beside = self._rows_above = 0
        self._product: Any = None
        self._side = lru_cache(maxsize=8)(self._placed_side)

    @staticmethod
    def order(shape: tuple[int, int], tiling: Tiling) -> Iterator[Window]:
        """The windows of a scene: row by row, the last two rows column by column where they share more than others."""
        columns = tiling.starts(shape[1])
        for band in tiling.bands(shape[0]):
            for col in columns:
                for row in band:
                    yield Window(row, col, tiling.size, tiling.size)

    @staticmethod
    def held_bytes(shape: tuple[int, int], width: int, tiling: Tiling, planes: int) -> int:
        """What the stitcher of so many wanted columns holds at most."""
        tallest, beside, above = _extents(shape, tiling)
        pixels = tallest * (tiling.size + beside) + above * width
        # The product of scores and weights, and as much again where pixels are invalid.
        return pixels * (_FLOAT * (planes + 1) + 1) + 2 * _FLOAT * planes * tiling.size**2 + 2 * CACHED_BYTES

    def release(self, window: Window | None) -> Iterator[Block]:
        """Begin a window, None after the last one; the blocks that are finished by then."""
        column = None
        if window is not None:
            if window.intersection(self.wanted) is None:
                return
            top, bottom = self._bands[self._band(window.row)]
            column = Window(top, window.col, bottom - top, window.width)
        if column != self._at:
            if self._at is not None:
                yield from self._closed(self._at, column)
            self._at = column
            if column is not None:
                self._open(column)

    def add(self, window: Window, scores: Any, valid: NDArray[np.bool_], mask: Any = None) -> None:
        """Blend in the scores (Q, size, size) of the window that was begun; pixels not `valid` add no weight.

        Args:
            mask: `valid` where the scores are, if it is there already.
        """
        if window.intersection(self.wanted) is None:
            return
        assert self._at is not None, "a window is begun by `release`"
        if self._here.scores is None:
            self._allocate(scores)
        xp = array_namespace(scores)
        by_row = self._side(0, window.row == 0, window.row + self.tiling.size >= self.shape[0])
        by_col = self._side(1, window.col == 0, window.col + self.tiling.size >= self.shape[1])
        weight, product = by_row[:, None] * by_col[None, :], self._product
        if valid.all():
            xp.multiply(scores, weight, out=product)
        else:
            where = xp.asarray(valid, device=device(scores)) if mask is None else mask
            weight = weight * xp.astype(where, xp.float32)
            # A score of an invalid pixel may be NaN, and NaN times a weight of 0 is not 0.
            product = xp.where(where, scores * weight, xp.zeros_like(weight))
        rows = slice(window.row - self._at.row, window.row - self._at.row + self.tiling.size)
        self._here.scores[:, rows] += product
        self._here.weights[rows] += weight
        self._here.seen[rows] |= valid

    def _band(self, row: int) -> int:
        """The number of the band that holds the windows at `row`."""
        return bisect_right(self._bands, (row, self.shape[0] + self.tiling.size)) - 1

    def _open(self, column: Window) -> None:
        """What the columns and the rows before left of the pixels of a column of windows."""
        here, height = self._here, column.height
        here.clear(height)
        here.take(self._beside, (0, 0), (0, 0), (height, self._columns_beside))
        left = max(column.col + self._columns_beside, self.wanted.col)
        right = min(column.col + column.width, self.wanted.col + self.wanted.width)
        here.take(
            self._above, (0, left - self.wanted.col), (0, left - column.col), (self._rows_above, max(right - left, 0))
        )

    def _closed(self, column: Window, following: Window | None) -> Iterator[Block]:
        """The finished pixels of a column of windows; what others reach as well is kept for them."""
        wanted, here = self.wanted, self._here
        same = following is not None and following.row == column.row
        right = following.col if following is not None and same else column.col + column.width
        done = replace(column, width=right - column.col).intersection(
            Window(column.row, wanted.col, column.height, wanted.width)
        )
        bottom = column.row + column.height
        below, _ = (*self._bands, (bottom, bottom))[self._band(column.row) + 1]
        kept = bottom - below
        if done is not None:
            finished = replace(done, height=below - column.row).intersection(wanted)
            if finished is not None:
                yield from self._blocks(finished, column)
            at = (below - column.row, done.col - column.col)
            self._above.take(here, at, (0, done.col - wanted.col), (kept, done.width))
        if same:
            self._columns_beside = column.col + column.width - right
            self._beside.take(here, (0, right - column.col), (0, 0), (column.height, self._columns_beside))
        else:
            self._columns_beside, self._rows_above = 0, kept

    def _blocks(self, finished: Window, column: Window) -> Iterator[Block]:
        rows, cols = finished.moved(-column.row, -column.col).slices
        row, col = finished.row - self.wanted.row, finished.col - self.wanted.col
        if not self._here.seen[rows, cols].any():
            yield row, col, None, np.zeros(finished.shape, np.bool_)
            return
        step = self._rows_at_once(finished.width)
        for first in range(rows.start, rows.stop, step):
            some = slice(first, min(first + step, rows.stop))
            yield row + first - rows.start, col, self._blended(some, cols), self._here.seen[some, cols].copy()

    def _rows_at_once(self, width: int) -> int:
        limit = CACHED_BYTES if str(device(self._here.scores)) == "cpu" else QUEUED_BYTES
        return max(1, limit // (_FLOAT * self.planes * width))

    def _allocate(self, scores: Any) -> None:
        xp = array_namespace(scores)
        for sums in (self._here, self._beside, self._above):
            sums.allocate(self.planes, scores)
        size = self.tiling.size
        self._product = xp.empty((self.planes, size, size), dtype=xp.float32, device=device(scores))

    def _placed_side(self, axis: int, first: bool, last: bool) -> Any:
        """The weights along a side, where the scores are: they depend on which ends have neighbors alone."""
        size = self.tiling.size
        length = size if first and last else 3 * size
        start = 0 if first else length - size if last else size
        xp = array_namespace(self._product)
        return xp.asarray(side_weights(start, length, self.tiling), device=device(self._product))

    def _blended(self, rows: slice, cols: slice) -> Any:
        xp = array_namespace(self._here.scores)
        weights = self._here.weights[rows, cols]
        return self._here.scores[:, rows, cols] / xp.where(weights > 0, weights, xp.ones_like(weights))


class _Sums:
    """Weighted scores (Q, H, W), their weights (H, W), and on the host which pixels were seen; all 0 where none was."""

    def __init__(self, height: int, width: int) -> None:
        self.seen = np.zeros((height, width), np.bool_)
        self.scores: Any = None
        self.weights: Any = None

    def allocate(self, planes: int, like: Any) -> None:
        """Take memory where the scores are."""
        xp = array_namespace(like)
        settings = {"dtype": xp.float32, "device": device(like)}
        self.scores = xp.zeros((planes, *self.seen.shape), **settings)
        self.weights = xp.zeros(self.seen.shape, **settings)

    def clear(self, height: int) -> None:
        """Zeros in so many rows."""
        self._fill(slice(0, height), slice(None))

    def take(self, other: _Sums, source: tuple[int, int], target: tuple[int, int], shape: tuple[int, int]) -> None:
        """A rectangle of other sums, instead of what is at the target."""
        theirs, ours = (
            tuple(slice(first, first + length) for first, length in zip(corner, shape, strict=True))
            for corner in (source, target)
        )
        if not other.seen[theirs].any():
            self._fill(*ours)
            return
        self.seen[ours] = other.seen[theirs]
        self.scores[:, ours[0], ours[1]] = other.scores[:, theirs[0], theirs[1]]
        self.weights[ours] = other.weights[theirs]

    def _fill(self, rows: slice, cols: slice) -> None:
        """Zeros, if there is anything else: of a sparse scene most pixels are never touched."""
        if self.seen[rows, cols].any():
            self.seen[rows, cols] = False
            self.scores[:, rows, cols] = 0
            self.weights[rows, cols] = 0


def _extents(shape: tuple[int, int], tiling: Tiling) -> tuple[int, int, int]:
    """Rows of the tallest band, columns that two windows side by side share at most, rows that two bands share."""
    size, bands = tiling.size, tiling.bands(shape[0])
    tallest = max(band[-1] - band[0] for band in bands) + size
    beside = max((one + size - other for one, other in pairwise(tiling.starts(shape[1]))), default=0)
    above = max((one[-1] + size - other[0] for one, other in pairwise(bands)), default=0)
    return tallest, beside, above


def to_numpy(array: Any) -> NDArray[Any]:
    """The same values as a numpy array on the host."""
    if isinstance(array, np.ndarray):
        return array
    return np.asarray(array.cpu())
