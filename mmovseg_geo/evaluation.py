"""How good maps are: a segmenter run over labelled images, one confusion matrix, IoU by class."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmovseg_geo.datasets import LabelledImages
from mmovseg_geo.datasets.codes import IGNORE
from mmovseg_geo.errors import ConfigError, SceneError
from mmovseg_geo.models.segmenter import Segmenter
from mmovseg_geo.pipeline import segment
from mmovseg_geo.tiles import Tiling

Progress = Callable[[int, int], None]
"""Told the number of images done and of all images."""


@dataclass(frozen=True)
class Scores:
    """What a confusion matrix says; shares of 1, published tables give hundredths.

    Attributes:
        iou: by class name; None where a class is neither in the labels nor in the maps.
        miou: mean over the classes that occur in labels or maps, as mmsegmentation reports it (SegEarth-OV).
        miou_labelled: mean over the classes that occur in the labels (MM-OVSeg).
        foreground: IoU of the class that is not the background in a set of two classes, as published for building,
            road and water extraction; None for other sets.
        accuracy: share of pixels; mean_accuracy: mean share by labelled class.
        pixels: how many were scored.
    """

    iou: dict[str, float | None]
    miou: float
    miou_labelled: float
    foreground: float | None
    accuracy: float
    mean_accuracy: float
    pixels: int


class Confusion:
    """Counts of pixels by labelled class (rows) and class of the map (columns; the last one is no-data), streamed.

    >>> confusion = Confusion(("background", "water"))
    >>> confusion.add(np.array([[0, 1, 1, 255]]), np.array([[0, 1, 0, 1]]))
    >>> confusion.scores().iou
    {'background': 0.5, 'water': 0.5}
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.counts: NDArray[np.int64] = np.zeros((len(names), len(names) + 1), np.int64)

    def add(self, labels: NDArray[np.uint8], found: NDArray[np.integer]) -> None:
        """Count one image: class indices (H, W), 255 in `labels` is not scored, 255 in `found` is always wrong."""
        if labels.shape != found.shape:
            raise ValueError(f"labels {labels.shape} and map {found.shape} differ in shape")
        scored = labels != IGNORE
        columns = len(self.names) + 1
        said = np.where(found[scored] == IGNORE, columns - 1, found[scored]).astype(np.int64)
        cells = labels[scored].astype(np.int64) * columns + said
        self.counts += np.bincount(cells, minlength=self.counts.size).reshape(self.counts.shape)

    def scores(self) -> Scores:
        """IoU and its kin over everything counted.

        Raises:
            SceneError: no pixel was scored.
        """
        total = int(self.counts.sum())
        if total == 0:
            raise SceneError("No pixel was scored: every label is 255 (not scored). Check the labels of the set.")
        hits = np.diag(self.counts).astype(float)
        labelled, said = self.counts.sum(axis=1), self.counts[:, :-1].sum(axis=0)
        union = labelled + said - hits
        iou = np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)
        recall = np.divide(hits, labelled, out=np.full(len(hits), np.nan), where=labelled > 0)
        return Scores(
            iou={name: None if np.isnan(value) else float(value) for name, value in zip(self.names, iou, strict=True)},
            miou=float(np.nanmean(iou)),
            miou_labelled=float(iou[labelled > 0].mean()),
            foreground=self._foreground(iou),
            accuracy=float(hits.sum() / total),
            mean_accuracy=float(np.nanmean(recall)),
            pixels=total,
        )

    def _foreground(self, iou: NDArray[np.float64]) -> float | None:
        if len(self.names) != 2 or "background" not in self.names:
            return None
        value = iou[1 - self.names.index("background")]
        return None if np.isnan(value) else float(value)


def evaluate(
    images: LabelledImages,
    segmenter: Segmenter,
    *,
    tiling: Tiling | None = None,
    batch_size: int = 4,
    min_score: float | None = None,
    progress: Progress | None = None,
) -> Scores:
    """Map every image as `segment` would and score the maps at the labels' own size.

    Args:
        images: those of `open_dataset`; the segmenter must be made for `images.vocabulary()`.
        min_score: as in `segment`.

    Raises:
        ConfigError: a segmenter for other classes. SceneError: files that cannot be read, or that differ in size.

    >>> images = open_dataset("configs/datasets/ddhr-sk.yaml", "data")              # doctest: +SKIP
    >>> evaluate(images, load_segmenter("mmovseg-vitb16", images.vocabulary())).miou  # doctest: +SKIP
    0.731
    """
    expected = images.vocabulary()
    ids = tuple(entry.id for entry in segmenter.vocabulary.classes)
    if sorted(ids) != list(range(len(expected))):
        raise ConfigError(
            f"{segmenter.name} was made for {len(ids)} classes with the ids {', '.join(map(str, ids))}; the labels of "
            f"{images.config.name} are 0 to {len(expected) - 1}. Load it with the vocabulary of the set."
        )
    confusion = Confusion(expected.names)
    with tempfile.TemporaryDirectory(prefix="mmovseg-") as folder:
        out = Path(folder) / "labels.tif"
        for done, image in enumerate(images.images, 1):
            labels = images.labels(image)
            with image.scene(segmenter.sensors) as scene:
                if scene.shape != labels.shape:
                    raise SceneError(
                        f"{image.labels} has {labels.shape[0]} x {labels.shape[1]} pixels, its image {scene.name} "
                        f"{scene.shape[0]} x {scene.shape[1]}. Labels must have the size of the image."
                    )
                found = segment(
                    scene,
                    segmenter,
                    out,
                    tiling=tiling,
                    batch_size=batch_size,
                    min_score=min_score,
                    overwrite=True,
                )
            confusion.add(labels, found.read())
            if progress:
                progress(done, len(images))
    return confusion.scores()
