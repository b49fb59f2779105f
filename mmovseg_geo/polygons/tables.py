"""Complete regions as rows of a table: class, area, confidence, pixels and a polygon on the map."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import geopandas
import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from mmovseg_geo.polygons.corners import columns_of, rows_of
from mmovseg_geo.polygons.rings import spread
from mmovseg_geo.polygons.stream import Regions
from mmovseg_geo.polygons.strips import MapStrips

if TYPE_CHECKING:
    from affine import Affine

GEOMETRY = "geometry"
SCHEMA = pa.schema(
    [
        ("class_id", pa.int32()),
        ("class_name", pa.string()),
        ("area_m2", pa.float64()),
        ("confidence", pa.float64()),
        ("n_pixels", pa.int64()),
        # Offsets of eight bytes: one polygon may take more than two gigabytes.
        pa.field(GEOMETRY, pa.large_binary(), metadata={"ARROW:extension:name": "geoarrow.wkb"}),
    ]
)

_LITTLE_ENDIAN, _POLYGON = 1, 3


@dataclass(frozen=True, eq=False)
class Polygons:
    """Rows of the table, their outlines as ragged arrays.

    Attributes:
        class_id, class_name, area_m2, confidence, n_pixels: (n,) columns; a confidence that is not known is NaN.
        points: (m, 2) x and y on the map; the last of a ring repeats the first.
        ring_ends: (rings + 1,) where rings begin and end in `points`.
        polygon_ends: (n + 1,) where polygons begin and end in the rings; the first ring is the shell.
    """

    class_id: NDArray[np.int32]
    class_name: NDArray[Any]
    area_m2: NDArray[np.float64]
    confidence: NDArray[np.float64]
    n_pixels: NDArray[np.int64]
    points: NDArray[np.float64]
    ring_ends: NDArray[np.int64]
    polygon_ends: NDArray[np.int64]

    @classmethod
    def of(cls, regions: Regions, strips: MapStrips) -> Polygons:
        """Rows of complete regions of a map."""
        counts, known = regions.counts, regions.counts.known
        confidence = np.full(len(known), np.nan)
        np.divide(counts.confidence * strips.confidence_unit, known, out=confidence, where=known > 0)
        points, ring_ends = _closed(regions, strips.grid.affine)
        return cls(
            strips.class_ids[regions.codes].astype(np.int32),
            strips.class_names[regions.codes],
            counts.ground * strips.ground.unit,
            confidence.round(2),
            counts.pixels.astype(np.int64),
            points,
            ring_ends,
            np.append(regions.shells, len(regions.rings.lengths)),
        )

    def moved(self, place: Callable[..., Any]) -> Polygons:
        """The same rows, with points at `place(x, y)`."""
        return replace(self, points=np.stack(place(self.points[:, 0], self.points[:, 1]), axis=1))

    def shapes(self) -> NDArray[Any]:
        """(n,) shapely polygons."""
        if not len(self.class_id):
            return np.empty(0, object)
        kind = shapely.GeometryType.POLYGON
        return np.asarray(shapely.from_ragged_array(kind, self.points, (self.ring_ends, self.polygon_ends)))

    def batch(self) -> pa.RecordBatch:
        """The rows as Arrow data of `SCHEMA`."""
        offsets, octets = self._wkb()
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(octets)]
        columns = [
            pa.array(self.class_id),
            pa.array(self.class_name, pa.string()),
            pa.array(self.area_m2),
            pa.array(self.confidence, from_pandas=True),
            pa.array(self.n_pixels),
            pa.Array.from_buffers(pa.large_binary(), len(self.class_id), buffers),
        ]
        return pa.record_batch(columns, schema=SCHEMA)

    def _wkb(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Well-known binary of all polygons, one after the other, and where each begins and ends.

        Of a polygon: a byte for the order of bytes, kind and number of rings; of each ring the number of its points
        and the points. All are placed at once, without an object for each.
        """
        sizes, rings = np.diff(self.ring_ends), np.diff(self.polygon_ends)
        shells = self.polygon_ends[:-1]
        header = np.zeros(len(sizes), np.int64)
        header[shells] = 9
        starts = np.append(0, np.cumsum(header + 4 + 16 * sizes))
        octets = np.empty(starts[-1], np.uint8)
        is_point = np.ones(len(octets), bool)
        openings = np.empty((len(shells), 9), np.uint8)
        openings[:, 0] = _LITTLE_ENDIAN
        openings[:, 1:5] = np.array([_POLYGON], "<u4").view(np.uint8)
        openings[:, 5:] = rings.astype("<u4").view(np.uint8).reshape(-1, 4)
        counts = sizes.astype("<u4").view(np.uint8).reshape(-1, 4)
        for places, values in ((starts[shells], openings), (starts[:-1] + header, counts)):
            at = places[:, None] + np.arange(values.shape[1])
            is_point[at], octets[at] = False, values
        octets[is_point] = self.points.astype("<f8").view(np.uint8).ravel()
        return np.append(starts[shells], len(octets)), octets


def frame(rows: Iterable[Polygons], strips: MapStrips) -> geopandas.GeoDataFrame:
    """All rows as one table."""
    parts = list(rows)
    names = SCHEMA.names[:-1]
    empty = {"class_id": np.int32, "class_name": object, "area_m2": float, "confidence": float, "n_pixels": np.int64}
    columns = {
        name: np.concatenate([np.empty(0, empty[name]), *(getattr(part, name) for part in parts)]) for name in names
    }
    shapes = np.concatenate([np.empty(0, object), *(part.shapes() for part in parts)])
    crs = None if strips.grid.crs is None else strips.grid.crs.proj
    return geopandas.GeoDataFrame(columns, geometry=shapes, crs=crs)


def _closed(regions: Regions, affine: Affine) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Points of rings on the map, each ring closed, and where rings begin and end in them."""
    rings = regions.rings
    ends = np.append(0, np.cumsum(rings.lengths + 1))
    at = spread(rings.starts, rings.lengths + 1)
    at[ends[1:] - 1] = rings.starts
    column, row = columns_of(rings.corners).astype(float), rows_of(rings.corners).astype(float)
    x = affine.a * column + affine.b * row + affine.c
    y = affine.d * column + affine.e * row + affine.f
    return np.stack([x[at], y[at]], axis=1), ends
