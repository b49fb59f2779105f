"""Small rasters written for one test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp

UTM = "EPSG:32632"
TEN_METERS = Affine(10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0)


@pytest.fixture
def raster(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes (N, H, W) pixels as a GeoTIFF and returns its path."""

    def write(name: str, pixels: Any, **options: Any) -> Path:
        pixels = np.asarray(pixels)
        descriptions, colors = options.pop("descriptions", None), options.pop("colors", None)
        tags, colormap, mask = options.pop("tags", {}), options.pop("colormap", None), options.pop("mask", None)
        scales, offsets, gcps = options.pop("scales", None), options.pop("offsets", None), options.pop("gcps", None)
        profile = {"crs": UTM, "transform": TEN_METERS, "driver": "GTiff", **options}
        if gcps is not None:
            del profile["transform"]
        count, height, width = pixels.shape
        path = tmp_path / name
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(path, "w", count=count, height=height, width=width, dtype=pixels.dtype, **profile) as dataset,
        ):
            if gcps is not None:
                dataset.gcps = (gcps, profile["crs"])
            if colors:
                dataset.colorinterp = [ColorInterp[color] for color in colors]
            dataset.write(pixels)
            dataset.update_tags(**tags)
            for band, text in enumerate(descriptions or (), 1):
                dataset.set_band_description(band, text)
            if scales:
                dataset.scales, dataset.offsets = scales, offsets
            if colormap:
                dataset.write_colormap(1, colormap)
            if mask is not None:
                dataset.write_mask(mask)
        return path

    return write


@pytest.fixture
def rgb() -> np.ndarray[Any, Any]:
    """(3, 64, 64) uint8 of which no two neighbors are equal; never 0."""
    return np.random.default_rng(1).integers(1, 255, (3, 64, 64)).astype(np.uint8)


@pytest.fixture
def decibels() -> np.ndarray[Any, Any]:
    """(2, 64, 64) float32 like VV and VH."""
    random = np.random.default_rng(2)
    return np.stack([random.normal(-11, 3, (64, 64)), random.normal(-18, 3, (64, 64))]).astype(np.float32)
