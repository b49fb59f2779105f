"""A plain tiled GeoTIFF from strips of rows, as other programs write them: for scenes that are invented, and rivals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.windows import Window as RasterWindow

from mmovseg_geo.rasters.cog import BLOCK, writing
from mmovseg_geo.rasters.source import opened

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox


def write_plain(
    path: Path,
    strips: Iterable[NDArray[Any]],
    grid: GeoBox,
    *,
    descriptions: Sequence[str] = (),
    compress: str | None = None,
) -> None:
    """Write bands (N, h, W), strip after strip; the first tells their number and data type.

    Raises:
        OutputError: it cannot be written.
    """
    height, width = (int(side) for side in grid.shape)
    dataset: Any = None
    with writing(path):
        try:
            row = 0
            for strip in strips:
                if dataset is None:
                    dataset = opened(
                        str(path),
                        "w",
                        driver="GTiff",
                        count=len(strip),
                        dtype=np.dtype(strip.dtype).name,
                        height=height,
                        width=width,
                        crs=None if grid.crs is None else CRS.from_wkt(grid.crs.to_wkt()),
                        transform=grid.transform,
                        tiled=True,
                        blockxsize=BLOCK,
                        blockysize=BLOCK,
                        compress=compress,
                        bigtiff="IF_SAFER",
                    )
                dataset.write(strip, window=RasterWindow(0, row, width, strip.shape[1]))
                row += strip.shape[1]
            if dataset is not None and descriptions:
                dataset.descriptions = tuple(descriptions)
        finally:
            if dataset is not None:
                dataset.close()
