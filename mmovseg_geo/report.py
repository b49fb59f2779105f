"""The preview of a finished map: optical, SAR, map and legend side by side in one PNG."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mmovseg_geo.grid import Window, crs_name
from mmovseg_geo.vocabulary import Vocabulary

if TYPE_CHECKING:
    from mmovseg_geo.rasters.labels import LabelRaster
    from mmovseg_geo.rasters.scene import Scene
    from mmovseg_geo.tiles import Tile

Pixels = NDArray[np.uint8]

WIDEST = 2400
LARGEST_PANEL = 900
LEGEND = 340
SHORTEST_LEGEND = 300
MARGIN = 24
HEAD = 72
CAPTION = 34
ROW = 30
SWATCH = 20
ROWS_AT_ONCE = 512
CHECKER = 8
LEAST_CONTRAST = 16
"""Range of values, of 255, below which stretching would show noise."""
INK, PALE, PAPER = (34, 34, 34), (120, 120, 120), (255, 255, 255)


def write_preview(
    path: str | Path,
    scene: Scene,
    labels: LabelRaster,
    *,
    areas: Sequence[Mapping[str, Any]],
    window: Window | None = None,
) -> Path:
    """The path of a new PNG with a panel for each sensor, the map, and a legend with each class's share of the ground.

    Args:
        areas: what `class_areas` says of the labels.
        window: the rows and columns of the scene that the labels cover, if not all.
    """
    tile = _looked_at(scene, window)
    side = panel_side(1 + (tile.optical is not None) + (tile.sar is not None))
    panels = [] if tile.optical is None else [("optical", _picture(tile.optical, tile.optical_valid))]
    if tile.sar is not None:
        panels.append(("SAR", _picture(tile.sar[:1], tile.sar_valid)))
    panels.append(("map", colored(_thinned(labels, side), labels.vocabulary)))
    if scene.grid.affine.e > 0:
        panels = [(name, pixels[::-1]) for name, pixels in panels]
    height, width = labels.grid.shape
    note = f"{width} x {height} pixels of {scene.gsd_m:.3g} m, {crs_name(labels.grid.crs)}"
    sheet = composed(panels, _legend(labels.vocabulary, areas), title=scene.name, note=note)
    path = Path(path)
    sheet.save(path, format="PNG", optimize=False)
    return path


def panel_side(count: int) -> int:
    """Longest side in pixels of each of `count` panels, so that the sheet is not too wide."""
    return min(LARGEST_PANEL, (WIDEST - LEGEND - (2 + count) * MARGIN) // count)


def colored(labels: NDArray[Any], vocabulary: Vocabulary) -> Pixels:
    """(H, W, 3) labels in the colors of their classes; anything else shows the checker of no-data."""
    colors = np.zeros((vocabulary.ignore + 1, 3), np.uint8)
    known = np.zeros(vocabulary.ignore + 1, bool)
    for entry in vocabulary.classes:
        colors[entry.id], known[entry.id] = entry.rgb, True
    return np.where(known[labels][..., None], colors[labels], _checker(labels.shape)).astype(np.uint8)


def composed(
    panels: Sequence[tuple[str, Pixels]],
    legend: Sequence[tuple[str, tuple[int, int, int], str]],
    *,
    title: str,
    note: str,
    crisp: Collection[str] = ("map",),
) -> Image.Image:
    """A sheet with named pictures in a row and a legend of (name, color, share) at their right.

    The pictures named in `crisp` are of classes, whose colors are never mixed.
    """
    side = panel_side(len(panels))
    images = [(name, _fitted(pixels, side, crisp=name in crisp)) for name, pixels in panels]
    tallest = max(image.height for _, image in images)
    most = max(1, (max(tallest, SHORTEST_LEGEND) - ROW) // ROW)
    body = max(tallest, (min(len(legend), most) + (len(legend) > most)) * ROW)
    width = MARGIN + sum(image.width + MARGIN for _, image in images) + LEGEND + MARGIN
    sheet = Image.new("RGB", (width, HEAD + CAPTION + body + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, 14), _shortened(draw, title, _font(26), width - 2 * MARGIN), INK, _font(26))
    draw.text((MARGIN, 46), _shortened(draw, note, _font(15), width - 2 * MARGIN), PALE, _font(15))
    left = MARGIN
    for name, image in images:
        draw.text((left, HEAD + 6), name, INK, _font(18))
        sheet.paste(image, (left, HEAD + CAPTION))
        left += image.width + MARGIN
    for index, (name, color, share) in enumerate(legend[:most]):
        _legend_row(draw, (left, HEAD + CAPTION + index * ROW), name, color, share)
    if len(legend) > most:
        rest = f"and {len(legend) - most} more"
        draw.text((left, HEAD + CAPTION + most * ROW), rest, PALE, _font(16))
    return sheet


def _legend_row(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], name: str, color: tuple[int, int, int], share: str
) -> None:
    left, top = corner
    font = _font(17)
    draw.rectangle((left, top, left + SWATCH, top + SWATCH), fill=color, outline=PALE)
    room = LEGEND - SWATCH - 12 - 74
    draw.text((left + SWATCH + 12, top - 1), _shortened(draw, name, font, room), INK, font)
    draw.text((left + LEGEND - draw.textlength(share, font), top - 1), share, PALE, font)


def _legend(vocabulary: Vocabulary, areas: Sequence[Mapping[str, Any]]) -> list[tuple[str, tuple[int, int, int], str]]:
    shares = {area["id"]: area["share"] for area in areas}
    return [(entry.name, entry.rgb, _percent(shares.get(entry.id, 0.0))) for entry in vocabulary.classes]


def _percent(share: float) -> str:
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{100 * share:.1f} %"


def _looked_at(scene: Scene, window: Window | None) -> Tile:
    """The scene, or its part that was mapped, at about the size of a panel."""
    height, width = (int(side) for side in scene.grid.shape)
    if window is None:
        return scene.overview(LARGEST_PANEL)
    if max(window.shape) <= 2 * LARGEST_PANEL:
        return scene.read(window)
    whole = scene.overview(LARGEST_PANEL * max(height, width) // max(window.shape))
    rows, columns = whole.valid.shape
    top, left = window.row * rows // height, window.col * columns // width
    part = (
        slice(top, max(top + 1, (window.row + window.height) * rows // height)),
        slice(left, max(left + 1, (window.col + window.width) * columns // width)),
    )
    return _cropped(whole, part)


def _cropped(tile: Tile, part: tuple[slice, slice]) -> Tile:
    index = (Ellipsis, *part)
    return replace(
        tile,
        optical=None if tile.optical is None else tile.optical[index],
        sar=None if tile.sar is None else tile.sar[index],
        optical_valid=None if tile.optical_valid is None else tile.optical_valid[index],
        sar_valid=None if tile.sar_valid is None else tile.sar_valid[index],
    )


def _thinned(labels: LabelRaster, longest: int) -> NDArray[Any]:
    """Every n-th label of a map, so that neither side is longer than `longest`; some rows are read at a time."""
    height, width = (int(side) for side in labels.grid.shape)
    scale = min(1.0, longest / max(height, width))
    rows = ((np.arange(max(1, round(height * scale))) + 0.5) * height / max(1, round(height * scale))).astype(int)
    columns = ((np.arange(max(1, round(width * scale))) + 0.5) * width / max(1, round(width * scale))).astype(int)
    parts = []
    for start in range(0, height, ROWS_AT_ONCE):
        stop = min(height, start + ROWS_AT_ONCE)
        here = rows[(rows >= start) & (rows < stop)] - start
        if len(here):
            parts.append(labels.read(Window(start, 0, stop - start, width))[here][:, columns])
    return np.concatenate(parts)


def _picture(bands: NDArray[np.float32], valid: NDArray[np.bool_] | None) -> Pixels:
    """(H, W, 3) picture of one band or three, stretched together so that 98 % of the values fill the range."""
    assert valid is not None, "a sensor that is there says where it is valid"
    pixels = np.broadcast_to(bands, (3, *bands.shape[1:]))
    if valid.any():
        low, high = np.percentile(bands[:, valid], (1, 99))
        if high - low > LEAST_CONTRAST:
            pixels = np.clip((pixels - low) * (255 / (high - low)), 0, 255)
    return np.where(valid[..., None], np.moveaxis(pixels, 0, -1), _checker(valid.shape)).astype(np.uint8)


def _checker(shape: tuple[int, ...]) -> Pixels:
    rows, columns = np.indices(shape, sparse=True)
    light = (rows // CHECKER + columns // CHECKER) % 2 == 0
    return np.where(light, 240, 222).astype(np.uint8)[..., None].repeat(3, axis=2)


def _fitted(pixels: Pixels, side: int, *, crisp: bool) -> Image.Image:
    """The picture with its longer side `side` long; class colors are never mixed."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.NEAREST if crisp else Image.Resampling.BICUBIC)


def _shortened(draw: ImageDraw.ImageDraw, text: str, font: Any, room: float) -> str:
    if draw.textlength(text, font) <= room:
        return text
    while text and draw.textlength(text + "…", font) > room:
        text = text[:-1]
    return text + "…"


def _font(size: int) -> Any:
    return ImageFont.load_default(size=size)
