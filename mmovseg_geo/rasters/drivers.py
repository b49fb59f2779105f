"""What the GDAL that reads and writes rasters can do here."""

from __future__ import annotations

from typing import Any

import rasterio
from pyproj import CRS, Transformer
from pyproj.exceptions import ProjError

NEEDED = ("GTiff", "COG", "VRT")
"""Without these nothing works; the others open further products."""
USEFUL = ("JP2OpenJPEG", "netCDF", "HFA", "ENVI", "Zarr")


def gdal_facts() -> dict[str, Any]:
    """Versions, drivers by name (true where present), and whether coordinates can be transformed."""
    with rasterio.Env() as environment:
        found = environment.drivers()
    return {
        "version": rasterio.__gdal_version__,
        "proj": rasterio.__proj_version__,
        "drivers": {name: name in found for name in (*NEEDED, *USEFUL)},
        "transforms": _transforms(),
    }


def _transforms() -> bool:
    """Whether PROJ finds its data base: a broken PROJ_DATA fails here."""
    try:
        east, _ = Transformer.from_crs(CRS.from_epsg(4326), CRS.from_epsg(32633), always_xy=True).transform(15.0, 50.0)
    except ProjError:
        return False
    return bool(abs(east - 500000) < 1)
