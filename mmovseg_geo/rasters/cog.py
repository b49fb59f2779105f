"""Cloud Optimized GeoTIFFs of one band, written row by row beside their place and moved there when complete."""

from __future__ import annotations

import contextlib
import glob
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio.shutil
from rasterio.crs import CRS
from rasterio.windows import Window as RasterWindow

from mmovseg_geo.errors import OutputError, SceneError
from mmovseg_geo.rasters.source import GDAL_ERRORS, environment, opened, reading

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from odc.geo.geobox import GeoBox

BLOCK = 512
PLAIN = {"BLOCKSIZE": str(BLOCK), "COMPRESS": "DEFLATE", "PREDICTOR": "NO", "BIGTIFF": "IF_SAFER"}
"""Class values have no slope for a predictor to use."""


@dataclass(frozen=True, eq=False)
class Look:
    """Band description, data type, no-data value, how overviews are made, and colors (value to RGBA)."""

    band: str
    dtype: str
    nodata: int
    overviews: str
    colors: Mapping[int, tuple[int, int, int, int]] | None


class CogWriter:
    """One band on its way to `path`: `begin`, `write` strips in order, `finish`, `publish`; at the end `discard`."""

    def __init__(
        self, path: Path, grid: GeoBox, look: Look, tags: Mapping[str, str], co: Mapping[str, str], overwrite: bool
    ) -> None:
        self.path = path
        self.look = look
        self._grid = grid
        self._tags = dict(tags)
        self._co = {key.upper(): value for key, value in co.items()}
        self._overwrite = overwrite
        self._strips = path.with_name(f".{path.stem}.{os.getpid()}.strips.tif")
        self.finished = path.with_name(f".{path.stem}.{os.getpid()}.cog.tif")
        self._dataset: Any = None
        self._row = 0
        self._pending: list[NDArray[Any]] = []
        self._checksum = 0

    @property
    def shape(self) -> tuple[int, int]:
        return int(self._grid.shape[0]), int(self._grid.shape[1])

    def begin(self) -> None:
        """Open the temporary file.

        Raises:
            OutputError: `path` exists already, is no ordinary file, or its folder cannot be written.
        """
        if self.path.exists() and not self.path.is_file():
            raise OutputError(f"{self.path} is not an ordinary file and cannot be replaced. Choose another name.")
        if self.path.exists() and not self._overwrite:
            raise OutputError(f"{self.path} exists already. Say --overwrite to replace it, or choose another output.")
        crs = self._grid.crs
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._dataset = opened(
                str(self._strips),
                "w",
                driver="GTiff",
                count=1,
                dtype=self.look.dtype,
                height=self.shape[0],
                width=self.shape[1],
                crs=CRS.from_wkt(crs.to_wkt()) if crs is not None else None,
                transform=self._grid.transform,
                nodata=self.look.nodata,
                tiled=True,
                blockxsize=BLOCK,
                blockysize=BLOCK,
                compress="DEFLATE",
                zlevel=1,
                bigtiff="IF_SAFER",
            )
            self._dataset.set_band_description(1, self.look.band)
            self._dataset.update_tags(**self._tags)
            if self.look.colors is not None:
                self._dataset.write_colormap(1, dict(self.look.colors))

    def write(self, row: int, values: NDArray[Any]) -> None:
        """The next rows, (h, W). Whole blocks go to disk at once, because half of one would be written twice."""
        held = sum(len(part) for part in self._pending)
        if row != self._row + held or values.shape[1] != self.shape[1] or row + len(values) > self.shape[0]:
            raise ValueError(f"rows {row} to {row + len(values)} of {values.shape[1]} do not follow {self._row + held}")
        self._pending.append(np.ascontiguousarray(values, dtype=self.look.dtype))
        held += len(values)
        ready = held if self._row + held == self.shape[0] else held // BLOCK * BLOCK
        if ready:
            rows = np.concatenate(self._pending)
            self._flush(rows[:ready])
            self._pending = [rows[ready:]] if ready < held else []

    def finish(self) -> None:
        """Turn the strips into a COG, still beside its place, and read it back to see that every pixel arrived.

        Raises:
            OutputError: the disk is full, or what was read differs from what was written.
        """
        written = self._row + sum(len(part) for part in self._pending)
        if written != self.shape[0]:
            raise ValueError(f"{written} of {self.shape[0]} rows were written")
        with writing(self.path):
            self._dataset.close()
            options = {**PLAIN, "OVERVIEW_RESAMPLING": self.look.overviews, **self._co}
            rasterio.shutil.copy(self._strips, self.finished, driver="COG", **options)
        try:
            arrived = self._read_back()
        except SceneError as error:
            raise OutputError(
                f"{self.path} could not be written whole: {error.__cause__}. Is the disk full?"
            ) from error
        if arrived != self._checksum:
            raise OutputError(f"{self.path} could not be written whole: pixels differ on disk. Is the disk full?")

    def discard(self) -> None:
        """Remove what is not published."""
        if self._dataset is not None:
            with contextlib.suppress(*GDAL_ERRORS):
                self._dataset.close()
            self._dataset = None
        for left in (self._strips, self.finished):
            for path in left.parent.glob(
                f"{glob.escape(left.name)}*"
            ):  # GDAL keeps overviews beside while it makes a COG
                with contextlib.suppress(OSError):
                    path.unlink()

    def _flush(self, rows: NDArray[Any]) -> None:
        with writing(self.path):
            self._dataset.write(rows, 1, window=RasterWindow(0, self._row, self.shape[1], len(rows)))
        self._checksum = zlib.crc32(rows.tobytes(), self._checksum)
        self._row += len(rows)

    def _read_back(self) -> int:
        checksum = 0
        with reading(str(self.finished)), opened(str(self.finished)) as dataset:
            for row in range(0, self.shape[0], BLOCK):
                height = min(BLOCK, self.shape[0] - row)
                rows = dataset.read(1, window=RasterWindow(0, row, self.shape[1], height))
                checksum = zlib.crc32(rows.tobytes(), checksum)
        return checksum


def publish(pairs: Sequence[tuple[Path, Path]]) -> None:
    """Move finished files to their places.

    Raises:
        OutputError: a place cannot be written; the files moved before stay.
    """
    for finished, path in pairs:
        with writing(path):
            os.replace(finished, path)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Within, what GDAL and the system raise becomes an `OutputError` that names `path`."""
    try:
        with environment(str(path)):
            yield
    except GDAL_ERRORS as error:
        reason = str(error.__cause__ or error)
        raise OutputError(
            f"{path} cannot be written ({reason}). Check that its folder can be written and has space."
        ) from error
