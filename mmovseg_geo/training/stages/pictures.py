"""`report.png` of a run: how loss, rate and scores went, and what the weights make of some images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch.utils.data import default_collate

from mmovseg_geo.training.loop import on_device
from mmovseg_geo.training.loop_batches import Draw, Samples
from mmovseg_geo.training.loop_record import VALIDATION, read_metrics
from mmovseg_geo.training.stages.stage import Pictures, Stage

REPORT = "report.png"
WIDTH, CHART, MARGIN, LEFT = 1200, 260, 24, 90
EXAMPLES, PANEL = 4, 270
INK, PALE, PAPER = (34, 34, 34), (190, 190, 190), (255, 255, 255)
LINES = ((31, 119, 180), (214, 39, 40), (44, 160, 44), (148, 103, 189), (255, 127, 14), (140, 86, 75))
Points = list[tuple[float, float]]


def write_report(folder: Path, stage: Stage, samples: Samples, *, step: int) -> Path:
    """Write the picture; the stage has the weights of `step`, which is marked in the curves."""
    charts = [chart for chart in _charts(read_metrics(folder)) if any(chart[1].values())]
    rows = [_pictured(stage, samples, index) for index in range(min(EXAMPLES, len(samples)))]
    rows = [row for row in rows if row]
    height = MARGIN + len(charts) * (CHART + MARGIN) + len(rows) * (PANEL + 2 * MARGIN)
    sheet = Image.new("RGB", (WIDTH, height), PAPER)
    draw, top = ImageDraw.Draw(sheet), MARGIN
    for title, curves in charts:
        _draw_chart(draw, top, title, curves, step)
        top += CHART + MARGIN
    for row in rows:
        for place, (name, pixels) in enumerate(row):
            left = MARGIN + place * (PANEL + MARGIN)
            draw.text((left, top), name, INK, _font(15))
            sheet.paste(_fitted(pixels, crisp=name in ("truth", "map")), (left, top + MARGIN))
        top += PANEL + 2 * MARGIN
    path = folder / REPORT
    sheet.save(path)
    return path


def _charts(entries: Sequence[Mapping[str, Any]]) -> list[tuple[str, dict[str, Points]]]:
    """Title and curves by name."""
    curves: dict[str, Points] = {}
    for entry in entries:
        for name, value in entry.items():
            if name != "step" and isinstance(value, (int, float)) and math.isfinite(value):
                curves.setdefault(name, []).append((entry["step"], value))
    scores = {name.removeprefix(VALIDATION): points for name, points in curves.items() if name.startswith(VALIDATION)}
    return [
        ("loss", {"loss": curves.get("loss", [])}),
        ("validation", dict(list(scores.items())[: len(LINES)])),
        ("learning rate", {"rate": curves.get("rate", [])}),
    ]


def _draw_chart(draw: ImageDraw.ImageDraw, top: int, title: str, curves: Mapping[str, Points], marked: int) -> None:
    box = (LEFT, top + 30, WIDTH - MARGIN, top + CHART - 20)
    points = [point for curve in curves.values() for point in curve]
    (left, right), (low, high) = (_range([point[axis] for point in points]) for axis in (0, 1))

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            box[0] + (x - left) / (right - left) * (box[2] - box[0]),
            box[3] - (y - low) / (high - low) * (box[3] - box[1]),
        )

    draw.text((LEFT, top), title, INK, _font(17))
    for share in (0.0, 0.5, 1.0):
        value, step = low + share * (high - low), left + share * (right - left)
        row = at(left, value)[1]
        draw.line((box[0], row, box[2], row), PALE)
        label = f"{value:.3g}"
        draw.text((box[0] - 8 - draw.textlength(label, _font(13)), row - 8), label, INK, _font(13))
        label = f"{step:.0f}"
        draw.text((at(step, low)[0] - share * draw.textlength(label, _font(13)), box[3] + 4), label, INK, _font(13))
    if left <= marked <= right:
        draw.line((*at(marked, low), *at(marked, high)), PALE, 2)
    beside = LEFT + 130.0
    for color, (name, curve) in zip(LINES, curves.items(), strict=False):
        places = [at(*point) for point in curve]
        draw.line(places, color, 2) if len(places) > 1 else None
        for x, y in places if len(places) <= 50 else places[-1:]:
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), color)
        if len(curves) > 1:
            draw.text((beside, top + 2), name, color, _font(14))
            beside += draw.textlength(name, _font(14)) + 18


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2)


def _pictured(stage: Stage, samples: Samples, index: int) -> Pictures:
    device = next(stage.parameters()).device
    with torch.no_grad():
        batch = on_device(default_collate([samples[Draw(index, index)]]), device)
        return stage.pictures(batch)[: (WIDTH - MARGIN) // (PANEL + MARGIN)]


def _fitted(pixels: NDArray[Any], *, crisp: bool) -> Image.Image:
    image = Image.fromarray(pixels)
    scale = PANEL / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.NEAREST if crisp else Image.Resampling.BICUBIC)


def _font(size: int) -> Any:
    return ImageFont.load_default(size=size)
