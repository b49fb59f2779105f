"""Polygons to files: one writer for each suffix, written beside and renamed, equal bytes for equal polygons."""

from __future__ import annotations

import errno
import glob
import json
import os
import sqlite3
import threading
import warnings
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import geopandas
import pyogrio
from pyproj import CRS

from mmovseg_geo.errors import OutputError
from mmovseg_geo.polygons.layer import Layer
from mmovseg_geo.qgis import layer_style_row, polygon_style
from mmovseg_geo.vocabulary import Vocabulary

if TYPE_CHECKING:
    Writer = Callable[[Layer, Path, Vocabulary, Mapping[str, str]], None]

LAYER = "labels"
GPKG_VERSION = "1.2"
"""QGIS 3.22 warns of newer ones."""
FIXED_TIME = "2000-01-01T00:00:00.000Z"
"""Stands where formats want the time of writing, so that equal runs give equal files."""
UNFINISHED = {"OGR_SQLITE_SYNCHRONOUS": "OFF", "OGR_SQLITE_JOURNAL": "OFF"}
"""A file that is not finished is thrown away, so nobody needs what would repair it."""
GEOPARQUET_VERSION = "1.0.0"
WRITING_FAILED = (OSError, sqlite3.Error, pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError)
_PAGE = 4096
"""Bytes that are tried at the end of a file."""


