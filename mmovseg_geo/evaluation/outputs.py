"""The folder of an evaluation: tables, pictures and error maps, complete or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mmovseg_geo
from mmovseg_geo import staging
from mmovseg_geo.errors import OutputError
from mmovseg_geo.evaluation.pictures import write_cloud_chart, write_confusion
from mmovseg_geo.evaluation.result import Evaluation
from mmovseg_geo.evaluation.tables import (
    as_csv,
    as_markdown,
    cloud_table,
    footnotes,
    openpyxl_module,
    tables,
    write_xlsx,
)

ERRORS = "errors"
OPTIONAL = ("clouds.csv", "clouds.png", "scores.xlsx")


@contextmanager
def staged(out: Path | None, *, overwrite: bool, xlsx: bool) -> Iterator[Path | None]:
    """A hidden folder whose files are moved to `out` when the block ends well; None where nothing is to be written.

    Raises:
        OutputError: `out` holds files already (and not `overwrite`), or cannot be written.
    """
    if xlsx:
        openpyxl_module()
    if out is None:
        yield None
        return
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file; give a folder for the tables with -o.")
    if out.exists() and any(out.iterdir()) and not overwrite:
        raise OutputError(
            f"{out} holds files already. Say --overwrite to replace them, or choose another folder with -o."
        )
    with staging.staged(out) as folder:
        yield folder
        for left in _left_over(out):
            left.unlink()


def _left_over(out: Path) -> list[Path]:
    """Files of an earlier run that not every run writes: they show other maps."""
    optional = [out / name for name in OPTIONAL if (out / name).is_file()]
    return [*optional, *(path for end in ("tif", "png") for path in (out / ERRORS).glob(f"*_errors.{end}"))]


def write_outputs(folder: Path, found: Sequence[Evaluation], *, xlsx: bool = False) -> list[str]:
    """Write the tables and pictures of evaluations (several: one for each cover of clouds); the names of the files.

    The tables of classes, scenes and confusion are those of the first.
    """
    first = found[0]
    sheets = [*([cloud_table(found)] if first.cover is not None else []), *tables(first)]
    for table in sheets:
        (folder / f"{table.name}.csv").write_text(as_csv(table), encoding="utf-8")
    lines = [f"# {first.title}", ""]
    for table in sheets:
        lines += [*as_markdown(table), ""]
    lines += [f"{note}  " for note in (*footnotes(first), *first.notes)]
    (folder / "report.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "scores.json").write_text(
        json.dumps(as_json(found), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    if xlsx:
        write_xlsx(folder / "scores.xlsx", sheets)
    write_confusion(folder / "confusion.png", first)
    if first.cover is not None and len(found) > 1:
        write_cloud_chart(folder / "clouds.png", found)
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def as_json(found: Sequence[Evaluation]) -> dict[str, Any]:
    """All that was found, in JSON-able values; shares of 1."""
    told = [_told(one) for one in found]
    software = f"mmovseg-geo {mmovseg_geo.__version__}"
    if found[0].cover is None:
        return {"software": software, **told[0]}
    return {"software": software, "title": found[0].title, "clouds": told}


def _told(one: Evaluation) -> dict[str, Any]:
    scores, spans = one.scores, one.intervals
    single = {key: value for key, value in vars(scores).items() if not isinstance(value, Mapping)}
    by_class = {key: value for key, value in vars(scores).items() if isinstance(value, Mapping)}
    return {
        "title": one.title,
        **({} if one.cover is None else {"cover": one.cover}),
        "scores": single,
        "intervals": {"level": 0.95, "draws": spans.draws, **spans.single} if spans else None,
        "classes": [
            {
                "id": entry.id,
                "name": entry.name,
                **{key: values.get(entry.name) for key, values in by_class.items()},
                **({"iou_interval": spans.by_class["iou"].get(entry.name)} if spans else {}),
                "labelled_pixels": int(row.sum()),
            }
            for entry, row in zip(one.classes.classes, one.total.confusion.counts, strict=True)
        ],
        "boundary_tolerance": str(one.tolerance),
        "seen": list(one.groups.seen),
        "unseen": list(one.groups.unseen),
        "confusion": one.total.confusion.counts.tolist(),
        "scenes": [_scene(one, index) for index in range(len(one.scenes))],
        "published": [vars(entry) for entry in one.published],
        "notes": list(one.notes),
    }


def _scene(one: Evaluation, index: int) -> dict[str, Any]:
    scene = one.scenes[index]
    if not scene.tally.pixels:
        return {"name": scene.name, "pixels": 0}
    scores = scene.tally.scores(one.groups)
    kept = ("pixels", "miou", "miou_labelled", "accuracy", "weighted_iou", "mean_boundary_f1", "calibration_error")
    return {"name": scene.name, **{key: getattr(scores, key) for key in kept}, "iou": dict(scores.iou)}
