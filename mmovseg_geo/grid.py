"""Where: windows of pixels and sizes with a unit. Pixel grids with a place on Earth are odc-geo's `GeoBox`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mmovseg_geo.errors import ConfigError, NoOverlap

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from pyproj import CRS


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels: first row and column, height and width. It may reach beyond the grid."""

    row: int
    col: int
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.height, self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slices for indexing an array of the whole grid."""
        return slice(self.row, self.row + self.height), slice(self.col, self.col + self.width)

    @property
    def spans(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """First and last (exclusive) row, first and last (exclusive) column."""
        return (self.row, self.row + self.height), (self.col, self.col + self.width)

    def moved(self, rows: int, cols: int) -> Window:
        """The window so many rows further down and columns further right."""
        return Window(self.row + rows, self.col + cols, self.height, self.width)

    def padded(self, pixels: int) -> Window:
        """The window with so many pixels more on every side."""
        return Window(self.row - pixels, self.col - pixels, self.height + 2 * pixels, self.width + 2 * pixels)

    def intersection(self, other: Window) -> Window | None:
        """The pixels both windows hold, or None where they share none."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        bottom = min(self.row + self.height, other.row + other.height)
        right = min(self.col + self.width, other.col + other.width)
        return Window(row, col, bottom - row, right - col) if bottom > row and right > col else None


@dataclass(frozen=True)
class Size:
    """A length or an area in map units (m or m2, unit `""`) or in pixels (unit `"px"`)."""

    value: float
    unit: Literal["", "px"] = ""

    def __str__(self) -> str:
        return f"{self.value:g}{self.unit}"

    @classmethod
    def parse(cls, text: str | float) -> Size:
        """`500`, `"500"` or `"1.5px"`.

        Raises:
            ConfigError: anything else, or a negative value.
        """
        match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*(px)?\s*", str(text))
        if not match:
            raise ConfigError(f"{text!r} is not a size: give a number of map units (500) or of pixels (1.5px).")
        return cls(float(match[1]), "px" if match[2] else "")


def bounds_window(grid: GeoBox, bounds: tuple[float, float, float, float], crs: str | None = None) -> Window:
    """The pixels of a grid that `bounds` (xmin, ymin, xmax, ymax) touch.

    Args:
        crs: of the bounds; by default that of the grid.

    Raises:
        ConfigError: bounds that are not a rectangle, or a CRS that is none.
        NoOverlap: the bounds lie outside the grid.
    """
    import numpy as np

    xmin, ymin, xmax, ymax = bounds
    if not (xmin < xmax and ymin < ymax):
        raise ConfigError(f"The bounds {_listed(bounds)} are empty; the order is xmin,ymin,xmax,ymax.")
    along = np.linspace(0, 1, 21)
    # Edges bend when they change CRS, so their points are carried over and not only the corners.
    xs = np.concatenate([xmin + (xmax - xmin) * along] * 2 + [np.full(21, xmin), np.full(21, xmax)])
    ys = np.concatenate([np.full(21, ymin), np.full(21, ymax)] + [ymin + (ymax - ymin) * along] * 2)
    if crs is not None and grid.crs is not None:
        from pyproj import CRS, Transformer
        from pyproj.exceptions import CRSError

        try:
            source = CRS.from_user_input(crs)
        except CRSError as error:
            raise ConfigError(f"{crs!r} is not a CRS: {error}. Write it as EPSG:32633.") from error
        xs, ys = Transformer.from_crs(source, grid.crs.proj, always_xy=True).transform(xs, ys)
    cols, rows = ~grid.affine * (xs, ys)
    height, width = (int(side) for side in grid.shape)
    window = None
    if np.isfinite([rows, cols]).all():
        # Rounding keeps bounds that lie on pixel edges from reaching one pixel further.
        top, left = (int(np.floor(np.round(values.min(), 6))) for values in (rows, cols))
        bottom, right = (int(np.ceil(np.round(values.max(), 6))) for values in (rows, cols))
        window = Window(top, left, bottom - top, right - left).intersection(Window(0, 0, height, width))
    if window is None:
        raise NoOverlap(
            f"The bounds {_listed(bounds)} lie outside the scene, which covers {_listed(tuple(grid.boundingbox))}"
            f" in {grid.crs or 'pixels'}. Check the order xmin,ymin,xmax,ymax and --bounds-crs."
        )
    return window


def _listed(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:.10g}" for value in values)


def ground_sampling_m(grid: GeoBox) -> float:
    """Side in meters of a square as large on the ground as the pixel at the grid's center; 1 without a CRS.

    Geodesic where map units are not ground units (degrees, Mercator), planar otherwise.
    """
    import math

    from pyproj import Transformer

    a, b, x0, d, e, y0 = tuple(grid.transform)[:6]
    if grid.crs is None:
        return 1.0
    crs = grid.crs.proj
    if not needs_geodesic(crs):
        return math.sqrt(abs(a * e - b * d)) * float(crs.axis_info[0].unit_conversion_factor)
    col, row = grid.shape[1] / 2.0, grid.shape[0] / 2.0
    corners = [(col - 0.5, row - 0.5), (col + 0.5, row - 0.5), (col + 0.5, row + 0.5), (col - 0.5, row + 0.5)]
    x, y = zip(*((a * c + b * r + x0, d * c + e * r + y0) for c, r in corners), strict=True)
    if not crs.is_geographic:
        x, y = Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True).transform(x, y)
    ellipsoid = crs.get_geod()
    assert ellipsoid is not None, "a geographic or projected CRS has an ellipsoid"
    return math.sqrt(abs(ellipsoid.polygon_area_perimeter(x, y)[0]))


def needs_geodesic(crs: CRS) -> bool:
    """Whether lengths and areas in map units are not those on the ground: degrees, or a Mercator of the whole world."""
    if crs.is_geographic:
        return True
    method = crs.coordinate_operation.method_name if crs.coordinate_operation else ""
    return "Mercator" in method and "Transverse" not in method and "Oblique" not in method


def crs_name(crs: Any) -> str:
    """A CRS (odc-geo's or None) in a word: `EPSG:32632`, else its name."""
    if crs is None:
        return "no CRS"
    code = crs.proj.to_authority()
    return ":".join(code) if code else str(crs.proj.name)
