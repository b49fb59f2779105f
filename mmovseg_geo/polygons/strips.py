"""A map, strip after strip: rows of class codes, where they differ, and what is measured on their pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmovseg_geo.errors import SceneError
from mmovseg_geo.grid import Window
from mmovseg_geo.polygons.areas import Ground
from mmovseg_geo.rasters.labels import LabelRaster, read_band
from mmovseg_geo.rasters.source import opened, reading

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

Codes = NDArray[np.uint8] | NDArray[np.uint16]
"""Class of each pixel as a small number; what is not traced is 0, like what lies beyond the map."""

UNTRACED, NODATA, FIRST_CLASS = 0, 1, 2

STRIP_PIXELS = 1 << 20
"""Enough that a strip's overhead does not matter, few enough that its arrays stay near the processor."""
CONFIDENCE_PARTS = 1 << 20
"""Confidence that is no whole number is counted in such parts, so that sums are exact."""
ROWS_READ = 512
"""Rows of blocks of a map are read together, whatever the height of strips."""


@dataclass(frozen=True, eq=False)
class Strip:
    """Rows of a map and the row above them, framed by pixels of code 0 at the left, the right and the ends of the map.

    Attributes:
        row: of the first row in the map.
        codes: (h, W) the rows without their frame.
        framed: (h + 1, W + 2) codes: the row above, then the rows; one more below where the map ends.
        upright: (h + 1, W + 1), one more at the end: whether a border runs between two pixels of a row.
        level: (h, W + 2), one more at the end: whether a border runs between a pixel and the one below it.
        is_last: the map ends with this strip.
        measures: what is measured on its pixels.
    """

    row: int
    codes: Codes
    framed: Codes
    upright: NDArray[np.bool_]
    level: NDArray[np.bool_]
    is_last: bool
    measures: Measures

    @classmethod
    def of(
        cls, row: int, codes: Codes, above: Codes | None, *, is_last: bool, measures: Measures | None = None
    ) -> Strip:
        """The strip of some rows of codes (h, W); `above` is the row before them, None at the top of the map."""
        height, width = codes.shape
        framed = np.zeros((height + 1 + is_last, width + 2), codes.dtype)
        if above is not None:
            framed[0, 1:-1] = above
        framed[1 : height + 1, 1:-1] = codes
        upright, level = framed[:, 1:] != framed[:, :-1], framed[1:] != framed[:-1]
        return cls(row, codes, framed, upright, level, is_last, measures or Measures())

    @property
    def height(self) -> int:
        return len(self.codes)


@dataclass(frozen=True, eq=False)
class Measures:
    """What is measured on the pixels of a strip.

    Attributes:
        ground: (h, 1) or (h, W) area of each in units of `Ground`; None where each is one.
        confidence: (h, W) whole numbers; None where there is none.
        known: (h, W) which pixels have a confidence.
    """

    ground: NDArray[np.float64] | None = None
    confidence: NDArray[np.integer[Any]] | None = None
    known: NDArray[np.bool_] | None = None


