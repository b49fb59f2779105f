"""Pictures of an evaluation: the confusion matrix, and scores against clouds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mmovseg_geo.evaluation.result import Evaluation

INK, PALE, PAPER, LINE = (34, 34, 34), (120, 120, 120), (255, 255, 255), (226, 226, 226)
DEEP = np.array((20, 70, 120), float)
MARGIN, CELL, SMALLEST_CELL, LARGEST_SIDE = 28, 76, 22, 1600
NAME_ROOM = 170
CHART = (620, 380)

Corner = tuple[float, float]


def write_confusion(path: Path, found: Evaluation) -> None:
    """The share of each labelled class (rows) that the map says to be each class (columns), as colored squares."""
    counts = found.total.confusion.counts.astype(float)
    columns = [*found.classes.names, "no data"]
    if not counts[:, -1].any():
        counts, columns = counts[:, :-1], columns[:-1]
    total = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
    cell = int(np.clip((LARGEST_SIDE - NAME_ROOM) // len(columns), SMALLEST_CELL, CELL))
    font = _font(max(11, min(16, cell // 4)))
    longest = max(font.getlength(name) for name in columns)
    head = int(min(NAME_ROOM, longest + 16))
    left, top = MARGIN + NAME_ROOM, MARGIN + 66 + head
    sheet = Image.new("RGB", (left + cell * len(columns) + MARGIN, top + cell * len(share) + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, 18), _fitting(draw, found.title, _font(22), sheet.width - 2 * MARGIN), INK, _font(22))
    said = "rows: labels, columns: map; percent of the labelled pixels"
    draw.text((MARGIN, 50), _fitting(draw, said, _font(14), sheet.width - 2 * MARGIN), PALE, _font(14))
    for at, name in enumerate(columns):
        _upright(sheet, name, (left + at * cell, top - head), (cell, head - 8), font)
    for row, name in enumerate(found.classes.names):
        y = top + row * cell
        text = _fitting(draw, name, font, NAME_ROOM - 12)
        draw.text((left - 10 - draw.textlength(text, font), y + cell / 2), text, INK, font, anchor="lm")
        for at, value in enumerate(share[row]):
            _square(draw, (left + at * cell, y), cell, float(value), bool(total[row, 0]), font)
    sheet.save(path, format="PNG")


def write_cloud_chart(path: Path, found: Sequence[Evaluation]) -> None:
    """IoU of each class, and their mean, against the share that clouds reach."""
    width, height = CHART
    left, top = MARGIN + 46, MARGIN + 56
    sheet = Image.new("RGB", (left + width + 230, top + height + 60), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, 18), _fitting(draw, found[0].title, _font(22), sheet.width - 2 * MARGIN), INK, _font(22))
    draw.text((MARGIN, 48), "IoU in hundredths against percent of clouds", PALE, _font(14))
    for tick in range(0, 101, 20):
        x, y = left + width * tick / 100, top + height * (1 - tick / 100)
        draw.line((left, y, left + width, y), LINE)
        draw.text((left - 8, y), str(tick), PALE, _font(13), anchor="rm")
        draw.text((x, top + height + 8), str(tick), PALE, _font(13), anchor="mt")
    ordered = sorted(found, key=lambda one: one.cover or 0.0)
    lines: list[tuple[str, Any, int, list[float | None]]] = [
        (entry.name, entry.rgb, 2, [one.scores.iou[entry.name] for one in ordered])
        for entry in found[0].classes.classes
    ]
    lines.append(("mIoU", INK, 4, [one.scores.miou_labelled for one in ordered]))
    ends: list[tuple[float, str, Any]] = []
    for name, color, thick, values in lines:
        points = [
            (left + width * (one.cover or 0.0), top + height * (1 - value))
            for one, value in zip(ordered, values, strict=True)
            if value is not None
        ]
        if points:
            draw.line(points, color, thick, joint="curve")
            for x, y in points:
                draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=color)
            ends.append((points[-1][1], name, color))
    _name_lines(draw, sorted(ends, key=lambda end: end[0]), left + width + 14, top + height)
    sheet.save(path, format="PNG")


def _name_lines(draw: ImageDraw.ImageDraw, ends: list[tuple[float, str, Any]], x: float, lowest: float) -> None:
    """Names at the ends of lines, moved apart where they would cover each other."""
    room = 19
    places = [end[0] for end in ends]
    for at in range(1, len(places)):
        places[at] = max(places[at], places[at - 1] + room)
    places = [min(place, lowest) for place in places]
    for at in range(len(places) - 2, -1, -1):
        places[at] = min(places[at], places[at + 1] - room)
    for y, (_, name, color) in zip(places, ends, strict=True):
        draw.rectangle((x, y - 5, x + 10, y + 5), fill=color)
        draw.text((x + 16, y), _fitting(draw, name, _font(15), 180), INK, _font(15), anchor="lm")


def _square(draw: ImageDraw.ImageDraw, corner: Corner, cell: int, share: float, known: bool, font: Any) -> None:
    x, y = corner
    color = tuple(int(value) for value in (255 + (DEEP - 255) * share))
    draw.rectangle((x, y, x + cell - 2, y + cell - 2), fill=color if known else LINE)
    if known and cell >= 30 and share >= 0.0005:
        draw.text(
            (x + cell / 2 - 1, y + cell / 2 - 1),
            f"{100 * share:.1f}",
            PAPER if share > 0.45 else INK,
            font,
            anchor="mm",
        )


def _upright(sheet: Image.Image, text: str, corner: Corner, room: tuple[int, int], font: Any) -> None:
    """Text from below to above, in the middle of its room (width, height) and ending at its bottom."""
    strip = Image.new("RGB", (room[1], room[0]), PAPER)
    draw = ImageDraw.Draw(strip)
    draw.text((0, room[0] / 2 - 1), _fitting(draw, text, font, room[1]), INK, font, anchor="lm")
    sheet.paste(strip.rotate(90, expand=True), (int(corner[0]), int(corner[1])))


def _fitting(draw: ImageDraw.ImageDraw, text: str, font: Any, room: float) -> str:
    if draw.textlength(text, font) <= room:
        return text
    while text and draw.textlength(text + "…", font) > room:
        text = text[:-1]
    return text + "…"


def _font(size: int) -> Any:
    return ImageFont.load_default(size=size)
