"""Pixels of a raster as they are stored: no scaling, no validity, no colors of a palette."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window as RasterWindow

from mmovseg_geo.grid import Window
from mmovseg_geo.rasters.source import opened, probe, reading


def stored_pixels(path: Path, window: Window | None = None) -> NDArray[Any]:
    """Every band of a file, (N, H, W) in its own data type, without an alpha band; bool where it holds one bit a pixel.

    Args:
        window: inside the file; by default all of it.

    Raises:
        SceneError: missing, or not a raster that can be read.
    """
    facts = probe(str(path))
    bands = [band for band in range(1, facts.count + 1) if band != facts.alpha] or [1]
    with reading(str(path)), opened(str(path)) as dataset:
        area = None if window is None else RasterWindow(window.col, window.row, window.width, window.height)
        pixels: NDArray[Any] = dataset.read(bands, window=area)
        one_bit = dataset.tags(bands[0], ns="IMAGE_STRUCTURE").get("NBITS") == "1"
    return pixels.astype(np.bool_) if one_bit else pixels