def write_polygons(
    polygons: geopandas.GeoDataFrame,
    path: str | Path,
    *,
    vocabulary: Vocabulary | None = None,
    lco: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> Path:
    """The path of a new file with the polygons; its suffix decides the format (see `WRITERS`).

    A GeoPackage has the layer `labels` and a style by which QGIS names and colors the classes on loading.
    GeoJSON is in longitude and latitude (WGS 84).

    Args:
        vocabulary: names and colors; by default those that `polygonize` left in `.attrs`.
        lco: layer creation options, passed to GDAL untouched.

    Raises:
        OutputError: unknown suffix, existing file without `overwrite`, or a place that cannot be written.
    """
    path = Path(path)
    require_writable(path, overwrite=overwrite)
    words = vocabulary or polygons.attrs.get("vocabulary") or _vocabulary_of(polygons)
    write_layer(Layer.of_frame(polygons), path, words, lco or {})
    return path


def write_layer(layer: Layer, path: Path, vocabulary: Vocabulary, lco: Mapping[str, str]) -> None:
    """Write polygons beside a file, and put them in its place when they are complete.

    Raises:
        OutputError: a place that cannot be written; nothing is left there, and what was there stays.
        Whatever goes wrong while the layer's polygons are made.
    """
    beside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        WRITERS[path.suffix.lower()](layer, beside, vocabulary, lco)
        _require_room_left(beside)
        os.replace(beside, path)
    except Exception as error:
        if layer.failure is not None:
            # Something went wrong with the polygons, which GDAL tells as an error of its own.
            raise layer.failure from None
        if not isinstance(error, WRITING_FAILED):
            raise
        raise OutputError(f"Cannot write {path}: {error}. Check the folder, its permissions and free space.") from error
    finally:
        layer.stop()
        # A GeoPackage's journal and the index that GDAL builds in a file of its own among them.
        for left in path.parent.glob(f"{glob.escape(beside.name)}*"):
            left.unlink(missing_ok=True)


def _require_room_left(path: Path) -> None:
    """Refuse a file whose last bytes may be missing: GDAL does not tell when there was no room for them."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size)
        file.write(bytes(_PAGE))
        file.flush()
        file.truncate(size)


def require_writable(path: Path, *, overwrite: bool) -> None:
    """Check before any work that polygons can be written to a file.

    Raises:
        OutputError: unknown suffix, existing file without `overwrite`, or no such folder.
    """
    if path.suffix.lower() not in WRITERS:
        raise OutputError(f"{path}: unknown suffix {path.suffix!r}. Polygons are written as {', '.join(WRITERS)}.")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists already. Choose another name, or allow replacing it with --overwrite.")
    if not path.parent.is_dir():
        raise OutputError(f"Cannot write {path}: {path.parent} is not a folder. Make it first, or choose another.")


def _vocabulary_of(polygons: geopandas.GeoDataFrame) -> Vocabulary:
    """Classes that occur, in default colors: for frames that lost their `.attrs`."""
    pairs = polygons[["class_id", "class_name"]].drop_duplicates().sort_values("class_id")
    return Vocabulary.from_entries([{"id": number, "name": name} for number, name in pairs.itertuples(index=False)])


class _SettingsOfGdal:
    """Within, GDAL writes `FIXED_TIME` instead of the time, and a file that gets its name when complete in one go.

    These hold for the whole process: the first of the threads that write sets them, the last one puts back what was.
    """

    _lock: ClassVar = threading.Lock()
    _before: ClassVar[dict[str, str | None]] = {}
    _writing: ClassVar = 0

    def __enter__(self) -> None:
        kind = type(self)
        with kind._lock:
            if not kind._writing:
                before = {name: pyogrio.get_gdal_config_option(name) for name in ("OGR_CURRENT_DATE", *UNFINISHED)}
                wanted = {name: value for name, value in UNFINISHED.items() if before[name] is None}
                wanted["OGR_CURRENT_DATE"] = FIXED_TIME
                # What the environment says comes back by itself: set as an option, it would outlive the environment.
                kind._before = {name: None if before[name] == os.environ.get(name) else before[name] for name in wanted}
                pyogrio.set_gdal_config_options(wanted)
            kind._writing += 1

    def __exit__(self, *_: object) -> None:
        kind = type(self)
        with kind._lock:
            kind._writing -= 1
            if not kind._writing:
                pyogrio.set_gdal_config_options(kind._before)


def _write(
    layer: Layer,
    path: Path,
    driver: str,
    lco: Mapping[str, str],
    *,
    crs: CRS | None = None,
    dataset_options: Mapping[str, str] | None = None,
) -> None:
    crs = crs or layer.crs
    with warnings.catch_warnings():
        # A map without a CRS is one on purpose; whoever made it was told.
        warnings.filterwarnings("ignore", message="'crs' was not provided")
        pyogrio.write_arrow(
            layer.reader(crs),
            path,
            layer=LAYER,
            driver=driver,
            geometry_name=layer.geometry,
            geometry_type="Polygon",
            crs=None if crs is None else crs.to_wkt(),
            dataset_options=dict(dataset_options or {}),
            layer_options=dict(lco),
        )


def _write_gpkg(layer: Layer, path: Path, vocabulary: Vocabulary, lco: Mapping[str, str]) -> None:
    with _SettingsOfGdal():
        _write(layer, path, "GPKG", lco, dataset_options={"VERSION": GPKG_VERSION})
    with closing(sqlite3.connect(path)) as database, database:
        if {key.upper(): value for key, value in lco.items()}.get("SPATIAL_INDEX", "YES").upper() in (
            "YES",
            "TRUE",
            "ON",
            "1",
        ):
            _require_index(database)
        _add_style(database, polygon_style(vocabulary))


def _require_index(database: sqlite3.Connection) -> None:
    """Refuse a layer without its spatial index: GDAL does not tell when there was no room for it."""
    (table,) = database.execute(
        "SELECT 'rtree_' || table_name || '_' || column_name FROM gpkg_geometry_columns"
    ).fetchone()
    (rows,) = database.execute(f'SELECT count(*) FROM "{LAYER}"').fetchone()
    try:
        (indexed,) = database.execute(f'SELECT count(*) FROM "{table}_rowid"').fetchone()
    except sqlite3.OperationalError:
        indexed = -1
    if indexed != rows:
        raise OSError(errno.ENOSPC, "the spatial index is incomplete")


def _add_style(database: sqlite3.Connection, qml: str) -> None:
    """Put a style into a GeoPackage, by which QGIS shows the layer as soon as it is opened."""
    (column,) = database.execute(
        "SELECT column_name FROM gpkg_geometry_columns WHERE table_name = ?", (LAYER,)
    ).fetchone()
    row = layer_style_row(LAYER, column, qml, FIXED_TIME)
    database.execute(
        "CREATE TABLE layer_styles (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256), "
        "f_table_schema TEXT(256), f_table_name TEXT(256), f_geometry_column TEXT(256), styleName TEXT(30), "
        "styleQML TEXT, styleSLD TEXT, useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30), "
        "update_time DATETIME)"
    )
    marks = ", ".join("?" * len(row))
    database.execute(f"INSERT INTO layer_styles ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))
    database.execute(
        "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, last_change, srs_id) "
        "VALUES ('layer_styles', 'attributes', 'layer_styles', '', ?, 0)",
        (FIXED_TIME,),
    )


def _write_flatgeobuf(layer: Layer, path: Path, vocabulary: Vocabulary, lco: Mapping[str, str]) -> None:
    _write(layer, path, "FlatGeobuf", lco)


def _write_geojson(layer: Layer, path: Path, vocabulary: Vocabulary, lco: Mapping[str, str]) -> None:
    options = {"RFC7946": "YES", "WRITE_NAME": "NO", "COORDINATE_PRECISION": "8", **lco}
    if layer.crs is None:
        raise OutputError(f"{path.suffix} holds longitudes and latitudes, but the polygons have no CRS. Write .gpkg.")
    _write(layer, path, "GeoJSON", options, crs=CRS(4326))


def _write_parquet(layer: Layer, path: Path, vocabulary: Vocabulary, lco: Mapping[str, str]) -> None:
    from pyarrow.parquet import ParquetWriter

    if lco:
        raise OutputError("GeoParquet takes no layer creation options (--lco); leave them out or write .gpkg or .fgb.")
    column = {
        "encoding": "WKB",
        "geometry_types": layer.kinds,
        "crs": None if layer.crs is None else layer.crs.to_json_dict(),
    }
    about = {"version": GEOPARQUET_VERSION, "primary_column": layer.geometry, "columns": {layer.geometry: column}}
    schema = layer.schema.with_metadata({"geo": json.dumps(about)})
    with ParquetWriter(path, schema) as writer:
        for batch in layer.reader(layer.crs):
            writer.write_batch(batch)


WRITERS: dict[str, Writer] = {
    ".gpkg": _write_gpkg,
    ".fgb": _write_flatgeobuf,
    ".parquet": _write_parquet,
    ".geojson": _write_geojson,
}
