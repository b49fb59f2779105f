"""One raster file: what it says of itself, and its pixels with their validity, read lazily by any thread."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window as RasterWindow

from mmovseg_geo.errors import SceneError
from mmovseg_geo.grid import Window
from mmovseg_geo.rasters.facts import Facts, facts_of

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Pixels = tuple[NDArray[np.float32], NDArray[np.bool_]]
    """Values (N, H, W), 0 where invalid, and validity (H, W)."""

CACHE_BYTES = 256 * 2**20
"""GDAL keeps this many bytes of decoded blocks at most unless GDAL_CACHEMAX says otherwise; by itself, 5 % of RAM."""
LEAST_CACHE = 16 * 2**20
USUAL_TILE = 512
_cache_bytes = CACHE_BYTES
REMOTE = ("/vsicurl", "/vsis3", "/vsigs", "/vsiaz", "/vsiadls", "/vsioss", "/vsiswift", "/vsiwebhdfs", "/vsihdfs")
GDAL_ERRORS = (RasterioError, CPLE_BaseError, OSError)
"""What rasterio lets out, of itself, of GDAL and of the system."""
_OPENING = threading.Lock()
PAUSES_S = (0.5, 2.0, 8.0)
"""Before a remote file is read again that could not be read."""
HTTP = {"GDAL_HTTP_MAX_RETRY": "4", "GDAL_HTTP_RETRY_DELAY": "0.5", "GDAL_HTTP_CONNECTTIMEOUT": "30"} | {
    "GDAL_HTTP_LOW_SPEED_TIME": "30",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1000",
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_INGESTED_BYTES_AT_OPEN": "65536",
}
"""A server that is busy is asked again, one that stalls is given up; most headers come with the first request."""
ARCHIVES = ("/vsizip/", "/vsitar/", "/vsigzip/")
FILL_BELOW = -9999.0
"""Signed values at or below are fill, declared or not: no product measures there, many put -9999 or -32768."""


def environment(path: str, **options: str) -> Any:
    """GDAL with our defaults for work on `path`, where neither the user's environment nor an outer `Env` sets them."""
    wanted: dict[str, Any] = {"GDAL_CACHEMAX": _cache_bytes, **options}
    if is_remote(path):
        wanted |= HTTP
    theirs = rasterio.env.getenv() if rasterio.env.hasenv() else {}
    return rasterio.Env(**{key: value for key, value in wanted.items() if key not in os.environ and key not in theirs})


def is_remote(path: str) -> bool:
    """Whether a file lies on a server, itself or the archive that holds it."""
    for archive in ARCHIVES:
        path = path.removeprefix(archive)
    return "://" in path or path.startswith(REMOTE)


@contextmanager
def caching(count: int) -> Iterator[None]:
    """Within, GDAL keeps at most `count` bytes of decoded blocks in this process, unless the user sets it."""
    global _cache_bytes
    before, _cache_bytes = _cache_bytes, count
    try:
        yield
    finally:
        _cache_bytes = before


