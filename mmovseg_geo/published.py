"""Scores that the papers report, to be shown beside ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("published.yaml")


@dataclass(frozen=True)
class Published:
    """One number of a paper.

    Attributes:
        method: a model's name; dataset: name of a file in `configs/datasets/`, or `mean of six` and the like.
        metric: `mIoU`, or `IoU` of the class `of`.
        value: in hundredths, as printed.
        source: where it is printed. note: what else it depends on.
    """

    method: str
    dataset: str
    metric: str
    value: float
    source: str
    of: str = ""
    note: str = ""


def published(dataset: str | None = None, method: str | None = None) -> tuple[Published, ...]:
    """The numbers reported for a set, for a method, or all of them; notes tell variants of a method apart.

    >>> [entry.value for entry in published("ddhr-ch", "mmovseg-vitb16")]
    [42.6]
    """
    return tuple(entry for entry in _table() if dataset in (None, entry.dataset) and method in (None, entry.method))


@cache
def _table() -> tuple[Published, ...]:
    import yaml

    known = {field.name for field in fields(Published)}
    found: list[Published] = []
    for block in yaml.safe_load(TABLE.read_text(encoding="utf-8")):
        shared: Mapping[str, Any] = {key: value for key, value in block.items() if key != "results"}
        for row in block["results"]:
            entry = {**shared, **row}
            assert set(entry) <= known, f"{TABLE.name}: unknown key in {entry}"
            found.append(Published(**entry))
    return tuple(found)
