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
from xml.etree import ElementTree

import numpy as np
import rasterio.shutil
from rasterio.crs import CRS
from rasterio.windows import Window as RasterWindow

from mmovseg_geo.errors import OutputError, SceneError
from mmovseg_geo.rasters.pyramid import Pyramid, Resampling, level_shapes
from mmovseg_geo.rasters.source import GDAL_ERRORS, environment, opened, reading

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from odc.geo.geobox import GeoBox

BLOCK = 512
PLAIN = {"BLOCKSIZE": str(BLOCK), "COMPRESS": "DEFLATE", "PREDICTOR": "NO", "BIGTIFF": "IF_SAFER"}
"""Class values have no slope for a predictor to use."""
OWN_OVERVIEWS = frozenset(
    {"BLOCKSIZE", "OVERVIEWS", "OVERVIEW_COUNT", "OVERVIEW_RESAMPLING", "RESAMPLING", "TILING_SCHEME", "TARGET_SRS"}
)
"""Creation options with which GDAL makes other overviews than ours."""


@dataclass(frozen=True, eq=False)
class Look:
    """Band description, data type, no-data value, how overviews are made, and colors (value to RGBA)."""

    band: str
    dtype: str
    nodata: int
    overviews: Resampling
    colors: Mapping[int, tuple[int, int, int, int]] | None


class CogWriter:
    """One band on its way to `path`: `begin`, `write` strips in order, `finish`, `publish`; at the end `discard`.

    Overviews grow with the rows, so that finishing is little more than compressing.
    """

    def __init__(
        self, path: Path, grid: GeoBox, look: Look, tags: Mapping[str, str], co: Mapping[str, str], overwrite: bool
    ) -> None:
        self.path = path
        self.look = look
        self._grid = grid
        self._tags = dict(tags)
        self._co = {key.upper(): value for key, value in co.items()}
        self._overwrite = overwrite
        self._beside = f".{path.stem}.{os.getpid()}"
        self.finished = path.with_name(f"{self._beside}.cog.tif")
        self._levels: list[_Rows] = []
        self._row = 0
        self._checksum = 0
        self._pyramid: Pyramid | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return int(self._grid.shape[0]), int(self._grid.shape[1])

    def begin(self) -> None:
        """Open the temporary files.

        Raises:
            OutputError: `path` exists already, is no ordinary file, or its folder cannot be written.
        """
        if self.path.exists() and not self.path.is_file():
            raise OutputError(f"{self.path} is not an ordinary file and cannot be replaced. Choose another name.")
        if self.path.exists() and not self._overwrite:
            raise OutputError(f"{self.path} exists already. Say --overwrite to replace it, or choose another output.")
        crs = self._grid.crs
        placed = {"crs": CRS.from_wkt(crs.to_wkt()) if crs is not None else None, "transform": self._grid.transform}
        shapes = [] if OWN_OVERVIEWS & self._co.keys() else level_shapes(self.shape, BLOCK)
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            for level, shape in enumerate([self.shape, *shapes]):
                path = self.path.with_name(f"{self._beside}.{level}.tif")
                self._levels.append(_Rows(path, shape, self.look, placed if level == 0 else {}))
            base = self._levels[0].dataset
            base.set_band_description(1, self.look.band)
            base.update_tags(**self._tags)
            if self.look.colors is not None:
                base.write_colormap(1, dict(self.look.colors))
        self._pyramid = Pyramid(
            len(shapes), self.look.overviews, self.look.nodata, lambda level, rows: self._levels[level + 1].add(rows)
        )

    def write(self, row: int, values: NDArray[Any]) -> None:
        """The next rows, (h, W)."""
        if row != self._row or values.shape[1] != self.shape[1] or row + len(values) > self.shape[0]:
            raise ValueError(f"rows {row} to {row + len(values)} of {values.shape[1]} do not follow {self._row}")
        assert self._pyramid is not None, "rows are written after `begin`"
        rows = np.ascontiguousarray(values, dtype=self.look.dtype)
        self._row += len(rows)
        self._checksum = zlib.crc32(rows.data, self._checksum)
        with writing(self.path):
            self._levels[0].add(rows)
            self._pyramid.add(rows, last=self._row == self.shape[0])

    def finish(self) -> None:
        """Turn the rows into a COG, still beside its place, and read it back to see that every pixel arrived.

        Raises:
            OutputError: the disk is full, or what was read differs from what was written.
        """
        if self._row != self.shape[0]:
            raise ValueError(f"{self._row} of {self.shape[0]} rows were written")
        with writing(self.path, GDAL_NUM_THREADS="ALL_CPUS"):
            for level in self._levels:
                level.dataset.close()
            options = {**PLAIN, "OVERVIEW_RESAMPLING": self.look.overviews, **self._co}
            rasterio.shutil.copy(self._with_overviews(), self.finished, driver="COG", **options)
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
        for level in self._levels:
            with contextlib.suppress(*GDAL_ERRORS):
                level.dataset.close()
        self._levels = []
        for path in self.path.parent.glob(f"{glob.escape(self._beside)}.*"):
            with contextlib.suppress(OSError):
                path.unlink()

    def _with_overviews(self) -> Path:
        """The raster of all rows, with the smaller ones as its overviews."""
        base, *smaller = (level.path for level in self._levels)
        if not smaller:
            return base
        table = self.path.with_name(f"{self._beside}.vrt")
        rasterio.shutil.copy(base, table, driver="VRT")
        root = ElementTree.parse(table)
        band = root.find("VRTRasterBand")
        assert band is not None, "GDAL describes the band"
        for path in smaller:
            overview = ElementTree.SubElement(band, "Overview")
            ElementTree.SubElement(overview, "SourceFilename", relativeToVRT="1").text = path.name
            ElementTree.SubElement(overview, "SourceBand").text = "1"
        root.write(table, encoding="utf-8")
        return table

    def _read_back(self) -> int:
        checksum = 0
        with (
            reading(str(self.finished)),
            rasterio.Env(GDAL_NUM_THREADS="ALL_CPUS"),
            opened(str(self.finished)) as dataset,
        ):
            for row in range(0, self.shape[0], BLOCK):
                height = min(BLOCK, self.shape[0] - row)
                rows = dataset.read(1, window=RasterWindow(0, row, self.shape[1], height))
                checksum = zlib.crc32(rows.data, checksum)
        return checksum


