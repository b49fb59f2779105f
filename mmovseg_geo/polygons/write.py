"""Polygons to files: one writer for each suffix, written beside and renamed, equal bytes for equal polygons."""

from __future__ import annotations

import importlib.util
import os
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import geopandas
import pyogrio

from mmovseg_geo.errors import OutputError
from mmovseg_geo.qgis import layer_style_row, polygon_style
from mmovseg_geo.vocabulary import Vocabulary

if TYPE_CHECKING:
    Writer = Callable[[geopandas.GeoDataFrame, Path, Vocabulary, Mapping[str, str]], None]

LAYER = "labels"
GPKG_VERSION = "1.2"
"""QGIS 3.22 warns of newer ones."""
FIXED_TIME = "2000-01-01T00:00:00.000Z"
"""Stands where formats want the time of writing, so that equal runs give equal files."""


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
    writer = WRITERS[path.suffix.lower()]
    words = vocabulary or polygons.attrs.get("vocabulary") or _vocabulary_of(polygons)
    frame = polygons.copy(deep=False)
    # Notes of the run (paths) stay out of the file.
    frame.attrs = {}
    beside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        writer(frame, beside, words, lco or {})
        os.replace(beside, path)
    except (OSError, sqlite3.Error, pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise OutputError(f"Cannot write {path}: {error}. Check the folder, its permissions and free space.") from error
    finally:
        for left in (beside, beside.with_name(f"{beside.name}-journal")):
            left.unlink(missing_ok=True)
    return path


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


@contextmanager
def _fixed_clock() -> Iterator[None]:
    """GDAL writes `FIXED_TIME` instead of the time."""
    before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": FIXED_TIME})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": before})


def _write(
    polygons: geopandas.GeoDataFrame,
    path: Path,
    driver: str,
    lco: Mapping[str, str],
    dataset_options: Mapping[str, str] | None = None,
) -> None:
    with warnings.catch_warnings():
        # A map without a CRS is one on purpose; whoever made it was told.
        warnings.filterwarnings("ignore", message="'crs' was not provided")
        pyogrio.write_dataframe(
            polygons,
            path,
            layer=LAYER,
            driver=driver,
            geometry_type="Polygon",
            dataset_options=dict(dataset_options or {}),
            layer_options=dict(lco),
        )


def _write_gpkg(polygons: geopandas.GeoDataFrame, path: Path, vocabulary: Vocabulary, lco: Mapping[str, str]) -> None:
    with _fixed_clock():
        _write(polygons, path, "GPKG", lco, {"VERSION": GPKG_VERSION})
    _add_style(path, polygon_style(vocabulary))


def _add_style(path: Path, qml: str) -> None:
    """Put a style into a GeoPackage, by which QGIS shows the layer as soon as it is opened."""
    with closing(sqlite3.connect(path)) as database, database:
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


def _write_flatgeobuf(
    polygons: geopandas.GeoDataFrame, path: Path, vocabulary: Vocabulary, lco: Mapping[str, str]
) -> None:
    _write(polygons, path, "FlatGeobuf", lco)


def _write_geojson(
    polygons: geopandas.GeoDataFrame, path: Path, vocabulary: Vocabulary, lco: Mapping[str, str]
) -> None:
    options = {"RFC7946": "YES", "WRITE_NAME": "NO", "COORDINATE_PRECISION": "8", **lco}
    if polygons.crs is None:
        raise OutputError(f"{path.suffix} holds longitudes and latitudes, but the polygons have no CRS. Write .gpkg.")
    _write(polygons.to_crs(4326), path, "GeoJSON", options)


def _write_parquet(
    polygons: geopandas.GeoDataFrame, path: Path, vocabulary: Vocabulary, lco: Mapping[str, str]
) -> None:
    if importlib.util.find_spec("pyarrow") is None:
        raise OutputError("GeoParquet needs pyarrow: pip install pyarrow, or write .gpkg or .fgb.")
    if lco:
        raise OutputError("GeoParquet takes no layer creation options (--lco); leave them out or write .gpkg or .fgb.")
    polygons.to_parquet(path, index=False)


WRITERS: dict[str, Writer] = {
    ".gpkg": _write_gpkg,
    ".fgb": _write_flatgeobuf,
    ".parquet": _write_parquet,
    ".geojson": _write_geojson,
}
