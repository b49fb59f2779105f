"""Labels drawn as polygons, lines or points, burned on a pixel grid window by window."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas
import numpy as np
import pyogrio
import shapely
from pyogrio.errors import DataLayerError, DataSourceError
from rasterio.features import rasterize

from mmovseg_geo.errors import ConfigError, MissingCRS, NoOverlap, SceneError, a_few
from mmovseg_geo.grid import Window, crs_name

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from odc.geo.geobox import GeoBox

SUFFIXES = (".gpkg", ".geojson", ".json", ".fgb", ".parquet", ".shp")
CLASS_FIELDS = ("class_name", "class_id", "class", "label")
"""Fields that hold the class where nobody says which does; the first two are those of our own polygons."""
FILL = 255
MARGIN_SHARE = 0.05
"""Of the grid's size, by which the area that is read is wider: edges bend when they change CRS."""

IndexOf = Callable[[Any], int | None]
"""The class index (below 255) of a value of the class field; 255 for one that is not scored, None for no class."""


class BurnedLabels:
    """Shapes with a class index each, on a grid. A pixel has the class of the last shape that holds its center."""

    def __init__(
        self, path: Path, grid: GeoBox, shapes: NDArray[Any], indices: NDArray[np.uint8], outside: int
    ) -> None:
        self.path, self.grid, self.outside = path, grid, outside
        self._shapes, self._indices = shapes, indices
        self._tree = shapely.STRtree(shapes)

    def read(self, window: Window) -> NDArray[np.uint8]:
        """Class indices (H, W) of a window of the grid."""
        here = self.grid[window.slices]
        near = np.sort(self._tree.query(shapely.box(*here.boundingbox.bbox)))
        if not len(near):
            return np.full(window.shape, self.outside, np.uint8)
        pairs = [(self._shapes[at], int(self._indices[at])) for at in near]
        burned: NDArray[np.uint8] = rasterize(
            pairs, out_shape=window.shape, fill=self.outside, transform=here.affine, dtype="uint8"
        )
        return burned


def burned_labels(
    path: Path,
    grid: GeoBox,
    index_of: IndexOf,
    *,
    field: str | None = None,
    inside: int | None = None,
    outside: int = FILL,
) -> BurnedLabels:
    """The labels of a vector file on a grid.

    Args:
        field: holds the class; by default one of `CLASS_FIELDS`.
        inside: class index of all shapes, whose fields are not looked at then.
        outside: class index of pixels in no shape; 255 is not scored.

    Raises:
        SceneError: a file that cannot be read, without a CRS, without shapes in the grid, or with an unknown class.
        ConfigError: no such field.

    >>> burned_labels(Path("parcels.gpkg"), grid, {"crop": 0}.get).read(Window(0, 0, 512, 512))  # doctest: +SKIP
    """
    if grid.crs is None:
        raise MissingCRS(f"The map has no coordinate reference system, so {path} cannot be laid on it.")
    frame = _read(path, grid)
    if frame.crs is None:
        raise MissingCRS(f"{path} has no coordinate reference system. Assign one, such as EPSG:4326.")
    if inside is None:
        field = _class_field(frame, path, field)
    frame = frame[~(frame.geometry.is_empty | frame.geometry.isna())].to_crs(grid.crs.to_wkt())
    reached = frame[frame.intersects(grid.extent.geom)] if len(frame) else frame
    if not len(reached):
        raise NoOverlap(
            f"No shape of {path} ({crs_name_of(frame)}) lies on the map, which covers "
            f"{', '.join(f'{value:.10g}' for value in grid.boundingbox)} in {crs_name(grid.crs)}.\n"
            "  Check that both show the same place and that their coordinate systems are the true ones."
        )
    if inside is not None:
        indices = np.full(len(reached), inside, np.uint8)
    else:
        assert field is not None, "a field was found above"
        indices = _indices(reached[field].tolist(), index_of, path, field)
    return BurnedLabels(path, grid, reached.geometry.to_numpy(), indices, outside)


def class_values(path: Path, field: str | None = None) -> list[str]:
    """What the class field of a vector file holds, each value once, sorted; see `burned_labels` for the arguments.

    Raises:
        SceneError: a file that cannot be read. ConfigError: no such field, or nothing in it.
    """
    frame = _frame(path)
    field = _class_field(frame, path, field)
    values = [str(value).strip() for value in frame[field].tolist() if value == value and value is not None]
    found = sorted({value for value in values if value})
    if not found:
        raise ConfigError(f"{path}: no shape has a value in the field {field!r}. Name another one with --class-field.")
    return found


def _indices(values: list[Any], index_of: IndexOf, path: Path, field: str) -> NDArray[np.uint8]:
    table = {value: index_of(value) for value in dict.fromkeys(values) if value == value}
    unknown = [value for value, index in table.items() if index is None]
    if unknown:
        count = sum(value in unknown for value in values)
        raise SceneError(
            f"{path}: the field {field!r} holds {a_few(map(repr, unknown))} ({count} shapes), which is no class of the "
            "list.\n  Add it to the classes (--classes-file), or name the field of the class with --class-field."
        )
    # A missing value (None or NaN, which is not itself) is a shape that nobody labelled.
    return np.array([table[value] if value == value and value is not None else FILL for value in values], np.uint8)


def _class_field(frame: geopandas.GeoDataFrame, path: Path, field: str | None) -> str:
    fields = [name for name in frame.columns if name != frame.geometry.name]
    if field is not None and field in fields:
        return field
    known = next((name for name in CLASS_FIELDS if name in fields), None)
    if field is None and known is not None:
        return known
    what = f"has no field {field!r}" if field is not None else "does not tell which field holds the class"
    raise ConfigError(
        f"{path} {what}; it has: {', '.join(fields) or 'none'}.\n"
        "  Name one with --class-field; or give all shapes one class with --inside."
    )


def _read(path: Path, grid: GeoBox) -> geopandas.GeoDataFrame:
    assert grid.crs is not None, "only a grid with a place on Earth is burned"
    box = grid.boundingbox
    margin = MARGIN_SHARE * max(box.span_x, box.span_y)
    return _frame(path, geopandas.GeoSeries([shapely.box(*box.bbox).buffer(margin)], crs=grid.crs.to_wkt()))


def _frame(path: Path, area: geopandas.GeoSeries | None = None) -> geopandas.GeoDataFrame:
    """The shapes of a file; of most formats only those near an area are read."""
    try:
        if path.suffix.lower() == ".parquet":
            return geopandas.read_parquet(path)
        # Only the place of a file with a CRS can be compared with that of the area.
        placed = area is not None and pyogrio.read_info(path)["crs"] is not None
        return geopandas.read_file(path, bbox=area if placed else None)
    except ImportError as error:
        raise ConfigError(f"{path}: GeoParquet needs pyarrow, which is not installed: pip install pyarrow.") from error
    except (DataSourceError, DataLayerError, OSError, ValueError) as error:
        raise SceneError(
            f"{path}: cannot be read ({error}). Check that it is a vector file that QGIS opens."
        ) from error


def crs_name_of(frame: geopandas.GeoDataFrame) -> str:
    """The CRS of a frame in a word."""
    code = frame.crs.to_authority()
    return ":".join(code) if code else str(frame.crs.name)
