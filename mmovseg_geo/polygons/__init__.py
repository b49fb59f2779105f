"""From labels to polygons to a file that opens in QGIS with its classes, names and colors."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import geopandas
import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window as RasterWindow

from mmovseg_geo.errors import SceneError
from mmovseg_geo.grid import Size, Window
from mmovseg_geo.polygons.areas import class_areas, pixel_areas, read_labels, row_blocks
from mmovseg_geo.polygons.outlines import on_map, simplified, trace
from mmovseg_geo.polygons.regions import connected_regions, fill_holes, merge_small, neighbor_graph
from mmovseg_geo.polygons.write import LAYER, WRITERS, write_polygons
from mmovseg_geo.rasters.labels import LabelRaster
from mmovseg_geo.rasters.source import opened, reading

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

    from mmovseg_geo.vocabulary import Vocabulary

__all__ = ["LAYER", "WRITERS", "class_areas", "polygonize", "write_polygons"]

LARGE_MAP = 100_000_000
BYTES_PER_PIXEL = 60
logger = logging.getLogger(__name__)

SizeLike = Size | float | str


def polygonize(
    labels: LabelRaster | str | Path,
    *,
    confidence: str | Path | None = None,
    min_area: SizeLike = 0,
    fill_holes: SizeLike = 0,
    simplify: SizeLike = 0,
    window: Window | None = None,
) -> geopandas.GeoDataFrame:
    """One polygon for each connected region of a label map; together they tile its labeled pixels.

    Columns `class_id`, `class_name`, `area_m2`, `confidence`, `n_pixels`, `geometry` (always Polygon); the vocabulary
    is in `.attrs["vocabulary"]`. Pixels without data are absent; a background class is a class like any other.

    Args:
        confidence: raster 0..100 on the grid of the labels; its mean over each region, else missing.
        min_area: smaller regions join their largest neighbor. m2 (`500`) or pixels (`"12px"`).
        fill_holes: smaller regions that lie inside one other region join it. m2 or pixels.
        simplify: square root of the area of the bends that are cut off, in map units or pixels (`"1.5px"`).
            Shared edges are simplified once; the frame of the map stays.
        window: only these rows and columns.

    `area_m2` and `n_pixels` count the pixels of the region, on the ground: geodesic for geographic grids and web
    mercator, planar otherwise. They do not change when outlines are simplified.

    >>> write_polygons(polygonize("scene_labels.tif", min_area=500, simplify="1.5px"), "scene.gpkg")  # doctest: +SKIP
    """
    smallest, holes, tolerance = _size(min_area), _size(fill_holes), _size(simplify)
    raster = _opened(labels)
    grid = raster.grid if window is None else raster.grid[window.slices]
    vocabulary: Vocabulary = raster.vocabulary
    _warn_if_large(raster)
    ids, classes = connected_regions(read_labels(raster, window))
    if smallest.value or holes.value:
        ids, classes = _merged(ids, classes, grid, (holes, smallest), vocabulary.ignore)
    labeled = classes != vocabulary.ignore
    # No-data regions take part in the simplification, so that what borders on them is smoothed too.
    outlines = trace(ids, np.ones_like(labeled) if tolerance.value else labeled)
    polygons = outlines.polygons()
    if tolerance.value:
        polygons = simplified(polygons, _pixels(tolerance, grid))
    wanted = labeled[outlines.regions]
    regions = outlines.regions[wanted]
    pixels, areas = _measured(ids, len(classes), grid)
    names = {entry.id: entry.name for entry in vocabulary.classes}
    columns = {
        "class_id": classes[regions].astype(np.int32),
        "class_name": np.array([names[number] for number in classes[regions].tolist()], object),
        "area_m2": areas[regions],
        "confidence": _mean_confidence(confidence, ids, len(classes), raster, window)[regions],
        "n_pixels": pixels[regions],
    }
    crs = None if grid.crs is None else grid.crs.proj
    frame = geopandas.GeoDataFrame(columns, geometry=on_map(polygons[wanted], grid.affine), crs=crs)
    frame.attrs.update(vocabulary=vocabulary, labels=str(raster.path))
    return frame


def _opened(labels: LabelRaster | str | Path) -> LabelRaster:
    return LabelRaster.open(labels) if isinstance(labels, (str, Path)) else labels


def _size(value: SizeLike) -> Size:
    return value if isinstance(value, Size) else Size.parse(value)


def _pixels(tolerance: Size, grid: GeoBox) -> float:
    """A length in pixels; the side of a square of one pixel's area is one pixel."""
    affine = grid.affine
    side = abs(affine.a * affine.e - affine.b * affine.d) ** 0.5
    return tolerance.value if tolerance.unit == "px" else tolerance.value / side


def _warn_if_large(raster: LabelRaster) -> None:
    height, width = raster.grid.shape
    if height * width > LARGE_MAP:
        logger.warning(
            "%s has %.0f megapixels; polygons are traced in memory, about %.0f GB. Leave them out (--no-polygons) "
            "or take parts of the map if that is too much.",
            raster.path,
            height * width / 1e6,
            height * width * BYTES_PER_PIXEL / 1e9,
        )


def _merged(
    ids: NDArray[np.int32], classes: NDArray[np.int64], grid: GeoBox, limits: tuple[Size, Size], nodata: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Region numbers and classes after holes were filled and then small regions merged; `limits` in this order."""
    pixels, areas = _measured(ids, len(classes), grid)
    regions = neighbor_graph(ids, classes, nodata)
    for limit, merge in zip(limits, (fill_holes, merge_small), strict=True):
        sizes = pixels if limit.unit == "px" else areas
        regions = merge(regions.measured(sizes), limit.value, nodata)
    return regions.merged[: len(classes)].astype(np.int32)[ids], regions.values


def _measured(ids: NDArray[np.int32], count: int, grid: GeoBox) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pixels and ground area in m2 of each region."""
    pixels, areas = np.zeros(count, np.int64), np.zeros(count)
    for block in row_blocks(ids.shape):
        part = ids[block.slices[0]]
        ground = np.broadcast_to(pixel_areas(grid, block.slices[0]), part.shape)
        pixels += np.bincount(part.ravel(), minlength=count)
        areas += np.bincount(part.ravel(), ground.ravel(), minlength=count)
    return pixels, areas


def _mean_confidence(
    path: str | Path | None, ids: NDArray[np.int32], count: int, raster: LabelRaster, window: Window | None
) -> NDArray[np.float64]:
    """Mean over the pixels of each region that have a confidence, rounded to 0.01; NaN where none has."""
    if path is None:
        return np.full(count, np.nan)
    total, known = np.zeros(count), np.zeros(count)
    top, left = (window.row, window.col) if window else (0, 0)
    with reading(str(path)), opened(str(path)) as source:
        if source.shape != tuple(raster.grid.shape):
            raise SceneError(
                f"{path} has {source.height} x {source.width} pixels, not {raster.grid.shape[0]} x "
                f"{raster.grid.shape[1]} as {raster.path}. Give the confidence that was written with these labels."
            )
        for block in row_blocks(ids.shape):
            place = RasterWindow(left, top + block.row, block.width, block.height)
            values = source.read(1, window=place)
            part = ids[block.slices[0]]
            valid = values != source.nodata if source.nodata is not None else np.ones(values.shape, bool)
            total += np.bincount(part[valid], values[valid], minlength=count)
            known += np.bincount(part[valid], minlength=count)
    means = np.full(count, np.nan)
    np.divide(total, known, out=means, where=known > 0)
    return np.asarray(means.round(2))
