"""The picture of a registration: vectors of the windows, checkerboards before and after, residuals, verdict."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mmovseg_geo.grid import Window

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from mmovseg_geo.rasters.registration import Registration
    from mmovseg_geo.rasters.scene import Scene

    Pixels = NDArray[np.uint8]

PANEL = 480
MARGIN = 20
HEAD = 120
CAPTION = 28
LOOKED_AT = 240
"""Pixels of the scene that a checkerboard shows: three pixels of shift must be seen."""
CELL = 24
AGREES = 2.0
"""Windows whose own shift lies within so many pixels of the result are drawn in green."""
BINS = 12
INK, PALE, PAPER = (34, 34, 34), (130, 130, 130), (255, 255, 255)
GREEN, ORANGE = (20, 150, 60), (220, 120, 20)


def draw(path: Path, before: Scene, after: Scene, found: Registration) -> None:
    """Write the PNG of a registration: `before` and `after` are the scene without and with its displacement."""
    sheet = Image.new("RGB", (4 * PANEL + 5 * MARGIN, HEAD + CAPTION + PANEL + MARGIN), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, 12), before.name, INK, _font(24))
    verdict = found.why[:1].upper() + found.why[1:]
    for line, text in enumerate(textwrap.wrap(verdict, 190)[:2]):
        pen.text((MARGIN, 46 + 20 * line), text, INK, _font(16))
    sure = "confident" if found.confident else "not confident"
    numbers = f"rows {found.rows:+.2f}, columns {found.cols:+.2f} pixels; confidence {found.confidence:.2f} ({sure})"
    pen.text((MARGIN, 90), f"{numbers}; model {found.model}", GREEN if found.confident else ORANGE, _font(16))
    place = _place(before, found)
    panels = [
        ("windows: own shift, enlarged; green agrees", _vectors(before, found)),
        ("checkerboard before", _checkered(before, place)),
        ("checkerboard after" + ("" if found.applied else " (nothing moved)"), _checkered(after, place)),
        ("windows by distance from the result, pixels", _histogram(found)),
    ]
    for index, (name, panel) in enumerate(panels):
        left = MARGIN + index * (PANEL + MARGIN)
        pen.text((left, HEAD), name, INK, _font(15))
        sheet.paste(panel, (left, HEAD + CAPTION))
    sheet.save(path, format="PNG", optimize=False)


def _vectors(scene: Scene, found: Registration) -> Image.Image:
    tile = scene.overview(PANEL)
    assert tile.optical is not None, "both sensors are there"
    image, scale = _fitted(_shown(tile.optical, tile.optical_valid))
    scale *= tile.optical.shape[-1] / scene.shape[1]
    pen = ImageDraw.Draw(image)
    longest = max((float(np.hypot(w.rows, w.cols)) for w in found.windows), default=1.0)
    enlarged = 22.0 / max(longest, 1.0)
    away = _distances(found)
    for window, far in zip(found.windows, away, strict=True):
        x, y = window.col * scale, window.row * scale
        color = GREEN if far <= AGREES else ORANGE
        tip = (x + window.cols * enlarged, y + window.rows * enlarged)
        pen.line((x, y, *tip), fill=color, width=2)
        pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill=color)
    return image


def _place(scene: Scene, found: Registration) -> Window:
    """Where the checkerboards look: around the window that fits best, or the middle."""
    best = max(found.windows, key=lambda w: w.correlation, default=None)
    at = (scene.shape[0] / 2, scene.shape[1] / 2) if best is None else (best.row, best.col)
    sides = [min(LOOKED_AT, side) for side in scene.shape]
    row, col = (
        int(np.clip(middle - side / 2, 0, whole - side))
        for middle, side, whole in zip(at, sides, scene.shape, strict=True)
    )
    return Window(row, col, sides[0], sides[1])


def _checkered(scene: Scene, window: Window) -> Image.Image:
    tile = scene.read(window)
    assert tile.optical is not None, "both sensors are there"
    assert tile.sar is not None, "both sensors are there"
    rows, cols = np.indices(window.shape, sparse=True)
    light = ((rows // CELL + cols // CELL) % 2 == 0)[..., None]
    optical, sar = _shown(tile.optical, tile.optical_valid), _shown(tile.sar[:1], tile.sar_valid)
    return _fitted(np.where(light, optical, sar).astype(np.uint8))[0]


def _histogram(found: Registration) -> Image.Image:
    image = Image.new("RGB", (PANEL, PANEL), (246, 246, 246))
    pen = ImageDraw.Draw(image)
    away = _distances(found)
    if not away:
        pen.text((20, PANEL // 2), "no window could be used", PALE, _font(18))
        return image
    counts, edges = np.histogram(np.minimum(away, BINS - 0.01), bins=BINS, range=(0, BINS))
    wide = (PANEL - 40) / BINS
    for index, count in enumerate(counts):
        left = 20 + index * wide
        height = (PANEL - 100) * count / max(int(counts.max()), 1)
        color = GREEN if edges[index] < AGREES else ORANGE
        pen.rectangle((left + 2, PANEL - 40 - height, left + wide - 2, PANEL - 40), fill=color)
        more = "+" if index == BINS - 1 else ""
        pen.text((left + 4, PANEL - 34), f"{index}{more}", PALE, _font(13))
        if count:
            pen.text((left + 4, PANEL - 58 - height), f"{count}", INK, _font(13))
    return image


def _distances(found: Registration) -> list[float]:
    """How far each window's own shift lies from the result, in pixels."""
    return [float(np.hypot(w.rows - w.to_rows, w.cols - w.to_cols)) for w in found.windows]


def _shown(bands: NDArray[np.float32], valid: NDArray[np.bool_] | None) -> Pixels:
    assert valid is not None, "a sensor that is there says where it is valid"
    pixels = np.broadcast_to(bands, (3, *bands.shape[1:]))
    low, high = np.percentile(bands[:, valid], (1, 99)) if valid.any() else (0, 255)
    stretched: Any = np.clip((pixels - low) * (255 / max(high - low, 16)), 0, 255)
    shown: Pixels = np.moveaxis(stretched, 0, -1).astype(np.uint8)
    return shown


def _fitted(pixels: Pixels) -> tuple[Image.Image, float]:
    """The picture with its longer side as long as a panel, and by how much it was enlarged."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    scale = PANEL / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    sheet = Image.new("RGB", (PANEL, PANEL), PAPER)
    sheet.paste(image.resize(size, Image.Resampling.BICUBIC), (0, 0))
    return sheet, scale


def _font(size: int) -> Any:
    return ImageFont.load_default(size=size)
