"""Large two-sensor scenes on disk, made from one simulated block repeated, so that any size is quick to write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

from mmovseg_geo.simulate import simulate

BLOCK = 1024
GSD_M = 10.0


def make_scene(folder: Path, height: int, width: int) -> tuple[Path, Path]:
    """Paths of an 8-bit optical and a dB float32 SAR GeoTIFF of `height` x `width` pixels, made once."""
    optical, sar = folder / f"scene_{height}x{width}_rgb.tif", folder / f"scene_{height}x{width}_sar.tif"
    if optical.exists() and sar.exists():
        return optical, sar
    folder.mkdir(parents=True, exist_ok=True)
    block = simulate((BLOCK, BLOCK), gsd_m=GSD_M, seed=7, clouds=0.1)
    rgb = np.clip(block.optical / 0.3 * 255, 1, 255).astype(np.uint8)
    _write(optical, rgb, height, width, dtype="uint8")
    _write(sar, block.sar.astype(np.float32), height, width, dtype="float32")
    return optical, sar


def make_sparse_scene(folder: Path, height: int, width: int) -> Path:
    """Path of an 8-bit optical GeoTIFF that holds data (a picture) in the first of each ten blocks down and across."""
    path = folder / f"sparse_{height}x{width}_rgb.tif"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    picture = simulate((BLOCK, BLOCK), gsd_m=GSD_M, seed=7).optical[:, :512, :512]
    rgb = np.clip(picture / 0.3 * 255, 1, 255).astype(np.uint8)
    profile = _profile("uint8", 3, height, width) | {"compress": "DEFLATE", "nodata": 0, "sparse_ok": True}
    with rasterio.open(path, "w", **profile) as target:
        for row in range(0, height - 512, 5120):
            for col in range(0, width - 512, 5120):
                target.write(rgb, window=rasterio.windows.Window(col, row, 512, 512))
    return path


def _profile(dtype: str, count: int, height: int, width: int) -> dict[str, object]:
    return {
        "driver": "GTiff",
        "dtype": dtype,
        "count": count,
        "height": height,
        "width": width,
        "crs": "EPSG:32633",
        "transform": from_origin(300000, 5300000, GSD_M, GSD_M),
        "tiled": True,
        "blockxsize": 512,
        "blockysize": 512,
        "bigtiff": "IF_SAFER",
    }


def _write(path: Path, block: np.ndarray, height: int, width: int, *, dtype: str) -> None:
    profile = _profile(dtype, len(block), height, width)
    across = np.tile(block, (1, 1, -(-width // BLOCK)))[:, :, :width]
    with rasterio.open(path, "w", **profile) as target:
        for row in range(0, height, BLOCK):
            rows = min(BLOCK, height - row)
            target.write(across[:, :rows], window=rasterio.windows.Window(0, row, width, rows))
        if dtype == "float32":
            target.descriptions = ("VV", "VH")
