"""What the GDAL that writes polygons can do here; it is another copy than that of the rasters."""

from __future__ import annotations

from typing import Any

import pyogrio

NEEDED = ("GPKG", "GeoJSON", "FlatGeobuf")


def vector_facts() -> dict[str, Any]:
    """Version, and drivers by name (true where they can write)."""
    found = pyogrio.list_drivers(write=True)
    version = ".".join(map(str, pyogrio.__gdal_version__))
    return {"version": version, "drivers": {name: name in found for name in NEEDED}}