def cache_bytes_of(files: Iterable[tuple[Facts, int]]) -> int:
    """What GDAL must keep so that windows of so many rows of each file, one below the other, decode no block twice.

    More would only fill up with what is not read again, and the more the larger the scene.
    """
    kept = 0
    for facts, rows in files:
        touched = (-(-(rows - 1) // facts.block_rows) + 1) * facts.block_rows
        kept += min(touched, facts.shape[0]) * facts.row_bytes
    return min(max(kept, LEAST_CACHE), CACHE_BYTES)


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Within, GDAL has our defaults where the user set none, and what it raises becomes a `SceneError`."""
    try:
        with environment(path):
            yield
    except GDAL_ERRORS as error:
        reason = str(error.__cause__ or error)
        raise SceneError(
            f"{path}: cannot be read ({reason}).\n  Check that the file is complete and opens in QGIS or gdalinfo."
        ) from error


def opened(path: str, mode: str = "r", **profile: Any) -> Any:
    """The dataset, without rasterio's warning about pixels that have no place: we say that better ourselves."""
    with _OPENING, warnings.catch_warnings():  # the list of warning filters is one for all threads
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(path, mode, **profile)


class Handles:
    """An open dataset for each thread, because a GDAL dataset belongs to one. Pickles as the path alone."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._local = threading.local()
        self._lock = threading.Lock()
        self._opened: list[Any] = []
        self._process = os.getpid()

    def __getstate__(self) -> str:
        return self.path

    def __setstate__(self, path: str) -> None:
        Handles.__init__(self, path)

    def get(self) -> Any:
        """This thread's dataset, opened now if need be."""
        if self._process != os.getpid():  # a forked child must not touch its parent's datasets
            Handles.__init__(self, self.path)
        dataset = getattr(self._local, "dataset", None)
        if dataset is None or dataset.closed:
            dataset = self._local.dataset = opened(self.path)
            with self._lock:
                self._opened.append(dataset)
        return dataset

    def renew(self) -> None:
        """Close this thread's dataset and make GDAL forget what it keeps of a remote file, broken answers among it."""
        dataset = getattr(self._local, "dataset", None)
        if dataset is not None:
            dataset.close()
        # GDAL forgets a file that is named so when it is opened, as soon as it is closed.
        with contextlib.suppress(*GDAL_ERRORS), environment(self.path, CPL_VSIL_CURL_NON_CACHED=self.path):
            opened(self.path, sharing=False).close()

    def close(self) -> None:
        """Close the datasets of every thread; a later read opens again."""
        with self._lock:
            opened, self._opened = self._opened, []
        for dataset in opened:
            dataset.close()


def probe(path: str) -> Facts:
    """What a raster file says of itself, without reading pixels.

    Raises:
        SceneError: missing, not a raster, without bands, or complex.
    """
    if not path.startswith("/vsi") and "://" not in path:
        if os.path.isdir(path):
            raise SceneError(f"{path} is a folder, a raster file was expected. Name the GeoTIFF inside it.")
        if not os.path.exists(path):
            raise SceneError(f"{path}: no such file. Check the path and its spelling.")
    with reading(path), opened(path) as dataset:
        facts = facts_of(dataset, path)
    if facts.count == 0:
        raise SceneError(f"{path} holds no bands (a container of subdatasets?). Name one raster in it: see gdalinfo.")
    if facts.transform.determinant == 0:
        raise SceneError(f"{path} has a transform that maps all pixels onto a line or point. Georeference it anew.")
    if any("complex" in dtype for dtype in facts.dtypes):
        raise SceneError(
            f"{path} holds complex values ({facts.dtypes[0]}), intensity was expected.\n"
            "  Detect it first: amplitude or power, multilooked and terrain corrected (SNAP, pyroSAR, OTB)."
        )
    return facts


@dataclass(frozen=True, eq=False)
class Source:
    """The bands of one file that are used, as float32 with validity.

    Attributes:
        bands: 1-based numbers of the used bands, in order; one band of a palette image gives three (red green blue).
        nodata: values that mean no data.
        every: True when only a pixel that holds no-data in *every* used band is invalid (0 is also a color).
        zero: True when pixels of exact zeros are fill though nobody declared it.
    """

    facts: Facts
    bands: tuple[int, ...]
    nodata: tuple[float, ...] = ()
    every: bool = True
    zero: bool = False
    expand_palette: bool = False
    handles: dict[str, Handles] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "handles", {path: Handles(path) for path in self.facts.files})

    @property
    def path(self) -> str:
        return self.facts.path

    @property
    def shape(self) -> tuple[int, int]:
        return self.facts.shape

    @property
    def planes(self) -> int:
        """How many bands come out."""
        return 3 if self.expand_palette else len(self.bands)

    def read(self, window: Window) -> Pixels:
        """Values (N, H, W) float32 and validity (H, W) of source pixels; those beyond the file are invalid zeros.

        Where the file has a calibration the values are backscatter, and border noise is invalid.
        """
        calibration = self.facts.calibration
        if calibration is None:
            return self._stored(window)
        wide = window.padded(calibration.halo)
        numbers, valid = self._stored(wide)
        rows, cols = (np.arange(*span, dtype=np.float64) + 0.5 for span in wide.spans)
        values, valid = calibration.measured(numbers, valid, rows, cols)
        inner = slice(calibration.halo, -calibration.halo)
        return values[:, inner, inner], valid[inner, inner]

    def _stored(self, window: Window) -> Pixels:
        inside = window.intersection(Window(0, 0, *self.shape))
        if inside == window:
            area = RasterWindow(window.col, window.row, window.width, window.height)
            return self._pixels(lambda read, bands: read(bands, window=area))
        values = np.zeros((self.planes, *window.shape), np.float32)
        valid = np.zeros(window.shape, np.bool_)
        if inside is not None:
            at = (
                slice(inside.row - window.row, inside.row - window.row + inside.height),
                slice(inside.col - window.col, inside.col - window.col + inside.width),
            )
            area = RasterWindow(inside.col, inside.row, inside.width, inside.height)
            values[:, at[0], at[1]], valid[at] = self._pixels(lambda read, bands: read(bands, window=area))
        return values, valid

    def decimated(self, longest: int) -> Pixels:
        """The whole file at most `longest` pixels long and wide (nearest, from overviews where there are any)."""
        scale = min(1.0, longest / max(self.shape))
        rows, cols = (max(1, round(length * scale)) for length in self.shape)

        def shrunk(read: Callable[..., Any], bands: Any) -> Any:
            shape = (rows, cols) if isinstance(bands, int) else (len(bands), rows, cols)
            return read(bands, out_shape=shape)

        values, valid = self._pixels(shrunk)
        calibration = self.facts.calibration
        if calibration is None:
            return values, valid
        ends = zip((rows, cols), self.shape, strict=True)
        at_rows, at_cols = ((np.arange(count, dtype=np.float64) + 0.5) * side / count for count, side in ends)
        return calibration.apply(values, valid, at_rows, at_cols)

    def close(self) -> None:
        for handle in self.handles.values():
            handle.close()

    def _pixels(self, fetch: Callable[[Callable[..., Any], Any], Any]) -> Pixels:
        raw = self._raw(fetch)
        valid = self._measured(raw)
        for path, band in self._masks():
            way = "read" if band == self.facts.alpha else "read_masks"
            valid &= self._asked(path, way, band, fetch) != 0
        if self.expand_palette:
            raw, opaque = self._painted(raw[0])
            valid &= opaque
        return blanked(raw.astype(np.float32, copy=False), valid), valid

    def _raw(self, fetch: Callable[[Callable[..., Any], Any], Any]) -> NDArray[Any]:
        """Stored values (N, H, W) of the used bands, wherever they lie."""
        places = [self.facts.parts[band - 1] if self.facts.parts else (self.path, band) for band in self.bands]
        found = []
        for path, group in groupby(places, key=lambda place: place[0]):
            found.append(self._asked(path, "read", [band for _, band in group], fetch))
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _asked(self, path: str, way: str, bands: Any, fetch: Callable[[Callable[..., Any], Any], Any]) -> Any:
        """What a dataset of this thread gives; a server that drops the connection is asked again."""
        for pause in (*(PAUSES_S if is_remote(path) else ()), None):
            try:
                with reading(path):
                    return fetch(getattr(self.handles[path].get(), way), bands)
            except SceneError as error:
                if pause is None:
                    raise
                logger.info("%s Trying again in %g s.", str(error).splitlines()[0], pause)
                time.sleep(pause)
                self.handles[path].renew()
        raise AssertionError("the last try returns or raises")

    def _masks(self) -> list[tuple[str, int]]:
        """File and band of every mask that the files have beside no-data values."""
        if self.facts.parts:
            return [self.facts.parts[band - 1] for band in self.bands] if self.facts.has_mask else []
        if self.facts.alpha is not None:
            return [(self.path, self.facts.alpha)]
        return [(self.path, self.bands[0])] if self.facts.has_mask else []

    def _measured(self, raw: NDArray[Any]) -> NDArray[np.bool_]:
        shape = raw.shape[1:]
        missing = np.zeros(shape, np.bool_)
        for value in self.nodata:
            if not np.isnan(value):
                hit = raw == _as_stored(value, raw.dtype)
                missing |= hit.all(axis=0) if self.every else hit.any(axis=0)
        if self.zero:
            hit = raw == 0
            missing |= hit.all(axis=0) if self.every else hit.any(axis=0)
        if raw.dtype.kind == "f":
            missing |= ~np.isfinite(raw).all(axis=0)
        if raw.dtype.kind == "f" or raw.dtype in (np.int16, np.int32):
            missing |= (raw <= FILL_BELOW).any(axis=0)
        return ~missing

    def _painted(self, index: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        assert self.facts.colormap is not None, "only palette images are painted"
        table = np.zeros((int(np.iinfo(index.dtype).max) + 1, 4), np.uint8)
        for value, color in self.facts.colormap.items():
            table[value] = color
        painted = table[index]
        return painted[..., :3].transpose(2, 0, 1), painted[..., 3] != 0


def blanked(values: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The same array (N, H, W), 0 where it is not valid (H, W)."""
    if not valid.all():
        values[:, ~valid] = 0
    return values


def _as_stored(value: float, dtype: np.dtype[Any]) -> Any:
    """The declared value as the file's type holds it: -3.4e38 is declared in double and stored in single."""
    if dtype.kind == "f":
        return np.array(value, np.float64).astype(dtype)
    return value


def nodata_of(facts: Facts, bands: Sequence[int], override: float | str | None) -> tuple[tuple[float, ...], bool]:
    """Values that mean no data in the used bands, and whether undeclared zeros may be taken for fill.

    `override` is the user's: a number, `"nan"`, `"none"` (ignore what the file declares) or None (as declared).
    """
    if override is not None:
        text = str(override).strip().lower()
        if text == "none":
            return (), False
        try:
            return (float(text),), False
        except ValueError:
            raise SceneError(f"No-data {override!r} is not a number; give a number, nan or none.") from None
    declared = {str(value): float(value) for band in bands if (value := facts.nodata[band - 1]) is not None}
    return tuple(declared[text] for text in sorted(declared)), not declared  # by text, for NaN never equals NaN
