"""Overviews made while a raster is written: each level halves the rows that the level above it finished.

GDAL makes them from the finished file, which takes longer than to write it; here they cost a tenth of that, at a time
when the network is at work. What comes out depends on the pixels alone, not on how rows arrive.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Resampling = Literal["MODE", "AVERAGE"]
Pixels = NDArray[Any]


def level_shapes(shape: tuple[int, int], smallest: int) -> list[tuple[int, int]]:
    """Heights and widths of the overviews of a raster, down to the first that fits into `smallest` squared pixels.

    >>> level_shapes((1300, 1100), 512)
    [(650, 550), (325, 275)]
    """
    shapes = []
    while max(shape) > smallest:
        shape = ((shape[0] + 1) // 2, (shape[1] + 1) // 2)
        shapes.append(shape)
    return shapes


def halved(rows: Pixels, resampling: Resampling, nodata: int) -> Pixels:
    """Rows (h, w) at half the size, rounded up; pixels without data count only where all four have none.

    `MODE` takes the commonest value, of equally common ones the first in reading order; `AVERAGE` the mean, rounded
    half up.
    """
    rows = _even(rows, nodata)
    corners = [rows[down::2, across::2] for down in (0, 1) for across in (0, 1)]
    return _mode(corners, nodata) if resampling == "MODE" else _mean(corners, nodata)


class Pyramid:
    """Rows of a raster in, rows of its overviews out, as soon as they are known.

    Args:
        write: told the level, from 0, and its next rows.
    """

    def __init__(self, levels: int, resampling: Resampling, nodata: int, write: Callable[[int, Pixels], None]) -> None:
        self._resampling, self._nodata, self._write = resampling, nodata, write
        self._waiting: list[Pixels | None] = [None] * levels

    def add(self, rows: Pixels, level: int = 0, *, last: bool = False) -> None:
        """The next rows of the raster itself; `last` ends it."""
        if level == len(self._waiting):
            return
        waiting = self._waiting[level]
        if waiting is not None:
            rows = np.concatenate([waiting, rows])
        ready = len(rows) if last else len(rows) // 2 * 2
        self._waiting[level] = rows[ready:].copy() if ready < len(rows) else None
        smaller = halved(rows[:ready], self._resampling, self._nodata)
        if len(smaller):
            self._write(level, smaller)
        self.add(smaller, level + 1, last=last)


def _even(rows: Pixels, nodata: int) -> Pixels:
    height, width = rows.shape
    if height % 2 == 0 and width % 2 == 0:
        return rows
    return np.pad(rows, ((0, height % 2), (0, width % 2)), constant_values=nodata)


def _mode(corners: list[Pixels], nodata: int) -> Pixels:
    best: Pixels = corners[0].copy()
    most = np.zeros(best.shape, np.uint8)
    for corner in corners:
        count = np.zeros(best.shape, np.uint8)
        for other in corners:
            count += other == corner
        count[corner == nodata] = 0
        more = count > most
        np.copyto(best, corner, where=more)
        np.copyto(most, count, where=more)
    return best


def _mean(corners: list[Pixels], nodata: int) -> Pixels:
    total = np.zeros(corners[0].shape, np.uint16)
    count = np.zeros(total.shape, np.uint16)
    for corner in corners:
        seen = corner != nodata
        np.add(total, corner, out=total, where=seen)
        count += seen
    known = np.maximum(count, 1)
    means: Pixels = np.where(count > 0, (2 * total + known) // (2 * known), nodata).astype(corners[0].dtype)
    return means
