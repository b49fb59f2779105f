"""Scenes with their labels, opened and checked; pixels are read by window, when they are needed."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmovseg_geo.datasets.codes import IGNORE
from mmovseg_geo.errors import ConfigError, SceneError
from mmovseg_geo.evaluation.classes import require_countable
from mmovseg_geo.evaluation.compared import laid_labels
from mmovseg_geo.evaluation.pairs import VECTORS
from mmovseg_geo.grid import Window
from mmovseg_geo.maps import opened
from mmovseg_geo.models.mmovseg.views import CompactView
from mmovseg_geo.rasters.labels import tagged_classes
from mmovseg_geo.rasters.scene import Scene
from mmovseg_geo.rasters.source import probe
from mmovseg_geo.summary import summary
from mmovseg_geo.training.area.settings import AreaConfig
from mmovseg_geo.training.stages.images import Pair
from mmovseg_geo.vocabulary import Vocabulary

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LabelledScene:
    """One scene.

    Attributes:
        labels_path: the file of its labels.
        read_labels: class indices (H, W) of a window inside the scene, 255 where there is no label.
        reduction: scene pixels along one axis that become one of the network's.
    """

    name: str
    scene: Scene
    labels_path: Path
    read_labels: Callable[[Window], NDArray[np.uint8]]
    reduction: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.scene.shape

    def labels(self, window: Window) -> NDArray[np.uint8]:
        """Class indices of a window that may reach beyond the scene, where there are none."""
        inside = window.intersection(Window(0, 0, *self.shape))
        found = np.full(window.shape, IGNORE, np.uint8)
        if inside is not None:
            row, col = inside.row - window.row, inside.col - window.col
            found[row : row + inside.height, col : col + inside.width] = self.read_labels(inside)
        return found


def open_scenes(config: AreaConfig) -> tuple[list[LabelledScene], Vocabulary]:
    """Every scene, and the classes: those given, or else those that the labels tell of themselves.

    Raises:
        MmovsegError: files that cannot be read, that are given twice, or that do not lie on each other.
    """
    _require_different(config)
    classes = _classes(config)
    require_countable(classes)
    found = []
    for optical, sar, labels in config.scenes:
        scene = opened(optical, sar, config.reading)
        for line in summary(scene.describe()):
            logger.info(line)
        for warning in scene.warnings:
            logger.warning(warning)
        facts = (scene.optical or scene.sar[0]).source.facts
        read, notes, _ = laid_labels(labels, facts, classes, config.labelling)
        for note in notes:
            logger.warning(note)
        found.append(LabelledScene(scene.name, scene, labels, read, CompactView().reduction(scene.gsd_m)))
    return found, classes


def files_of(config: AreaConfig) -> list[Pair]:
    """All files on this machine, for their fingerprint."""
    listed = []
    for optical, sar, labels in config.scenes:
        parts = [Path(part.strip()) for part in (sar or "").split(",") if part]
        images = [path for path in ([Path(optical)] if optical else []) + parts if path.is_file()]
        listed.append(Pair(labels.name, None, None, labels))
        listed += [Pair(path.name, path, None) for path in images]
    return listed


def _require_different(config: AreaConfig) -> None:
    """Refuse a file that stands in two places; one file of vector labels may serve all scenes."""
    images = [path for optical, sar, _ in config.scenes for path in (optical, *(sar or "").split(",")) if path]
    seen: dict[str, str] = {}
    labels = [*dict.fromkeys(config.labels)] if _is_vector(config.labels[0]) else list(config.labels)
    for file in (*images, *map(str, labels)):
        real = os.path.realpath(file) if os.path.exists(file) else file
        if real in seen:
            raise SceneError(
                f"{file} was given twice. Each optical, SAR and label image is a file of its own, given once."
            )
        seen[real] = file


def _classes(config: AreaConfig) -> Vocabulary:
    given = config.labelling.vocabulary()
    if given is not None:
        return given
    for path in config.labels:
        if _is_vector(path):
            return _of_shapes(config)
        told = tagged_classes(probe(str(path)))
        if told is not None:
            return told
    raise ConfigError(
        f"{config.labels[0]} does not tell which classes its values are.\n"
        "  Give the classes by id: --classes-file classes.yaml, with lines such as `1: water`."
    )


def _of_shapes(config: AreaConfig) -> Vocabulary:
    """The words that the class field holds, or the one that stands for all shapes."""
    from mmovseg_geo.polygons.burn import class_values

    inside, outside = config.labelling.inside, config.labelling.outside
    if inside is not None:
        return Vocabulary.of([*([outside] if outside else []), inside])
    words = [word for path in dict.fromkeys(config.labels) for word in class_values(path, config.labelling.class_field)]
    if all(_is_number(word) for word in words):
        raise ConfigError(
            f"{config.labels[0]}: the class field holds numbers ({', '.join(dict.fromkeys(words[:6]))}), which mean "
            "nothing to the model.\n  Say what they are: --classes-file classes.yaml, with lines such as `1: wheat`; "
            "or name a field of words with --class-field."
        )
    return Vocabulary.of(list(dict.fromkeys([*([outside] if outside else []), *words])))


def _is_vector(path: Path) -> bool:
    return path.suffix.lower() in VECTORS


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
