"""Overlapping scores of tiles, blended into finished rows in the memory of one strip.

Works on numpy arrays and on torch tensors of any device, wherever the scores were made. Nothing here waits for a GPU:
which pixels were seen is known on the host, and scores stay where they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
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


class Stitcher:
    """Blends the scores of windows that come in row-major order, and releases rows that no later window reaches.

    Holds `planes x tile height x width of the wanted columns` float32, whatever the height of the scene.

    Args:
        shape: (height, width) of the whole scene, which anchors the weights.
        wanted: the rows and columns to deliver.
    """

    def __init__(self, shape: tuple[int, int], wanted: Window, tiling: Tiling, planes: int) -> None:
        self.shape, self.wanted, self.tiling, self.planes = shape, wanted, tiling, planes
        self._top = wanted.row
        self._seen = np.zeros((tiling.size, wanted.width), np.bool_)
        self._sums: Any = None
        self._weights: Any = None
        self._product: Any = None
        self._side = lru_cache(maxsize=8)(self._placed_side)

    def add(self, window: Window, scores: Any, valid: NDArray[np.bool_], mask: Any = None) -> None:
        """Blend in the scores (Q, size, size) of one window; pixels that are not `valid` add no weight.

        Args:
            mask: `valid` where the scores are, if it is there already.
        """
        if self._sums is None:
            self._allocate(scores)
        shared = window.intersection(self.wanted)
        if shared is None:
            return
        xp = array_namespace(scores)
        down, across = Window(shared.row - window.row, shared.col - window.col, *shared.shape).slices
        rows, cols = Window(shared.row - self._top, shared.col - self.wanted.col, *shared.shape).slices
        by_row = self._side(0, window.row == 0, window.row + self.tiling.size >= self.shape[0])
        by_col = self._side(1, window.col == 0, window.col + self.tiling.size >= self.shape[1])
        weight = by_row[down, None] * by_col[None, across]
        product = self._product[:, : shared.height, : shared.width]
        seen = valid[down, across]
        if seen.all():
            xp.multiply(scores[:, down, across], weight, out=product)
        else:
            where = xp.asarray(seen, device=device(scores)) if mask is None else mask[down, across]
            weight = weight * xp.astype(where, xp.float32)
            # A score of an invalid pixel may be NaN, and NaN times a weight of 0 is not 0.
            product = xp.where(where, scores[:, down, across] * weight, xp.zeros_like(weight))
        self._sums[:, rows, cols] += product
        self._weights[rows, cols] += weight
        self._seen[rows, cols] |= seen

    def release(self, bottom: int) -> Iterator[tuple[int, Any, NDArray[np.bool_]]]:
        """Finished blocks of the wanted rows above scene row `bottom`: (first row, scores (Q, h, W), valid (h, W)).

        The first row counts from the top of the wanted rows. Without any score so far the scores are None.
        """
        bottom = min(bottom, self.wanted.row + self.wanted.height)
        finished = max(bottom - self._top, 0)
        step = self._rows_at_once()
        for first in range(0, finished, step):
            rows = slice(first, min(first + step, finished))
            yield self._top + first - self.wanted.row, self._blended(rows), self._seen[rows].copy()
        if finished:
            self._drop(finished)
            self._top += finished

    def _rows_at_once(self) -> int:
        if self._sums is None:
            return self.tiling.size
        limit = CACHED_BYTES if str(device(self._sums)) == "cpu" else QUEUED_BYTES
        return max(1, limit // (4 * self.planes * self.wanted.width))

    def _allocate(self, scores: Any) -> None:
        xp = array_namespace(scores)
        size, width = self.tiling.size, self.wanted.width
        settings = {"dtype": xp.float32, "device": device(scores)}
        self._sums = xp.zeros((self.planes, size, width), **settings)
        self._weights = xp.zeros((size, width), **settings)
        self._product = xp.empty((self.planes, size, size), **settings)

    def _placed_side(self, axis: int, first: bool, last: bool) -> Any:
        """The weights along a side, where the scores are: they depend on which ends have neighbors alone."""
        size = self.tiling.size
        length = size if first and last else 3 * size
        start = 0 if first else length - size if last else size
        xp = array_namespace(self._sums)
        return xp.asarray(side_weights(start, length, self.tiling), device=device(self._sums))

    def _blended(self, rows: slice) -> Any:
        if self._sums is None:
            return None
        xp = array_namespace(self._sums)
        weights = self._weights[rows]
        return self._sums[:, rows] / xp.where(weights > 0, weights, xp.ones_like(weights))

    def _drop(self, count: int) -> None:
        """Move the rows below the first `count` to the top, and clear what they leave."""
        for buffer in (self._seen, self._sums, self._weights):
            if buffer is None:
                continue
            rows = buffer.shape[-2]
            # Rows move up in steps of `count`, so that source and target of one copy never overlap.
            for row in range(count, rows, count):
                step = min(count, rows - row)
                buffer[..., row - count : row - count + step, :] = buffer[..., row : row + step, :]
            buffer[..., max(rows - count, 0) :, :] = 0


def to_numpy(array: Any) -> NDArray[Any]:
    """The same values as a numpy array on the host."""
    if isinstance(array, np.ndarray):
        return array
    return np.asarray(array.cpu())
