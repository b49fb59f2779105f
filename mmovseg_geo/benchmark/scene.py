"""Two-sensor scenes on disk, made from one simulated block repeated, so that any size is quick to write."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmovseg_geo.rasters.plain import write_plain
from mmovseg_geo.simulate import simulate

BLOCK = 1024
GSD_M = 10.0
BRIGHTEST = 0.3
"""Reflectance that becomes white."""


def make_scene(folder: Path, height: int, width: int) -> tuple[Path, Path]:
    """Paths of an 8-bit optical and a dB float32 SAR GeoTIFF of `height` x `width` pixels, made once."""
    from affine import Affine
    from odc.geo.geobox import GeoBox

    optical, sar = folder / f"scene_{height}x{width}_rgb.tif", folder / f"scene_{height}x{width}_sar.tif"
    if optical.exists() and sar.exists():
        return optical, sar
    folder.mkdir(parents=True, exist_ok=True)
    block = simulate((min(BLOCK, height), min(BLOCK, width)), gsd_m=GSD_M, seed=7, clouds=0.1)
    rgb = np.clip(block.optical / BRIGHTEST * 255, 1, 255).astype(np.uint8)
    grid = GeoBox((height, width), Affine(GSD_M, 0, 300000, 0, -GSD_M, 5300000), "EPSG:32633")
    write_plain(optical, _strips(rgb, height, width), grid)
    write_plain(sar, _strips(block.sar.astype(np.float32), height, width), grid, descriptions=("VV", "VH"))
    return optical, sar


def _strips(block: NDArray[Any], height: int, width: int) -> Iterator[NDArray[Any]]:
    rows, cols = block.shape[1:]
    across = np.tile(block, (1, 1, -(-width // cols)))[:, :, :width]
    for row in range(0, height, rows):
        yield across[:, : min(rows, height - row)]
