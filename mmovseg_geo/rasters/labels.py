"""A finished map on disk: rows in, Cloud Optimized GeoTIFF out; and the map read back with its classes."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from mmovseg_geo.errors import SceneError, VocabularyError
from mmovseg_geo.grid import Window
from mmovseg_geo.rasters.cog import CogWriter, Look, publish
from mmovseg_geo.rasters.source import opened, reading
from mmovseg_geo.vocabulary import Vocabulary

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray
    from odc.geo.geobox import GeoBox

    from mmovseg_geo.rasters.facts import Facts

    Ids = NDArray[np.uint8] | NDArray[np.uint16]

CONFIDENCE_NODATA = 255
MOST_GUESSED_CLASSES = 1000
"""A foreign raster with more values than this is no class map."""


@dataclass(frozen=True, eq=False)
class LabelRaster:
    """A class map: where it is, its pixel grid and what its values mean."""

    path: Path
    grid: GeoBox
    vocabulary: Vocabulary

    def read(self, window: Window | None = None) -> Ids:
        """Class values (H, W) of a window inside the map, or of all of it.

        Raises:
            SceneError: the file cannot be read any more.
        """
        ids: Ids = read_band(self.path, window)
        return ids

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> LabelRaster:
        """A map that mmovseg or another program wrote.

        Classes come from the tag `classes`, else from the color table or the values, named `class 1` and so on.

        Raises:
            SceneError: not a raster of whole numbers, or without any class.
        """
        path = Path(path)
        if not path.exists():
            raise SceneError(f"{path}: no such file. Name a map such as NAME_labels.tif.")
        with reading(str(path)), opened(str(path)) as dataset:
            from mmovseg_geo.rasters.facts import facts_of

            facts = facts_of(dataset, str(path))
            if dataset.count != 1 or facts.dtypes[0] not in ("uint8", "uint16", "int16", "int8", "uint32", "int32"):
                raise SceneError(
                    f"{path} has {dataset.count} band(s) of {facts.dtypes[0]}; a map of classes has one band of whole "
                    "numbers. Name the _labels.tif."
                )
            vocabulary = tagged_classes(facts)
            if vocabulary is None:
                vocabulary = _guessed(dataset, facts.colormap, path)
        return cls(path, facts.grid, vocabulary)


def read_band(path: Path, window: Window | None = None) -> Any:
    """The only band of a raster, (H, W) as stored."""
    from rasterio.windows import Window as RasterWindow

    with reading(str(path)), opened(str(path)) as dataset:
        if window is None:
            return dataset.read(1)
        return dataset.read(1, window=RasterWindow(window.col, window.row, window.width, window.height))


class LabelWriter:
    """Writes a map, and its confidence if wanted, strip after strip; both appear, complete, when the block ends well.

    Memory is bounded by the strips. On any exception nothing is left behind.

    Args:
        path: the `.tif` to write.
        tags: provenance for the file's metadata; equal tags and rows give equal bytes.
        confidence: where to write confidence 0..100.
        co: GDAL creation options of the COG driver, such as {"COMPRESS": "ZSTD"}.
        overwrite: replace files that exist.

    Raises:
        OutputError: it exists already or cannot be written; the message names the file.

    >>> with LabelWriter("labels.tif", grid, vocabulary) as writer:  # doctest: +SKIP
    ...     writer.write(0, labels)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        grid: GeoBox,
        vocabulary: Vocabulary,
        *,
        tags: Mapping[str, str] | None = None,
        confidence: str | os.PathLike[str] | None = None,
        co: Mapping[str, str] | None = None,
        overwrite: bool = False,
    ) -> None:
        self.path = Path(path)
        self.grid = grid
        self.vocabulary = vocabulary
        options = dict(co or {})
        tags = dict(tags or {})
        colors = {entry.id: (*entry.rgb, 255) for entry in vocabulary.classes} | {vocabulary.ignore: (0, 0, 0, 0)}
        look = Look("class", vocabulary.dtype, vocabulary.ignore, "MODE", colors)
        self._labels = CogWriter(self.path, grid, look, {**tags, "classes": vocabulary.to_json()}, options, overwrite)
        self._closed = False
        self._confidence = None
        if confidence is not None:
            look = Look("confidence", "uint8", CONFIDENCE_NODATA, "AVERAGE", None)
            self._confidence = CogWriter(Path(confidence), grid, look, tags, options, overwrite)

    @property
    def raster(self) -> LabelRaster:
        """The finished map."""
        return LabelRaster(self.path, self.grid, self.vocabulary)

    def __enter__(self) -> LabelWriter:
        try:
            for writer in self._writers:
                writer.begin()
        except BaseException:
            self._discard()
            raise
        return self

    def write(self, row: int, labels: Ids, confidence: NDArray[np.uint8] | None = None) -> None:
        """Rows from `row` on; strips come in order, without gaps.

        Args:
            labels: (h, W) class values, `vocabulary.ignore` where nothing is known.
            confidence: (h, W) 0..100, 255 where nothing is known.
        """
        self._labels.write(row, labels)
        if self._confidence is not None:
            if confidence is None:
                raise ValueError("this writer was asked for a confidence raster, and was given none")
            self._confidence.write(row, confidence)

    def close(self) -> None:
        """Finish the files and move them to their places; the end of the block does so, if it was not done before.

        Raises:
            OutputError: the disk is full, or a place cannot be written.
        """
        if not self._closed:
            # Of two files one is made while the other is read back.
            with ThreadPoolExecutor(len(self._writers), thread_name_prefix="mmovseg-close") as pool:
                list(pool.map(CogWriter.finish, self._writers))
            publish([(writer.finished, writer.path) for writer in self._writers])
            self._closed = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.close()
        finally:
            self._discard()

    @property
    def _writers(self) -> list[CogWriter]:
        return [self._labels, *([self._confidence] if self._confidence is not None else [])]

    def _discard(self) -> None:
        for writer in self._writers:
            writer.discard()


def tagged_classes(facts: Facts) -> Vocabulary | None:
    """The classes that a map's tags tell, as `LabelWriter` leaves them; None where they tell none."""
    text = facts.tags.get("classes")
    if not text:
        return None
    try:
        return Vocabulary.from_json(text)
    except (VocabularyError, ValueError, TypeError, AttributeError):
        return None


def _guessed(dataset: Any, colormap: Mapping[int, tuple[int, int, int, int]] | None, path: Path) -> Vocabulary:
    """Classes of a foreign raster: the values that occur, with the colors of its table."""
    values: set[int] = set()
    for _, window in dataset.block_windows(1):
        values.update(int(value) for value in np.unique(dataset.read(1, window=window)))
        if len(values) > MOST_GUESSED_CLASSES:
            raise SceneError(f"{path} has more than {MOST_GUESSED_CLASSES} values; a map of classes was expected.")
    values -= {int(dataset.nodata)} if dataset.nodata is not None else set()
    values = {value for value in values if 0 <= value <= 65534}
    if 255 in values and max(values) == 255:
        values -= {255}
    entries = []
    for value in sorted(values):
        entry: dict[str, Any] = {"id": value, "name": f"class {value}"}
        if colormap is not None and value in colormap:
            red, green, blue, _ = colormap[value]
            entry["color"] = f"#{red:02x}{green:02x}{blue:02x}"
        entries.append(entry)
    if not entries:
        raise SceneError(f"{path} holds no class: every pixel is no-data.")
    return Vocabulary.from_entries(entries)
