"""What an evaluation found as tables, and tables as text, Markdown, CSV and xlsx.

In a table every fraction is a share of 1 and every whole number a count. Text and Markdown show shares in hundredths,
as papers print them; CSV and xlsx keep them whole.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmovseg_geo.errors import ConfigError
from mmovseg_geo.evaluation.result import Evaluation
from mmovseg_geo.published import Published

Cell = str | int | float | None

SINGLE = {
    "miou_labelled": "mIoU, classes in the labels",
    "miou": "mIoU, classes in labels or maps",
    "seen": "mIoU of seen classes",
    "unseen": "mIoU of unseen classes",
    "harmonic": "harmonic mean of seen and unseen",
    "foreground": "IoU of the foreground",
    "accuracy": "pixel accuracy",
    "mean_accuracy": "mean accuracy of classes",
    "weighted_iou": "frequency-weighted IoU",
    "mean_boundary_f1": "mean boundary F1",
    "calibration_error": "expected calibration error",
}
"""Single scores in the order of the table."""
ABSENT = "-"
FEW = 10
"""Fewer scenes than this hardly show how scenes differ."""


@dataclass(frozen=True)
class Table:
    """A table by name, with a header and rows of as many cells."""

    name: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def tables(found: Evaluation) -> list[Table]:
    """Scores of classes, single scores, scores of scenes, and the confusion matrix."""
    return [class_table(found), single_table(found), scene_table(found), confusion_table(found)]


def class_table(found: Evaluation) -> Table:
    """Scores of each class, with the numbers of papers beside."""
    scores, spans = found.scores, found.intervals.by_class.get("iou", {})
    labelled = found.total.confusion.counts.sum(axis=1)
    methods = _methods(found, "IoU")
    header = ["class", "IoU", *(["low", "high"] if spans else []), "F1", "precision", "recall", "boundary F1"]
    rows = []
    for name, count in zip(found.classes.names, labelled.tolist(), strict=True):
        span = (*spans.get(name, (None, None)),) if spans else ()
        own = (scores.f1[name], scores.precision[name], scores.recall[name], scores.boundary_f1.get(name))
        papers = (_value(main_number(found.published, method, "IoU", name)) for method in methods)
        rows.append((name, scores.iou[name], *span, *own, count / scores.pixels, *papers))
    return Table("classes", (*header, "share of labels", *_headers(methods)), tuple(rows))


def single_table(found: Evaluation) -> Table:
    """Scores that are one number, those that are defined."""
    spans = found.intervals.single
    methods = _methods(found, "mIoU")
    rows = []
    for key, label in SINGLE.items():
        value = getattr(found.scores, key)
        if value is None:
            continue
        span = (*spans.get(key, (None, None)),) if spans else ()
        papers = (
            _value(main_number(found.published, method, "mIoU")) if key == _convention(method) else None
            for method in methods
        )
        rows.append((label, value, *span, *papers))
    header = ("score", "value", *(("low", "high") if spans else ()), *_headers(methods))
    return Table("scores", header, tuple(rows))


def scene_table(found: Evaluation) -> Table:
    """A line for each scene; scenes without a scored pixel have no scores."""
    rows: list[tuple[Cell, ...]] = []
    for scene in found.scenes:
        if not scene.tally.pixels:
            rows.append((scene.name, 0, None, None, None, None))
            continue
        scores = scene.tally.scores(found.groups)
        rows.append(
            (
                scene.name,
                scores.pixels,
                scores.miou_labelled,
                scores.accuracy,
                scores.weighted_iou,
                scores.mean_boundary_f1,
            )
        )
    header = ("scene", "pixels", "mIoU", "pixel accuracy", "frequency-weighted IoU", "mean boundary F1")
    return Table("scenes", header, tuple(rows))


def confusion_table(found: Evaluation) -> Table:
    """Pixels by labelled class (rows) and class of the map (columns)."""
    names, counts = found.classes.names, found.total.confusion.counts.tolist()
    return Table(
        "confusion",
        ("labels \\ map", *names, "no data"),
        tuple((name, *row) for name, row in zip(names, counts, strict=True)),
    )


def cloud_table(found: Sequence[Evaluation]) -> Table:
    """How scores fall as clouds grow: a line for each cover."""
    names = [name for name in found[0].classes.names if any(one.scores.iou[name] is not None for one in found)]
    rows = tuple(
        (
            float(one.cover or 0.0),
            one.scores.miou_labelled,
            one.scores.accuracy,
            one.scores.mean_boundary_f1,
            *(one.scores.iou[name] for name in names),
        )
        for one in found
    )
    header = ("clouds", "mIoU", "pixel accuracy", "mean boundary F1", *(f"IoU {name}" for name in names))
    return Table("clouds", header, rows)


def report_lines(found: Sequence[Evaluation]) -> list[str]:
    """What a terminal shows: classes and single scores, or how they fall as clouds grow."""
    first = found[0]
    shown_tables = [class_table(first), single_table(first)] if first.cover is None else [cloud_table(found)]
    lines = [first.title]
    for table in shown_tables:
        lines += ["", *as_text(table)]
    return [*lines, "", *footnotes(first, with_intervals=first.cover is None)]


def footnotes(found: Evaluation, *, with_intervals: bool = True) -> list[str]:
    """What the numbers mean, in sentences."""
    notes = [
        f"Scores in hundredths, of {found.scores.pixels} pixels in {_scenes(len(found.scenes))}. Boundary F1 has a "
        f"tolerance of {found.tolerance.value:g} {'pixels' if found.tolerance.unit else 'm'}."
    ]
    if found.intervals and with_intervals:
        few = f" {len(found.scenes)} scenes are few: the intervals are rough." if len(found.scenes) < FEW else ""
        notes.append(f"low and high: 95 % interval, bootstrap of {found.intervals.draws} draws over scenes.{few}")
    if found.unlabelled:
        notes.append(f"Not in the labels: {', '.join(found.unlabelled)}.")
    for entry in found.published:
        of = f" of {entry.of}" if entry.of else ""
        note = f" ({entry.note})" if entry.note else ""
        if entry.note or not entry.of:
            notes.append(f"Published: {entry.method} {entry.value:g} {entry.metric}{of}{note}, {entry.source}.")
    return notes


def _scenes(count: int) -> str:
    return "1 scene" if count == 1 else f"{count} scenes"


def main_number(published: Iterable[Published], method: str, metric: str, of: str = "") -> Published | None:
    """The number of a method itself: of several that without a note, for notes tell variants."""
    entries = [entry for entry in published if (entry.method, entry.metric, entry.of) == (method, metric, of)]
    plain = [entry for entry in entries if not entry.note]
    return (plain or entries)[0] if plain or len(entries) == 1 else None


def _methods(found: Evaluation, metric: str) -> list[str]:
    return list(dict.fromkeys(entry.method for entry in found.published if entry.metric == metric))


def _headers(methods: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"published {method}" for method in methods)


def _value(entry: Published | None) -> float | None:
    return None if entry is None else entry.value / 100


def _convention(method: str) -> str:
    """Which mean a method's paper reports."""
    return "miou_labelled" if method.startswith("mmovseg") else "miou"