@dataclass(frozen=True, eq=False)
class MapStrips:
    """A map, or a window of it, that can be gone through in strips any number of times.

    Attributes:
        labels: the map.
        window: which rows and columns of it.
        confidence: a raster on the grid of the map, or None.
        confidence_nodata: its value where nothing is known, if it has one.
        confidence_unit: what one is worth of the whole numbers that confidence is counted in.
        grid: of the window.
        ground: areas of its pixels.
        height: rows of a strip, at most.
    """

    labels: LabelRaster
    window: Window
    confidence: Path | None
    confidence_nodata: float | None
    confidence_unit: float
    grid: GeoBox
    ground: Ground
    height: int

    @classmethod
    def of(
        cls,
        labels: LabelRaster,
        *,
        window: Window | None = None,
        confidence: str | Path | None = None,
        height: int | None = None,
    ) -> MapStrips:
        """Strips of a map; of a height that bounds the pixels of each, unless given.

        Raises:
            SceneError: a confidence that is not on the grid of the map, or cannot be read.
        """
        rows, columns = labels.grid.shape
        grid = labels.grid if window is None else labels.grid[window.slices]
        window = window or Window(0, 0, rows, columns)
        height = height or max(1, STRIP_PIXELS // window.width)
        if confidence is None:
            return cls(labels, window, None, None, 1.0, grid, Ground.of(grid), height)
        with reading(str(confidence)), opened(str(confidence)) as source:
            if source.shape != (rows, columns):
                raise SceneError(
                    f"{confidence} has {source.height} x {source.width} pixels, not {rows} x {columns} as "
                    f"{labels.path}. Give the confidence that was written with these labels."
                )
            unit = 1.0 if np.issubdtype(source.dtypes[0], np.integer) else 1 / CONFIDENCE_PARTS
        return cls(labels, window, Path(confidence), source.nodata, unit, grid, Ground.of(grid), height)

    @property
    def class_ids(self) -> NDArray[np.int64]:
        """Class id of each code; `ignore` for codes that are no class."""
        ignore = self.labels.vocabulary.ignore
        return np.array([ignore, ignore, *(entry.id for entry in self.labels.vocabulary.classes)])

    @property
    def class_names(self) -> NDArray[Any]:
        """Class name of each code."""
        return np.array(["", "", *(entry.name for entry in self.labels.vocabulary.classes)], object)

    def read(self, *, nodata: int = NODATA) -> Iterator[Strip]:
        """The strips from top to bottom; whatever is no class of the vocabulary has the code `nodata`."""
        ids = self.class_ids[FIRST_CLASS:]
        table = np.full(int(ids.max()) + 2, nodata, np.min_scalar_type(len(ids) + FIRST_CLASS))
        table[ids] = np.arange(FIRST_CLASS, FIRST_CLASS + len(ids))
        above = None
        for row, values, confidence in self._blocks():
            for at in range(0, len(values), self.height):
                part = slice(at, min(at + self.height, len(values)))
                codes = _looked_up(table, values[part])  # which makes numbers of eight bytes of labels
                rows = slice(row + part.start, row + part.stop)
                measures = Measures(self.ground.units(rows))
                if confidence is not None:
                    measures = replace(measures, confidence=confidence[0][part], known=confidence[1][part])
                yield Strip.of(rows.start, codes, above, is_last=rows.stop == self.window.height, measures=measures)
                above = codes[-1]

    def _blocks(self) -> Iterator[tuple[int, NDArray[Any], tuple[NDArray[Any], NDArray[np.bool_]] | None]]:
        """First row in the window, labels and confidence of many rows; they end where blocks of the file do."""
        row, end = self.window.row, self.window.row + self.window.height
        while row < end:
            stop = min(end, (row // ROWS_READ + 1) * ROWS_READ)
            block = Window(row, self.window.col, stop - row, self.window.width)
            known = None
            if self.confidence is not None:
                known = _whole(read_band(self.confidence, block), self.confidence_nodata)
            yield row - self.window.row, self.labels.read(block), known
            row = stop


def _whole(values: NDArray[Any], nodata: float | None) -> tuple[NDArray[np.integer[Any]], NDArray[np.bool_]]:
    """Values as whole numbers, and which of them are known."""
    known = np.isfinite(values)
    if nodata is not None:
        known &= values != nodata
    if not np.issubdtype(values.dtype, np.integer):
        values = np.rint(np.where(known, values, 0).astype(np.float64) * CONFIDENCE_PARTS).astype(np.int64)
    return values, known


def _looked_up(table: Codes, values: NDArray[np.integer[Any]]) -> Codes:
    """Codes of label values; what lies outside the table is no class, as is its last entry."""
    codes: Codes = table.take(values, mode="clip")
    if np.iinfo(values.dtype).min < 0:
        codes[values < 0] = table[-1]
    return codes
