"""Polygons on their way into a file, as a stream of Arrow data: of a map strip by strip, or of a table."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import geopandas
import pyarrow as pa
from pyproj import CRS, Transformer

from mmovseg_geo.polygons.tables import GEOMETRY, SCHEMA, Polygons

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

ROWS_IN_GROUP = 1 << 14
"""Rows that are written together."""


@dataclass(eq=False)
class Layer:
    """Polygons on their way into a file, some at a time.

    Attributes:
        schema: of the rows; geometry is well-known binary.
        geometry: name of its column.
        kinds: of geometries that occur, such as Polygon.
        crs: of the rows.
        rows: gives the rows in a CRS.
        failure: what went wrong while they were made.
    """

    schema: pa.Schema
    geometry: str
    kinds: list[str]
    crs: CRS | None
    rows: Callable[[CRS | None], Iterable[pa.RecordBatch]]
    failure: BaseException | None = field(default=None, init=False)
    _given: list[Generator[pa.RecordBatch | None, None, None]] = field(default_factory=list, init=False)

    @classmethod
    def of(cls, polygons: Iterable[Polygons], grid: GeoBox) -> Layer:
        """Polygons of a map on a grid; they can be gone through once."""
        own = None if grid.crs is None else grid.crs.proj

        def rows(crs: CRS | None) -> Iterator[pa.RecordBatch]:
            if crs == own:
                return (part.batch() for part in polygons)
            place = Transformer.from_crs(own, crs, always_xy=True).transform
            return (part.moved(place).batch() for part in polygons)

        return cls(SCHEMA, GEOMETRY, ["Polygon"], own, rows)

    @classmethod
    def of_frame(cls, polygons: geopandas.GeoDataFrame) -> Layer:
        """The rows of a table."""
        polygons = polygons.copy(deep=False)
        # Notes of the run (paths) stay out of the file.
        polygons.attrs = {}

        def table(crs: CRS | None) -> pa.Table:
            placed = polygons if crs == polygons.crs else polygons.to_crs(crs)
            return pa.table(placed.to_arrow(index=False, geometry_encoding="WKB"))

        name, kinds = polygons.geometry.name, sorted(set(polygons.geom_type.dropna()))
        schema = pa.schema([each.with_type(_plain(each.type)) for each in table(polygons.crs).schema])
        schema = schema.set(schema.get_field_index(name), SCHEMA.field(GEOMETRY).with_name(name))
        return cls(schema, name, kinds, polygons.crs, lambda crs: table(crs).cast(schema).to_batches())

    def reader(self, crs: CRS | None) -> pa.RecordBatchReader:
        """The rows, for libraries that read Arrow's streams, in groups of one size however many are made at a time.

        Files hold traces of the groups (SQLite counts its transactions): so equal polygons give equal bytes.
        """

        def watched() -> Generator[pa.RecordBatch | None, None, None]:
            try:
                yield None
                yield from _in_groups(self.rows(crs))
            except GeneratorExit:
                # The writer stopped asking.
                raise
            except BaseException as error:
                self.failure = error
                raise

        batches = watched()
        # From here on, whatever happens in the generator happens in its `try`, Ctrl-C included.
        next(batches)
        self._given.append(batches)
        return pa.RecordBatchReader.from_batches(self.schema, batches)

    def stop(self) -> None:
        """Make no more rows: a writer that failed leaves a thread behind that reads ahead."""
        for batches in self._given:
            batches.close()


def _in_groups(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        while sum(part.num_rows for part in waiting) >= ROWS_IN_GROUP:
            rows = pa.Table.from_batches(waiting)
            yield from rows.slice(0, ROWS_IN_GROUP).combine_chunks().to_batches()
            waiting = rows.slice(ROWS_IN_GROUP).to_batches()
    if waiting:
        yield from pa.Table.from_batches(waiting).combine_chunks().to_batches()


def _plain(kind: pa.DataType) -> pa.DataType:
    """A type of columns that every format knows: text for columns without any value, values for categories."""
    if pa.types.is_null(kind) or pa.types.is_large_string(kind):
        return pa.string()
    return kind.value_type if pa.types.is_dictionary(kind) else kind
