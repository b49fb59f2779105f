"""From labels to polygons to a file that opens in QGIS with its classes, names and colors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import geopandas

from mmovseg_geo.grid import Size, Window
from mmovseg_geo.polygons.areas import class_areas
from mmovseg_geo.polygons.layer import Layer
from mmovseg_geo.polygons.merged import merged
from mmovseg_geo.polygons.simplify import Simplifier
from mmovseg_geo.polygons.stream import complete_regions
from mmovseg_geo.polygons.strips import NODATA, UNTRACED, MapStrips
from mmovseg_geo.polygons.tables import Polygons, frame
from mmovseg_geo.polygons.write import LAYER, WRITERS, require_writable, write_layer, write_polygons
from mmovseg_geo.rasters.labels import LabelRaster

__all__ = ["LAYER", "WRITERS", "class_areas", "polygonize", "polygonize_to", "tracing_bytes", "write_polygons"]

TRACED_BYTES = 320 * 2**20
"""What tracing and writing take, of a map with a region for each hundred pixels."""
MERGED_BYTES = 3
"""A pixel of such a map, where small regions join others."""

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
    is in `.attrs["vocabulary"]`. Pixels without data are absent; a background class is a class like any other. Rows
    are in the order in which regions end, from top to bottom; of those that end in one row, as they begin.

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
    raster = _opened(labels)
    strips = MapStrips.of(raster, window=window, confidence=confidence)
    found = frame(_polygons(strips, _size(min_area), _size(fill_holes), _size(simplify)), strips)
    found.attrs.update(vocabulary=raster.vocabulary, labels=str(raster.path))
    return found


def tracing_bytes(pixels: int, *, merges: bool, simplifies: bool) -> int:
    """What `polygonize_to` takes of a map of so many pixels that is not busier than others."""
    return TRACED_BYTES + MERGED_BYTES * pixels * merges + pixels // 4 * simplifies


def polygonize_to(
    labels: LabelRaster | str | Path,
    path: str | Path,
    *,
    confidence: str | Path | None = None,
    min_area: SizeLike = 0,
    fill_holes: SizeLike = 0,
    simplify: SizeLike = 0,
    window: Window | None = None,
    lco: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> int:
    """Write the polygons of a label map to a file, strip after strip; how many they are.

    The file is the same as that of `write_polygons(polygonize(labels), path)`, whatever the size of the map. Memory
    holds a strip and the outlines of regions that are not complete; with `min_area` or `fill_holes` also the regions
    of the map and which touch, and with `simplify` two bits for each pixel. Arguments as there.

    Raises:
        SceneError: labels or confidence that cannot be read, or do not fit each other.
        OutputError: unknown suffix, existing file without `overwrite`, or a place that cannot be written.

    >>> polygonize_to("scene_labels.tif", "scene.gpkg", simplify="1.5px")  # doctest: +SKIP
    1280
    """
    path = Path(path)
    require_writable(path, overwrite=overwrite)
    raster = _opened(labels)
    strips = MapStrips.of(raster, window=window, confidence=confidence)
    sizes = _size(min_area), _size(fill_holes), _size(simplify)
    count = 0

    def counted() -> Iterator[Polygons]:
        nonlocal count
        for part in _polygons(strips, *sizes):
            count += len(part.class_id)
            yield part

    write_layer(Layer.of(counted(), strips.grid), path, raster.vocabulary, lco or {})
    return count


def _opened(labels: LabelRaster | str | Path) -> LabelRaster:
    return LabelRaster.open(labels) if isinstance(labels, (str, Path)) else labels


def _size(value: SizeLike) -> Size:
    return value if isinstance(value, Size) else Size.parse(value)


def _polygons(strips: MapStrips, min_area: Size, holes: Size, simplify: Size) -> Iterator[Polygons]:
    """The polygons of a map, some at a time."""
    # Regions without data are traced where outlines are simplified, so that what borders on them is smoothed too.
    nodata = NODATA if simplify.value else UNTRACED
    if min_area.value or holes.value:
        parts = merged(strips, holes=holes, smallest=min_area, nodata=nodata)
    else:
        parts = strips.read(nodata=nodata)
    if not simplify.value:
        for regions in complete_regions(parts):
            yield Polygons.of(regions, strips)
        return
    simplifier = Simplifier(strips.window.shape, _pixels(simplify, strips))
    for regions in complete_regions(simplifier.seen(parts)):
        labeled = simplifier.thinned(regions).without(NODATA)
        if len(labeled.codes):
            yield Polygons.of(labeled, strips)


def _pixels(tolerance: Size, strips: MapStrips) -> float:
    """A length in pixels; the side of a square of one pixel's area is one pixel."""
    affine = strips.grid.affine
    side = abs(affine.a * affine.e - affine.b * affine.d) ** 0.5
    return tolerance.value if tolerance.unit == "px" else tolerance.value / float(side)
