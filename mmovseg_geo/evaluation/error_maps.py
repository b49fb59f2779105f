"""Where a map is wrong: a GeoTIFF and a picture for the scenes with the most wrong pixels."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmovseg_geo.datasets.codes import IGNORE, Indices
from mmovseg_geo.evaluation.tally import Seen
from mmovseg_geo.rasters.labels import LabelWriter
from mmovseg_geo.report import colored, composed, panel_side
from mmovseg_geo.vocabulary import Vocabulary

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

RIGHT, WRONG, NOTHING = 1, 2, 3
VERDICTS = Vocabulary.from_entries(
    [
        {"id": RIGHT, "name": "right", "color": "#e8ece6"},
        {"id": WRONG, "name": "wrong", "color": "#c2167a"},
        {"id": NOTHING, "name": "no data in the map", "color": "#f0b030"},
    ]
)
PANELS = ("labels", "map", "errors")


class ErrorMaps:
    """Writes NAME_errors.tif and NAME_errors.png into `folder` for the `most` scenes with the largest wrong share."""

    def __init__(self, folder: Path, most: int) -> None:
        self.folder, self.most = folder, most
        self._kept: list[tuple[float, str]] = []

    @contextmanager
    def scene(self, name: str, grid: GeoBox, classes: Vocabulary) -> Iterator[Seen]:
        """A function for the blocks of a scene, see `Tally.count`; the files are there when all were told."""
        if not self.most:
            yield lambda row, labels, found: None
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}_errors.tif"
        picture = _Picture(name, (int(grid.shape[0]), int(grid.shape[1])), classes)
        counts = np.zeros(NOTHING + 1, np.int64)
        with LabelWriter(path, grid, VERDICTS) as writer:

            def seen(row: int, labels: Indices, found: Indices) -> None:
                verdict = verdicts(labels, found)
                counts[:] += np.bincount(verdict[verdict != IGNORE], minlength=len(counts))
                picture.add(row, labels, found, verdict)
                writer.write(row, verdict)

            yield seen
        share = float(counts[WRONG:].sum() / max(counts.sum(), 1))
        picture.save(path.with_suffix(".png"), share, south_up=grid.affine.e > 0)
        self._keep(share, name)

    def _keep(self, share: float, name: str) -> None:
        heapq.heappush(self._kept, (share, name))
        if len(self._kept) > self.most:
            _, least = heapq.heappop(self._kept)
            for suffix in (".tif", ".png"):
                (self.folder / f"{least}_errors{suffix}").unlink()


def verdicts(labels: Indices, found: Indices) -> Indices:
    """Right, wrong or without data (H, W), 255 where not scored."""
    verdict: Indices = np.where(labels == found, np.uint8(RIGHT), np.uint8(WRONG))
    verdict[found == IGNORE] = NOTHING
    verdict[labels == IGNORE] = IGNORE
    return verdict


class _Picture:
    """Labels, map and errors side by side, thinned so that a scene of any size fits a screen."""

    def __init__(self, name: str, shape: tuple[int, int], classes: Vocabulary) -> None:
        self.name, self.shape = name, shape
        self.indexed = _by_index(classes)
        self.step = max(1, -(-max(shape) // panel_side(len(PANELS))))
        self._parts: list[list[NDArray[Any]]] = [[] for _ in PANELS]

    def add(self, row: int, *planes: Indices) -> None:
        first = -row % self.step
        for parts, plane in zip(self._parts, planes, strict=True):
            parts.append(plane[first :: self.step, :: self.step].copy())

    def save(self, path: Path, share: float, *, south_up: bool) -> None:
        vocabularies = (self.indexed, self.indexed, VERDICTS)
        panels = [
            (name, colored(np.concatenate(parts), vocabulary))
            for name, parts, vocabulary in zip(PANELS, self._parts, vocabularies, strict=True)
        ]
        if south_up:
            panels = [(name, pixels[::-1]) for name, pixels in panels]
        legend = [(entry.name, entry.rgb, "") for entry in (*self.indexed.classes, *VERDICTS.classes)]
        note = f"{self.shape[1]} x {self.shape[0]} pixels; {share:.1%} of the scored ones are wrong"
        sheet: Image.Image = composed(panels, legend, title=self.name, note=note, crisp=PANELS)
        sheet.save(path, format="PNG")


def _by_index(classes: Vocabulary) -> Vocabulary:
    """The same classes with their indices as ids."""
    return Vocabulary.from_entries(
        [
            {"id": index, "name": entry.name, "synonyms": entry.synonyms, "color": entry.color}
            for index, entry in enumerate(classes.classes)
        ]
    )
