"""Overlapping scores of tiles, blended into finished rows in the memory of one strip.

Works on numpy arrays and on torch tensors of any device, wherever the scores were made.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import NDArray

from mmovseg_geo.grid import Window
from mmovseg_geo.tiles import Blend, Tiling

BLOCK_ROWS = 64
"""Rows released at a time: what follows (class values, labels) needs memory for so many rows only."""


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
        self._sums: Any = None
        self._weights: Any = None

    def add(self, window: Window, scores: Any, valid: NDArray[np.bool_]) -> None:
        """Blend in the scores (Q, size, size) of one window; pixels that are not `valid` add no weight."""
        if self._sums is None:
            self._allocate(scores)
        shared = window.intersection(self.wanted)
        if shared is None:
            return
        xp = array_namespace(scores)
        down, across = Window(shared.row - window.row, shared.col - window.col, *shared.shape).slices
        by_row = side_weights(window.row, self.shape[0], self.tiling)[down]
        by_col = side_weights(window.col, self.shape[1], self.tiling)[across]
        weight = xp.asarray(by_row[:, None] * by_col[None, :] * valid[down, across], device=device(scores))
        rows, cols = Window(shared.row - self._top, shared.col - self.wanted.col, *shared.shape).slices
        # A score of an invalid pixel may be NaN, and NaN times a weight of 0 is not 0.
        weighted = xp.where(weight > 0, scores[:, down, across] * weight, xp.zeros_like(weight))
        self._sums[:, rows, cols] += weighted
        self._weights[rows, cols] += weight

    def release(self, bottom: int) -> Iterator[tuple[int, Any, NDArray[np.bool_]]]:
        """Finished blocks of the wanted rows above scene row `bottom`: (first row, scores (Q, h, W), valid (h, W)).

        The first row counts from the top of the wanted rows. Without any score so far the scores are None.
        """
        bottom = min(bottom, self.wanted.row + self.wanted.height)
        finished = max(bottom - self._top, 0)
        for first in range(0, finished, BLOCK_ROWS):
            rows = slice(first, min(first + BLOCK_ROWS, finished))
            yield self._top + first - self.wanted.row, *self._blended(rows)
        if finished:
            self._drop(finished)
            self._top += finished

    def _allocate(self, scores: Any) -> None:
        xp = array_namespace(scores)
        height, width = self.tiling.size, self.wanted.width
        self._sums = xp.zeros((self.planes, height, width), dtype=xp.float32, device=device(scores))
        self._weights = xp.zeros((height, width), dtype=xp.float32, device=device(scores))

    def _blended(self, rows: slice) -> tuple[Any, NDArray[np.bool_]]:
        if self._sums is None:
            return None, np.zeros((rows.stop - rows.start, self.wanted.width), dtype=bool)
        xp = array_namespace(self._sums)
        weights = self._weights[rows]
        seen = weights > 0
        return self._sums[:, rows] / xp.where(seen, weights, xp.ones_like(weights)), to_numpy(seen)

    def _drop(self, count: int) -> None:
        """Move the rows below the first `count` to the top, and clear what they leave."""
        if self._sums is None:
            return
        for buffer in (self._sums, self._weights):
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
