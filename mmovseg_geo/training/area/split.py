"""What is learned from and what is held out: whole squares of the scenes, never single pixels.

Pixels beside each other look alike, so that a random half of them says little about the other half. Shape suffixes:
R, C rows and columns of blocks, N blocks with labels, K classes.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmovseg_geo.datasets.codes import IGNORE, Indices
from mmovseg_geo.errors import ConfigError, SceneError, a_few
from mmovseg_geo.grid import Window
from mmovseg_geo.training.area.scenes import LabelledScene
from mmovseg_geo.training.area.settings import AreaConfig
from mmovseg_geo.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

WANTED_BLOCKS = 24
"""Blocks that small areas are split into."""
SMALLEST, LARGEST = 32, 256
"""Sides of blocks in pixels of the network."""
DRAWS = 500
"""Random splits, of which the one is taken that holds out the wanted share of every class most nearly."""


@dataclass(frozen=True, eq=False)
class Blocks:
    """One scene cut into blocks.

    Attributes:
        rows, cols: first pixels of the blocks and the end of the scene (R + 1), (C + 1).
        counts: labelled pixels of each class (R, C, K).
        held_out: (R, C) bool.
    """

    rows: NDArray[np.int64]
    cols: NDArray[np.int64]
    counts: NDArray[np.int64]
    held_out: NDArray[np.bool_]

    def window(self, row: int, col: int) -> Window:
        """The pixels of a block."""
        top, left = int(self.rows[row]), int(self.cols[col])
        return Window(top, left, int(self.rows[row + 1]) - top, int(self.cols[col + 1]) - left)

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Blocks (R, C) with any label."""
        return np.asarray(self.counts.any(axis=-1))

    def listed(self, *, held_out: bool) -> list[tuple[int, int]]:
        """Rows and columns of the blocks with labels that are held out, or are not."""
        found = np.argwhere(self.labelled & (self.held_out == held_out))
        return [(int(row), int(col)) for row, col in found]

    def without_held_out(self, labels: Indices, window: Window) -> Indices:
        """Labels of a window as training may see them."""
        at_rows = np.arange(window.row, window.row + window.height)
        at_cols = np.arange(window.col, window.col + window.width)
        at_row, at_col = (
            np.clip(np.searchsorted(edges, at, side="right") - 1, 0, len(edges) - 2)
            for edges, at in ((self.rows, at_rows), (self.cols, at_cols))
        )
        return np.where(self.held_out[np.ix_(at_row, at_col)], np.uint8(IGNORE), labels)


def scanned(
    scenes: Sequence[LabelledScene], classes: Vocabulary, config: AreaConfig
) -> tuple[list[LabelledScene], Vocabulary, list[Blocks]]:
    """The scenes cut into blocks, and the classes that occur in them; all labels are read, so that none fails later.

    Raises:
        SceneError: no label in any scene, or one that is no class. ConfigError: a class that was asked for without any
            pixel, or a single class with pixels.
    """
    side = config.block_size or block_side(scenes)
    every = [_cut(one, side, len(classes)) for one in scenes]
    there_K = np.any([blocks.counts.any((0, 1)) for blocks in every], axis=0)
    files = a_few(dict.fromkeys(str(one.labels_path) for one in scenes), 3)
    if not there_K.any():
        raise SceneError(f"{files}: no pixel of the scenes has a label. Check that the labels lie where the images do.")
    if there_K.sum() == 1:
        only = classes.names[int(there_K.argmax())]
        raise ConfigError(
            f"{files}: only {only!r} is labelled, so nothing tells what is not {only}.\n"
            "  Label something else too; or if pixels in no shape are something else, say what: --outside background."
        )
    if there_K.all():
        return list(scenes), classes, every
    empty = a_few(name for name, there in zip(classes.names, there_K, strict=True) if not there)
    if config.labelling.vocabulary() is not None:
        raise ConfigError(
            f"{files}: no pixel of the scenes is labelled {empty}, which cannot be learned so.\n"
            "  Leave it out of the classes, or label some. A shape that holds no pixel's center counts for none."
        )
    logger.info("In the labels, but not in the scenes, so left out: %s.", empty)
    kept = Vocabulary(tuple(entry for entry, there in zip(classes.classes, there_K, strict=True) if there))
    table = np.full(IGNORE + 1, IGNORE, np.uint8)
    table[np.flatnonzero(there_K)] = np.arange(there_K.sum())
    return (
        [replace(one, read_labels=partial(_renumbered, one.read_labels, table)) for one in scenes],
        kept,
        [replace(blocks, counts=blocks.counts[..., there_K]) for blocks in every],
    )


