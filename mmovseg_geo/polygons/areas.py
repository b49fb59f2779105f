"""Ground areas of pixels and classes: geodesic for geographic grids and web mercator, planar otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmovseg_geo.grid import Window, needs_geodesic

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from pyproj import CRS

    from mmovseg_geo.rasters.labels import LabelRaster

Heights = NDArray[np.float64]

ROWS_AT_ONCE = 512
COUNTED_AT_ONCE = 2**18
"""Pixels: looking values up and counting them makes numbers of eight bytes of each."""
WEB_MERCATOR = "Popular Visualisation Pseudo Mercator"


def pixel_areas(grid: GeoBox, rows: slice) -> NDArray[np.float64]:
    """Ground areas in m2 of the pixels in `rows`: (rows, 1), or (rows, columns) where a row crosses latitudes.

    A grid without CRS counts in its own square units.
    """
    affine = grid.affine
    cell = abs(affine.a * affine.e - affine.b * affine.d)
    height = rows.stop - rows.start
    if grid.crs is None:
        return np.full((height, 1), cell)
    crs = grid.crs.proj
    unit = crs.axis_info[0].unit_conversion_factor or 1.0
    if not needs_geodesic(crs):
        return np.full((height, 1), cell * unit * unit)
    columns = np.arange(grid.shape[1]) + 0.5 if affine.d else np.full(1, 0.5)
    y = affine.f + affine.d * columns[None, :] + affine.e * (np.arange(rows.start, rows.stop)[:, None] + 0.5)
    # Two Gauss points along the height of a pixel: exact to 1e-9 even for pixels of one degree.
    offset = affine.e / np.sqrt(12.0)
    if crs.is_geographic:
        density = _geographic_density
    else:
        operation = crs.coordinate_operation
        web = operation is not None and operation.method_name == WEB_MERCATOR
        density = _web_mercator_density if web else _conformal_density
    return np.asarray(cell * (density(y - offset, unit, crs) + density(y + offset, unit, crs)) / 2)


@dataclass(frozen=True, eq=False)
class Ground:
    """Areas of the pixels of a grid, counted in units: whole numbers, whose sums are exact in any order.

    Attributes:
        grid: the grid.
        unit: m2 of one unit: a pixel where all are equal, else so small that the map has less than 2 ** 53 of them.
        is_even: whether all pixels have one area.
    """

    grid: GeoBox
    unit: float
    is_even: bool

    @classmethod
    def of(cls, grid: GeoBox) -> Ground:
        if grid.crs is None or not needs_geodesic(grid.crs.proj):
            return cls(grid, float(pixel_areas(grid, slice(0, 1))[0, 0]), True)
        total = 0.0
        for block in row_blocks((grid.shape[0], grid.shape[1])):
            areas = pixel_areas(grid, block.slices[0])
            total += areas.sum() * (grid.shape[1] // areas.shape[1])
        return cls(grid, 2.0 ** (np.frexp(total)[1] - _EXACT_BITS), False)

    def units(self, rows: slice) -> NDArray[np.float64] | None:
        """Units of the pixels in `rows`: (rows, 1) or (rows, columns); None where all have one."""
        return None if self.is_even else np.rint(pixel_areas(self.grid, rows) / self.unit)


_EXACT_BITS = 53
"""Whole numbers of so many bits are exact in a float64."""


def row_blocks(shape: tuple[int, int]) -> Iterator[Window]:
    """Windows over all columns and some hundred rows each, from top to bottom."""
    for start in range(0, shape[0], ROWS_AT_ONCE):
        yield Window(start, 0, min(ROWS_AT_ONCE, shape[0] - start), shape[1])


def _few_rows(shape: tuple[int, ...]) -> Iterator[slice]:
    step = max(1, COUNTED_AT_ONCE // shape[1])
    return (slice(first, first + step) for first in range(0, shape[0], step))


def read_labels(labels: LabelRaster, window: Window | None = None) -> NDArray[np.integer[Any]]:
    """Class values (H, W) of the map; whatever is no class of its vocabulary is no-data (`ignore`)."""
    values, vocabulary = labels.read(window), labels.vocabulary
    ids = [entry.id for entry in vocabulary.classes]
    found = np.empty(values.shape, vocabulary.dtype)
    for rows in _few_rows(values.shape):
        found[rows] = np.where(np.isin(values[rows], ids), values[rows], vocabulary.ignore)
    return found


def class_areas(labels: LabelRaster) -> list[dict[str, Any]]:
    """Per class of the vocabulary `id`, `name`, `pixels`, `area_m2` and `share` of the labeled ground, 0..1.

    Reads some rows at a time, so memory does not grow with the map.
    """
    ids = [entry.id for entry in labels.vocabulary.classes]
    largest = max(*ids, labels.vocabulary.ignore)
    pixels, areas = np.zeros(largest + 1, np.int64), np.zeros(largest + 1)
    height, width = labels.grid.shape
    for block in row_blocks((height, width)):
        values = read_labels(labels, block)
        ground = pixel_areas(labels.grid, block.slices[0])
        for rows in _few_rows(values.shape):
            found = values[rows].ravel()
            here = np.broadcast_to(ground[rows], values[rows].shape).ravel()
            pixels += np.bincount(found, minlength=largest + 1)
            areas += np.bincount(found, here, minlength=largest + 1)
    total = float(areas[ids].sum())
    return [
        {
            "id": entry.id,
            "name": entry.name,
            "pixels": int(pixels[entry.id]),
            "area_m2": float(areas[entry.id]),
            "share": float(areas[entry.id]) / total if total else 0.0,
        }
        for entry in labels.vocabulary.classes
    ]


def _geographic_density(y: Heights, unit: float, crs: CRS) -> Heights:
    """Ground m2 per square map unit (degree) at latitude `y`."""
    return _zone_density(y * unit, crs) * unit**2


def _web_mercator_density(y: Heights, unit: float, crs: CRS) -> Heights:
    """Ground m2 per square map unit; web mercator draws ellipsoidal latitudes as if they were spherical."""
    assert crs.ellipsoid is not None, "a map projection has an ellipsoid"
    radius = crs.ellipsoid.semi_major_metre
    latitude = np.arctan(np.sinh(y * unit / radius))
    return _zone_density(latitude, crs) * np.cos(latitude) * (unit / radius) ** 2


def _conformal_density(y: Heights, unit: float, crs: CRS) -> Heights:
    """Ground m2 per square map unit of other Mercators, where both directions are stretched alike."""
    from pyproj import Proj, Transformer

    to_degrees = Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)
    longitude, latitude = to_degrees.transform(np.zeros_like(y), y)
    return np.asarray(unit**2 / Proj(crs).get_factors(longitude, latitude).areal_scale)


def _zone_density(latitude: Heights, crs: CRS) -> Heights:
    """Square meters per square radian of longitude and latitude on the ellipsoid of `crs`."""
    assert crs.ellipsoid is not None, "a CRS of degrees has an ellipsoid"
    major, minor = crs.ellipsoid.semi_major_metre, crs.ellipsoid.semi_minor_metre
    eccentricity2 = 1 - (minor / major) ** 2
    curvature = minor**2 / (1 - eccentricity2 * np.sin(latitude) ** 2) ** 2
    return np.asarray(curvature * np.clip(np.cos(latitude), 0, None))
