"""Pixels counted by labelled and by mapped class, and what such counts say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmovseg_geo.datasets.codes import IGNORE
from mmovseg_geo.errors import SceneError

Counts = NDArray[np.int64]
Values = NDArray[np.float64]
ByClass = Mapping[str, float | None]


@dataclass(frozen=True)
class Groups:
    """Names of the classes that a training knew and did not know; both empty where nobody told."""

    seen: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()


NO_GROUPS = Groups()


@dataclass(frozen=True)
class Scores:
    """What was counted says this; shares of 1, published tables give hundredths. None is what is not defined.

    Attributes:
        iou: by class name; None where a class is neither in the labels nor in the maps.
        precision: share of the pixels mapped as a class that are labelled so. recall: share of the labelled ones that
            are mapped so. f1: their harmonic mean.
        miou: mean over the classes that occur in labels or maps, as mmsegmentation reports it (SegEarth-OV).
        miou_labelled: mean over the classes that occur in the labels (MM-OVSeg).
        weighted_iou: mean over the labelled classes, each weighted by its share of the labelled pixels.
        foreground: IoU of the class that is not the background in a set of two classes, as published for building,
            road and water extraction; None for other sets.
        accuracy: share of pixels; mean_accuracy: mean share by labelled class.
        seen, unseen: mean IoU of the labelled classes that a training knew, and did not know; harmonic: their
            harmonic mean.
        boundary_f1: by class, see `boundary.py`; mean_boundary_f1: over the classes whose labels have a boundary.
        calibration_error: see `calibration.py`.
        pixels: how many were scored.
    """

    iou: ByClass
    precision: ByClass
    recall: ByClass
    f1: ByClass
    miou: float
    miou_labelled: float
    weighted_iou: float
    foreground: float | None
    accuracy: float
    mean_accuracy: float
    pixels: int
    seen: float | None = None
    unseen: float | None = None
    harmonic: float | None = None
    boundary_f1: ByClass = field(default_factory=dict)
    mean_boundary_f1: float | None = None
    calibration_error: float | None = None


class Confusion:
    """Counts of pixels by labelled class (rows) and class of the map (columns; the last one is no-data), streamed.

    >>> confusion = Confusion(("background", "water"))
    >>> confusion.add(np.array([[0, 1, 1, 255]]), np.array([[0, 1, 0, 1]]))
    >>> confusion.scores().iou
    {'background': 0.5, 'water': 0.5}
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.counts: Counts = np.zeros((len(names), len(names) + 1), np.int64)

    def add(self, labels: NDArray[np.uint8], found: NDArray[np.integer]) -> None:
        """Count one image: class indices (H, W), 255 in `labels` is not scored, 255 in `found` is always wrong."""
        if labels.shape != found.shape:
            raise ValueError(f"labels {labels.shape} and map {found.shape} differ in shape")
        scored = labels != IGNORE
        columns = len(self.names) + 1
        said = np.where(found[scored] == IGNORE, columns - 1, found[scored]).astype(np.int64)
        if said.size and (said.max() >= columns or labels[scored].max() >= columns - 1):
            raise ValueError(f"a class index is beyond the {len(self.names)} classes")
        cells = labels[scored].astype(np.int64) * columns + said
        self.counts += np.bincount(cells, minlength=self.counts.size).reshape(self.counts.shape)

    def scores(self, groups: Groups = NO_GROUPS) -> Scores:
        """IoU and its kin over everything counted.

        Raises:
            SceneError: no pixel was scored.
        """
        total = int(self.counts.sum())
        if total == 0:
            raise SceneError("No pixel was scored: every label is 255 (not scored). Check the labels of the set.")
        found = measures(self.counts, self.names, groups)
        by_class = {
            key: {name: defined(value) for name, value in zip(self.names, found[key], strict=True)}
            for key in ("iou", "precision", "recall", "f1")
        }
        single = {key: defined(float(value)) for key, value in found.items() if key not in by_class}
        return Scores(**by_class, **single, pixels=total)  # type: ignore[arg-type]


def measures(counts: NDArray[Any], names: Sequence[str], groups: Groups = NO_GROUPS) -> dict[str, Values]:
    """What confusion matrices (..., K, K + 1) say, by the names of `Scores`; NaN is what is not defined.

    Values of classes are (..., K), all others (...).
    """
    classes = len(names)
    hits = np.diagonal(counts[..., :classes], axis1=-2, axis2=-1).astype(float)
    labelled, said = counts.sum(axis=-1).astype(float), counts[..., :classes].sum(axis=-2).astype(float)
    total = labelled.sum(axis=-1)
    iou, recall = _ratio(hits, labelled + said - hits), _ratio(hits, labelled)
    there = labelled > 0
    seen, unseen = (_mean(iou, there & np.isin(names, group)) for group in (groups.seen, groups.unseen))
    return {
        "iou": iou,
        "precision": _ratio(hits, said),
        "recall": recall,
        "f1": _ratio(2 * hits, labelled + said),
        "miou": _mean(iou, ~np.isnan(iou)),
        "miou_labelled": _mean(iou, there),
        "weighted_iou": _ratio(np.where(there, labelled * np.nan_to_num(iou), 0.0).sum(axis=-1), total),
        "foreground": _foreground(iou, names),
        "accuracy": _ratio(hits.sum(axis=-1), total),
        "mean_accuracy": _mean(recall, there),
        "seen": seen,
        "unseen": unseen,
        "harmonic": np.where(seen + unseen == 0, 0.0, _ratio(2 * seen * unseen, seen + unseen)),
    }


def defined(value: float) -> float | None:
    """None for a value that is not a number."""
    return None if np.isnan(value) else float(value)


def _ratio(part: Values, whole: Values) -> Values:
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0))


def _mean(values: Values, where: NDArray[np.bool_]) -> Values:
    return _ratio(np.where(where, values, 0.0).sum(axis=-1), where.sum(axis=-1).astype(float))


def _foreground(iou: Values, names: Sequence[str]) -> Values:
    if len(names) != 2 or "background" not in names:
        return np.full(iou.shape[:-1], np.nan)
    return np.asarray(iou[..., 1 - list(names).index("background")])