def hold_out(every: Sequence[Blocks], classes: Vocabulary, config: AreaConfig) -> None:
    """Mark the blocks that are not learned from.

    Raises:
        ConfigError: labels that lie too close together to be split.
    """
    listed = [(number, row, col) for number, blocks in enumerate(every) for row, col in np.argwhere(blocks.labelled)]
    if config.held_out == 0:
        return
    if len(listed) < 2:
        raise ConfigError(
            "All labels lie in one block, so none can be held out. Label more of the area, give a smaller "
            "--block-size, or learn without scores: --held-out 0."
        )
    counts_NK = np.stack([every[number].counts[row, col] for number, row, col in listed])
    for at in _chosen(counts_NK, config.held_out, config.seed):
        number, row, col = listed[at]
        every[number].held_out[row, col] = True
    _require_learned(every, classes)


def block_side(scenes: Sequence[LabelledScene]) -> int:
    """Side in pixels: larger where there is room, as near pixels look alike, but some blocks there must be."""
    pixels = sum(one.shape[0] * one.shape[1] for one in scenes)
    reduction = max(one.reduction for one in scenes)
    return round(min(max(math.sqrt(pixels / WANTED_BLOCKS), SMALLEST * reduction), LARGEST * reduction))


def pixels_of(every: Sequence[Blocks], *, held_out: bool) -> NDArray[np.int64]:
    """Labelled pixels of each class (K,) in blocks that are held out, or are not."""
    parts = [blocks.counts[blocks.held_out == held_out].sum(0) for blocks in every]
    return np.asarray(np.sum(parts, axis=0), np.int64)


def summary(scenes: Sequence[LabelledScene], every: Sequence[Blocks], classes: Vocabulary) -> dict[str, Any]:
    """Which pixels are held out, as it is kept beside the weights."""
    return {
        "classes": list(classes.names),
        "scenes": [
            {
                "name": one.name,
                "block_rows": blocks.rows.tolist(),
                "block_cols": blocks.cols.tolist(),
                "held_out": blocks.listed(held_out=True),
                "learned": blocks.listed(held_out=False),
                "pixels_learned": blocks.counts[~blocks.held_out].sum(0).tolist(),
                "pixels_held_out": blocks.counts[blocks.held_out].sum(0).tolist(),
            }
            for one, blocks in zip(scenes, every, strict=True)
        ],
    }


def _cut(one: LabelledScene, side: int, classes: int) -> Blocks:
    rows, cols = (_edges(length, side) for length in one.shape)
    counts = np.zeros((len(rows) - 1, len(cols) - 1, classes), np.int64)
    blocks = Blocks(rows, cols, counts, np.zeros(counts.shape[:2], bool))
    for row, col in np.ndindex(*counts.shape[:2]):
        found = np.bincount(one.read_labels(blocks.window(row, col)).ravel(), minlength=IGNORE + 1)
        counts[row, col] = found[:classes]
    return blocks


def _renumbered(read: Callable[[Window], Indices], table: Indices, window: Window) -> Indices:
    found: Indices = table[read(window)]
    return found


def _edges(length: int, side: int) -> NDArray[np.int64]:
    """Ends of blocks of about equal length."""
    ends: NDArray[np.int64] = np.linspace(0, length, max(1, round(length / side)) + 1).round().astype(np.int64)
    return ends


def _chosen(counts_NK: NDArray[np.int64], share: float, seed: int) -> list[int]:
    """The blocks to hold out: of many random choices the one nearest to the wanted share of every class."""
    rng = np.random.Generator(np.random.PCG64([seed, 11]))
    count = min(max(1, round(share * len(counts_NK))), len(counts_NK) - 1)
    total_K = counts_NK.sum(0)
    best, chosen = math.inf, [0]
    for _ in range(DRAWS):
        drawn = rng.permutation(len(counts_NK))[:count]
        held_K = counts_NK[drawn].sum(0)
        # A class that cannot be learned is worst, one that cannot be scored is bad.
        cost = float(np.abs(held_K / total_K - share).sum() + 1e6 * (held_K == total_K).sum())
        cost += 10 * float((held_K == 0).sum())
        if cost < best:
            best, chosen = cost, sorted(int(at) for at in drawn)
    return chosen


def _require_learned(every: Sequence[Blocks], classes: Vocabulary) -> None:
    learned_K, held_K = pixels_of(every, held_out=False), pixels_of(every, held_out=True)
    lost = [entry.name for entry, count in zip(classes.classes, learned_K, strict=True) if count == 0]
    if lost:
        raise ConfigError(
            f"No split by area leaves {a_few(map(repr, lost))} to be learned: all its labels lie in blocks that would "
            "be held out.\n  Give a smaller --block-size or --held-out, or label more of it."
        )
    unscored = [entry.name for entry, count in zip(classes.classes, held_K, strict=True) if count == 0]
    if unscored:
        logger.warning("Too few places show %s to hold any out, so it gets no score.", a_few(unscored))
