"""Scenes in the network's own pixels: squares that were read once are kept while there is room.

Reading and averaging a crop of a fine scene takes half as long as learning from it, so crops are put together from
squares. Shape suffixes: C bands, H rows, W columns, U V rows and columns of cells, Y X pixels of a cell.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from mmovseg_geo.datasets.codes import IGNORE, Indices
from mmovseg_geo.grid import Window
from mmovseg_geo.training.area.scenes import LabelledScene
from mmovseg_geo.training.area.split import Blocks

SIDE = 64
"""Of a square, in pixels of the network."""
ROOM = 1 << 29
"""Bytes of squares that are kept."""
Place = tuple[int, int, int]
"""Number of a scene, row and column of a square in it."""


@dataclass(frozen=True, eq=False)
class Crop:
    """Pixels (C, H, W) in 0..255, validity and labels (H, W) of one window; sensors that are absent are None."""

    optical: NDArray[np.float32] | None
    sar: NDArray[np.float32] | None
    optical_valid: NDArray[np.float32] | None
    sar_valid: NDArray[np.float32] | None
    labels: Indices

    @property
    def parts(self) -> tuple[NDArray[Any] | None, ...]:
        """In the order of the fields."""
        return self.optical, self.sar, self.optical_valid, self.sar_valid, self.labels

    def cut(self, window: Window) -> Crop:
        """A part of it, in memory of its own."""
        at = ..., *window.slices
        return self._each(lambda part: part[at].copy())

    def empty(self, shape: tuple[int, int]) -> Crop:
        """Room for as many bands of another shape (H, W)."""
        return self._each(lambda part: np.empty((*part.shape[:-2], *shape), part.dtype))

    def _each(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Crop:
        return Crop(*(None if part is None else change(part) for part in self.parts))  # type: ignore[arg-type]


class Kept:
    """Crops of scenes at the distance that the network works at, with labels that training may see.

    Args:
        room: bytes that are kept; of squares that were not looked at for longest there is room no more.
    """

    def __init__(self, scenes: Sequence[LabelledScene], every: Sequence[Blocks], *, room: int = ROOM) -> None:
        self.scenes, self.every, self.room = list(scenes), list(every), room
        self._squares: OrderedDict[Place, Crop] = OrderedDict()
        self._bytes = 0

    def __getstate__(self) -> dict[str, Any]:
        """Without the squares: another process reads its own."""
        return {**vars(self), "_squares": OrderedDict(), "_bytes": 0}

    def crop(self, number: int, window: Window) -> Crop:
        """A window of scene `number` in the network's pixels; where it reaches beyond the scene nothing is valid."""
        whole: Crop | None = None
        for place, square in self._squares_of(number, window):
            at = Window(place[1] * SIDE, place[2] * SIDE, SIDE, SIDE)
            shared = at.intersection(window)
            assert shared is not None, "squares are those that the window reaches"
            if whole is None:
                whole = square.empty(window.shape)
            there, here = ((..., *_within(shared, other).slices) for other in (window, at))
            for target, source in zip(whole.parts, square.parts, strict=True):
                if target is not None and source is not None:
                    target[there] = source[here]
        assert whole is not None, "a window has pixels"
        return whole

    def _squares_of(self, number: int, window: Window) -> Iterator[tuple[Place, Crop]]:
        rows, cols = (
            range(first // SIDE, -(-(first + length) // SIDE))
            for first, length in ((window.row, window.height), (window.col, window.width))
        )
        for row in rows:
            self._read_missing(number, row, cols)
            for col in cols:
                place = number, row, col
                self._squares.move_to_end(place)
                yield place, self._squares[place]

    def _read_missing(self, number: int, row: int, cols: range) -> None:
        """Keep the squares of one row, those that are not there in one read, and drop others where room is short."""
        missing = [col for col in cols if (number, row, col) not in self._squares]
        if missing:
            first, count = missing[0], missing[-1] + 1 - missing[0]
            strip = self._read(number, Window(row * SIDE, first * SIDE, SIDE, count * SIDE))
            for col in missing:
                square = strip.cut(Window(0, (col - first) * SIDE, SIDE, SIDE))
                self._squares[number, row, col] = square
                self._bytes += _bytes(square)
        needed = {(number, row, col) for col in cols}
        while self._bytes > self.room:
            oldest = next(iter(self._squares))
            if oldest in needed:
                return
            self._bytes -= _bytes(self._squares.pop(oldest))

    def _read(self, number: int, window: Window) -> Crop:
        """A window of the network's pixels, averaged from the scene."""
        one, factor = self.scenes[number], self.scenes[number].reduction
        seen = Window(*(factor * value for value in (window.row, window.col, window.height, window.width)))
        labels = self.every[number].without_held_out(one.labels(seen), seen)
        return reduced(read(one, seen, labels), factor)


def read(one: LabelledScene, window: Window, labels: Indices) -> Crop:
    """A window of scene pixels with these labels."""
    tile = one.scene.read(window)
    optical_valid, sar_valid = (
        None if mask is None else mask.astype(np.float32) for mask in (tile.optical_valid, tile.sar_valid)
    )
    return Crop(tile.optical, tile.sar, optical_valid, sar_valid, labels)


def reduced(crop: Crop, factor: int) -> Crop:
    """The crop with `factor` times larger pixels: images averaged as `CompactView` does."""
    if factor == 1:
        return crop

    def smaller(image: NDArray[Any] | None, valid: NDArray[Any] | None) -> tuple[Any, Any]:
        if image is None or valid is None:
            return None, None
        share = F.avg_pool2d(torch.from_numpy(valid)[None, None], factor)
        mean = F.avg_pool2d(torch.from_numpy(image)[None], factor) / share.clamp(min=1e-3)
        return mean[0].numpy(), share[0, 0].numpy()

    (optical, optical_valid), (sar, sar_valid) = (
        smaller(crop.optical, crop.optical_valid), smaller(crop.sar, crop.sar_valid)
    )  # fmt: skip
    return Crop(optical, sar, optical_valid, sar_valid, reduced_labels(crop.labels, factor))


def reduced_labels(labels: Indices, factor: int) -> Indices:
    """The label of each cell of `factor` pixels a side: of its middle, or else of the labelled pixel nearest to it.

    So a point, which is one pixel, is still there.
    """
    height, width = labels.shape[0] // factor, labels.shape[1] // factor
    cells_UYVX = labels.reshape(height, factor, width, factor)
    middle = (factor - 1) / 2
    pixels = [(y, x) for y in range(factor) for x in range(factor)]
    found = np.full((height, width), IGNORE, np.uint8)
    for y, x in sorted(pixels, key=lambda at: math.hypot(at[0] - middle, at[1] - middle)):
        np.copyto(found, cells_UYVX[:, y, :, x], where=found == IGNORE)
        if (found != IGNORE).all():
            break
    return found


def _within(window: Window, other: Window) -> Window:
    """A window as seen from the first pixel of another one."""
    return Window(window.row - other.row, window.col - other.col, window.height, window.width)


def _bytes(square: Crop) -> int:
    return sum(part.nbytes for part in square.parts if part is not None)
