"""Large two-sensor scenes on disk, those of `mmovseg benchmark`, and sparse ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

from mmovseg_geo.benchmark.scene import BLOCK, BRIGHTEST, GSD_M, make_scene
from mmovseg_geo.simulate import simulate

__all__ = ["make_scene", "make_sparse_scene"]


def make_sparse_scene(folder: Path, height: int, width: int) -> Path:
    """Path of an 8-bit optical GeoTIFF that holds data (a picture) in the first of each ten blocks down and across."""
    path = folder / f"sparse_{height}x{width}_rgb.tif"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    picture = simulate((BLOCK, BLOCK), gsd_m=GSD_M, seed=7).optical[:, :512, :512]
    rgb = np.clip(picture / BRIGHTEST * 255, 1, 255).astype(np.uint8)
    profile = {
        "driver": "GTiff",
        "dtype": "uint8",
        "count": 3,
        "height": height,
        "width": width,
        "crs": "EPSG:32633",
        "transform": from_origin(300000, 5300000, GSD_M, GSD_M),
        "tiled": True,
        "blockxsize": 512,
        "blockysize": 512,
        "bigtiff": "IF_SAFER",
        "compress": "DEFLATE",
        "nodata": 0,
        "sparse_ok": True,
    }
    with rasterio.open(path, "w", **profile) as target:
        for row in range(0, height - 512, 5120):
            for col in range(0, width - 512, 5120):
                target.write(rgb, window=rasterio.windows.Window(col, row, 512, 512))
    return path
