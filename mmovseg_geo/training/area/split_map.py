"""The split drawn on the scenes: which squares are learned from, which are held out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmovseg_geo.report import composed, panel_side
from mmovseg_geo.training.area.scenes import LabelledScene
from mmovseg_geo.training.area.split import Blocks

SPLIT_MAP = "split.png"
PANELS = 6
"""Scenes on one sheet."""
LEARNED, HELD_OUT, UNLABELLED = (31, 119, 180), (255, 127, 14), (150, 150, 150)
VEIL = 0.35
Pixels = NDArray[np.uint8]


def write_split_map(folder: Path, scenes: Sequence[LabelledScene], every: Sequence[Blocks]) -> list[Path]:
    """`split.png` in a folder, and `split_2.png` and so on where there are many scenes."""
    paths = []
    for sheet, first in enumerate(range(0, len(scenes), PANELS), 1):
        pairs = list(zip(scenes, every, strict=True))[first : first + PANELS]
        side = panel_side(len(pairs))
        panels = [(one.name, _drawn(one, blocks, side)) for one, blocks in pairs]
        image = composed(
            panels,
            _legend([blocks for _, blocks in pairs]),
            title="Split by area",
            note="Labels in orange squares are never learned from; scores are measured there.",
            crisp=[],
        )
        path = folder / SPLIT_MAP.replace(".", "." if sheet == 1 else f"_{sheet}.")
        image.save(path)
        paths.append(path)
    return paths


def _legend(every: Sequence[Blocks]) -> list[tuple[str, tuple[int, int, int], str]]:
    learned, held_out = (sum(len(blocks.listed(held_out=is_held)) for blocks in every) for is_held in (False, True))
    without = sum(int((~blocks.labelled).sum()) for blocks in every)
    return [
        ("learned from", LEARNED, f"{learned} squares"),
        ("held out", HELD_OUT, f"{held_out} squares"),
        ("without labels", UNLABELLED, f"{without} squares"),
    ]


def _drawn(one: LabelledScene, blocks: Blocks, side: int) -> Pixels:
    picture = _picture(one, side)
    height, width = picture.shape[:2]
    rows, cols = (
        np.round(edges * (length / edges[-1])).astype(int)
        for edges, length in ((blocks.rows, height), (blocks.cols, width))
    )
    for row, col in np.ndindex(*blocks.held_out.shape):
        color = np.array(HELD_OUT if blocks.held_out[row, col] else LEARNED, np.float32)
        if not blocks.labelled[row, col]:
            color = np.array(UNLABELLED, np.float32)
        part = picture[rows[row] : rows[row + 1], cols[col] : cols[col + 1]]
        frame = np.ones(part.shape[:2], bool)
        frame[2:-2, 2:-2] = False
        part[:] = (1 - VEIL) * part + VEIL * color if blocks.labelled[row, col] else part
        part[frame] = color
    return picture.astype(np.uint8)


def _picture(one: LabelledScene, side: int) -> NDArray[np.float32]:
    """The scene in few pixels (H, W, 3), as the network sees it; gray where there is no data."""
    tile = one.scene.overview(side)
    image, valid = (tile.optical, tile.optical_valid) if tile.optical is not None else (tile.sar, tile.sar_valid)
    assert image is not None, "a scene has at least one sensor"
    assert valid is not None, "a sensor comes with its validity"
    colors: Any = np.broadcast_to(image if len(image) == 3 else image[:1], (3, *image.shape[1:]))
    shown: NDArray[np.float32] = np.where(valid[..., None], np.moveaxis(colors, 0, -1), np.float32(200)).astype(
        np.float32
    )
    return shown
