"""A SAR image on the optical grid, in its own units and all its bands: a Cloud Optimized GeoTIFF, strip by strip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio.shutil
from rasterio.crs import CRS
from rasterio.windows import Window as RasterWindow

from mmovseg_geo.grid import Window
from mmovseg_geo.rasters.cog import PLAIN, writing
from mmovseg_geo.rasters.resample import bilinear, block_means, factors_of
from mmovseg_geo.rasters.source import opened

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from mmovseg_geo.rasters.layer import Layer
    from mmovseg_geo.rasters.scene import Scene

    Pixels = tuple[NDArray[np.float32], NDArray[np.bool_]]

STRIP = 512
FLOOR_POWER = 1e-10


def write_aligned(path: Path, scene: Scene, layer: Layer, tags: Mapping[str, str]) -> Path:
    """Every band of a SAR layer's file on the scene's grid, moved as the layer is, resampled once at most.

    Values keep their units and whole numbers their type; what is not seen is no-data.

    Raises:
        OutputError: it cannot be written.
    """
    whole = _all_bands(layer)
    facts = layer.source.facts
    stored = facts.dtypes[whole.source.bands[0] - 1]
    calibrated = facts.calibration is not None and facts.calibration.sigma is not None
    dtype = stored if stored in ("uint8", "uint16", "int16") and not calibrated else "float32"
    nodata, lifted = _nodata(whole, dtype)
    names = _names(whole)
    strips = path.with_name(f".{path.stem}.strips.tif")
    crs = scene.grid.crs
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "count": len(names),
        "dtype": dtype,
        "height": scene.shape[0],
        "width": scene.shape[1],
        "crs": CRS.from_wkt(crs.to_wkt()) if crs is not None else None,
        "transform": scene.grid.transform,
        "nodata": nodata,
        "tiled": True,
        "blockxsize": STRIP,
        "blockysize": STRIP,
        "compress": "DEFLATE",
        "zlevel": 1,
        "bigtiff": "IF_SAFER",
    }
    try:
        with writing(path):
            with opened(str(strips), "w", **profile) as target:
                target.update_tags(**dict(tags))
                for band, name in enumerate(names, 1):
                    target.set_band_description(band, name)
                for row in range(0, scene.shape[0], STRIP):
                    window = Window(row, 0, min(STRIP, scene.shape[0] - row), scene.shape[1])
                    values, valid = _stored_units(whole, window)
                    area = RasterWindow(window.col, window.row, window.width, window.height)
                    target.write(_finished(values, valid, dtype, nodata, lifted), window=area)
            rasterio.shutil.copy(strips, path, driver="COG", **{**PLAIN, "OVERVIEW_RESAMPLING": "AVERAGE"})
    finally:
        strips.unlink(missing_ok=True)
    return path


def _all_bands(layer: Layer) -> Layer:
    """The layer of every band that holds data, unfiltered: filters and choices are for mapping."""
    facts = layer.source.facts
    if layer.source.expand_palette:
        return replace(layer, speckle=None)
    bands = tuple(band for band in range(1, facts.count + 1) if band != facts.alpha)
    return replace(layer, source=replace(layer.source, bands=bands), speckle=None)


def _names(layer: Layer) -> tuple[str, ...]:
    if layer.source.expand_palette:
        return ("brightness",) * layer.planes
    known = dict(zip(layer.choice.bands, layer.choice.names, strict=False))
    descriptions = layer.source.facts.descriptions
    return tuple(descriptions[band - 1] or known.get(band, f"band {band}") for band in layer.source.bands)


def _nodata(layer: Layer, dtype: str) -> tuple[float, bool]:
    """The value of pixels not seen, and whether measured pixels of that value must be lifted by one."""
    if dtype == "float32":
        return float("nan"), False
    declared = [value for value in layer.source.nodata if not np.isnan(value)]
    return (declared[0], False) if declared else (0.0, True)


def _stored_units(layer: Layer, window: Window) -> Pixels:
    offset = layer.placement.offset
    if offset is not None:
        raw, valid = layer.source.read(replace(window, row=window.row + offset[0], col=window.col + offset[1]))
        return layer.merged(raw), valid
    factors = factors_of(layer.placement.scale)
    rows, cols = layer.placement.centers(window)
    shape = (-(-layer.source.shape[0] // factors[0]), -(-layer.source.shape[1] // factors[1]))

    def read(area: Window) -> Pixels:
        raw, valid = layer.source.read(area)
        return np.where(valid, layer.scaling.averageable(layer.merged(raw)), np.float32(0)), valid

    planes = layer.planes if layer.source.expand_palette else len(layer.source.bands)
    averaged, valid = bilinear(
        lambda area: block_means(read, area, factors), planes, shape, rows / factors[0], cols / factors[1]
    )
    return _as_stored(layer, averaged), valid


def _as_stored(layer: Layer, averaged: NDArray[np.float32]) -> NDArray[np.float32]:
    """What was averaged, as the file stores it: the way back of `Scaling.averageable`."""
    scaling = layer.scaling
    physical = averaged
    if scaling.kind == "db":
        physical = np.float32(10) * np.log10(np.maximum(averaged, np.float32(FLOOR_POWER)))
    elif scaling.kind == "amplitude":
        physical = np.sqrt(np.maximum(averaged, np.float32(0)))
    found: NDArray[np.float32] = (physical - np.float32(scaling.offset)) / np.float32(scaling.gain)
    return found


def _finished(
    values: NDArray[np.float32], valid: NDArray[np.bool_], dtype: str, nodata: float, lifted: bool
) -> NDArray[Any]:
    if dtype != "float32":
        limits = np.iinfo(dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
        if lifted:
            values = np.where(values == nodata, nodata + 1, values)
    return np.where(valid, values, nodata).astype(dtype)
