"""A source's pixels on the scene's grid, each interpolated once: block means where the source is finer, then bilinear.

Every step looks at absolute source positions only, so that a pixel comes out the same, to the last bit, in any window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mmovseg_geo.grid import Window

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Pixels = tuple[NDArray[np.float32], NDArray[np.bool_]]

FINER = 1.5
"""A source with more pixels than this along one scene pixel is averaged before it is interpolated."""
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
    rows: NDArray[np.float64],
    cols: NDArray[np.float64],
) -> Pixels:
    """Values (N, H, W) and validity (H, W) at positions `rows`, `cols` of a source of `shape`.

    Valid is a position whose nearest source pixel is; its value is the weighted mean of the valid ones of the four
    pixels around it. `read` gives the source's pixels of a window.
    """
    inside = (rows >= 0) & (cols >= 0) & (rows < shape[0]) & (cols < shape[1])
    values = np.zeros((planes, *rows.shape), np.float32)
    if not inside.any():
        return values, inside
    rows, cols = np.where(inside, rows, 0.5), np.where(inside, cols, 0.5)
    top, low, row_part = _neighbors(rows, shape[0])
    left, right, col_part = _neighbors(cols, shape[1])
    span = _span(top, low, left, right, inside)
    pixels, present = read(span)
    flat, mask = pixels.reshape(planes, -1), present.ravel()

    def index(row: NDArray[np.int64], col: NDArray[np.int64]) -> NDArray[np.int64]:
        at: NDArray[np.int64] = (row - span.row) * span.width + (col - span.col)
        return np.where(inside, at, 0)

    weight_sum = np.zeros(rows.shape, np.float32)
    for row, row_weight in ((top, 1 - row_part), (low, row_part)):
        for col, col_weight in ((left, 1 - col_part), (right, col_part)):
            at = index(row, col)
            weight = row_weight * col_weight * mask[at]
            weight_sum += weight
            for plane in range(planes):
                values[plane] += weight * flat[plane][at]
    nearest = index(np.floor(rows).astype(np.int64), np.floor(cols).astype(np.int64))
    valid = inside & mask[nearest]
    values /= np.where(valid, weight_sum, np.float32(1))
    return np.where(valid, values, np.float32(0)), valid


def _neighbors(
    at: NDArray[np.float64], length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """The pixels before and after a position, kept inside, and how far it is from the first to the second."""
    first = np.floor(at - 0.5)
    part = (at - 0.5 - first).astype(np.float32)
    before = first.astype(np.int64)
    return np.maximum(before, 0), np.minimum(before + 1, length - 1), part


def _span(
    top: NDArray[np.int64],
    low: NDArray[np.int64],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    inside: NDArray[np.bool_],
) -> Window:
    """The source window that holds every neighbor of the positions inside."""
    row, col = int(top[inside].min()), int(left[inside].min())
    return Window(row, col, int(low[inside].max()) - row + 1, int(right[inside].max()) - col + 1)