class _Rows:
    """A temporary GeoTIFF that takes rows, whole blocks at a time, because half of one would be written twice."""

    def __init__(self, path: Path, shape: tuple[int, int], look: Look, placed: Mapping[str, Any]) -> None:
        self.path, self.shape = path, shape
        self.dataset = opened(
            str(path),
            "w",
            driver="GTiff",
            count=1,
            dtype=look.dtype,
            height=shape[0],
            width=shape[1],
            nodata=look.nodata,
            tiled=True,
            blockxsize=BLOCK,
            blockysize=BLOCK,
            compress="DEFLATE",
            zlevel=1,
            bigtiff="IF_SAFER",
            **placed,
        )
        self._row = 0
        self._pending: list[NDArray[Any]] = []

    def add(self, rows: NDArray[Any]) -> None:
        self._pending.append(rows)
        held = sum(map(len, self._pending))
        ready = held if self._row + held == self.shape[0] else held // BLOCK * BLOCK
        if ready:
            rows = np.concatenate(self._pending)
            self.dataset.write(rows[:ready], 1, window=RasterWindow(0, self._row, self.shape[1], ready))
            self._row += ready
            self._pending = [rows[ready:].copy()] if ready < held else []


def publish(pairs: Sequence[tuple[Path, Path]]) -> None:
    """Move finished files to their places.

    Raises:
        OutputError: a place cannot be written; the files moved before stay.
    """
    for finished, path in pairs:
        with writing(path):
            os.replace(finished, path)


@contextlib.contextmanager
def writing(path: Path, **options: str) -> Iterator[None]:
    """Within, what GDAL and the system raise becomes an `OutputError` that names `path`.

    Args:
        options: of GDAL, where neither the user's environment nor an outer `Env` sets them.
    """
    try:
        with environment(str(path), **options):
            yield
    except GDAL_ERRORS as error:
        reason = str(error.__cause__ or error)
        raise OutputError(
            f"{path} cannot be written ({reason}). Check that its folder can be written and has space."
        ) from error