def as_text(table: Table) -> list[str]:
    """Lines with columns in line."""
    cells = [list(table.header), *([shown(cell) for cell in row] for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def as_markdown(table: Table) -> list[str]:
    """Lines of a Markdown table."""
    rule = "|".join([" --- ", *(" ---: " for _ in table.header[1:])])
    rows = [list(table.header), *([shown(cell) for cell in row] for row in table.rows)]
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return [lines[0], f"|{rule}|", *lines[1:]]


def as_csv(table: Table) -> str:
    """Text of a CSV file; what is not defined is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.header)
    writer.writerows([[_whole(cell) for cell in row] for row in table.rows])
    return out.getvalue()


def write_xlsx(path: Path, sheets: Sequence[Table]) -> None:
    """A workbook with a sheet for each table.

    Raises:
        ConfigError: openpyxl is not installed.
    """
    workbook = openpyxl_module().Workbook()
    workbook.remove(workbook.active)
    for table in sheets:
        sheet = workbook.create_sheet(table.name[:31])
        sheet.append(list(table.header))
        for row in table.rows:
            sheet.append([_whole(cell) for cell in row])
        sheet.freeze_panes = "B2"
        sheet.column_dimensions["A"].width = max(12, *(len(str(row[0])) + 2 for row in (table.header, *table.rows)))
    workbook.save(path)


def openpyxl_module() -> Any:
    """openpyxl, which only --xlsx needs.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise ConfigError(
            'An xlsx file needs openpyxl, which is not installed: pip install "mmovseg-geo[xlsx]".\n'
            "  Or leave out --xlsx; the CSV files hold the same."
        ) from error
    return openpyxl


def shown(cell: Cell) -> str:
    """A cell as a reader wants it: shares in hundredths."""
    if cell is None:
        return ABSENT
    return f"{100 * cell:.1f}" if isinstance(cell, float) else str(cell)


def _whole(cell: Cell) -> Cell:
    return round(cell, 6) if isinstance(cell, float) else cell
