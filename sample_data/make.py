"""Writes the simulated sample scene beside this file: `python sample_data/make.py`.

Optical at 5 m with a bank of clouds, SAR at 10 m over a slightly larger area, and the truth the scene was made from.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin

from mmovseg_geo.simulate import LAND_COVERS, Setting, SimulatedScene, add_clouds, simulate

SEED = 9
CLOUD_SEED = 68
SIZE = 768
MARGIN = 32
GSD_M = 5.0
WEST, NORTH = 452_000.0, 5_412_000.0
# 8-bit quicklooks brighten the ground: full white at this reflectance.
WHITE = 0.26
TAGS = {"SIMULATED": "yes", "SOURCE": "mmovseg sample scene, invented by mmovseg_geo.simulate; no real place"}

VALLEY = Setting(
    water=0.10, river=65.0, forest=0.34, farm=0.75, town=0.20, arid=0.0, snow=0.0, flood=0.0, coast=False,
    dryness=0.40, mud=0.30, wind=0.05, relief=0.04,
    sun_azimuth=2.6, sun_elevation=0.85, look_azimuth=1.6, incidence=38.0,
)  # fmt: skip


def scene(seed: int = SEED) -> SimulatedScene:
    """The sample scene at 5 m, with a margin that only the SAR keeps."""
    side = SIZE + 2 * MARGIN
    clear = simulate((side, side), gsd_m=GSD_M, seed=seed, setting=VALLEY)
    rng = np.random.default_rng(CLOUD_SEED)
    optical, cloud = add_clouds(clear.optical, rng, cover=0.16, thick=0.9, gsd_m=GSD_M)
    return replace(clear, optical=optical, cloud=cloud)


def rasters(made: SimulatedScene) -> dict[str, np.ndarray]:
    """File stem to pixels: 8-bit RGB, SAR in dB averaged to 10 m, labels."""
    inner = slice(MARGIN, -MARGIN)
    rgb = np.rint(np.clip(made.optical[:, inner, inner] / WHITE, 0, 1) * 255).astype(np.uint8)
    power = 10 ** (made.sar.astype(np.float64) / 10)
    bands, height, width = power.shape
    power = power.reshape(bands, height // 2, 2, width // 2, 2).mean(axis=(2, 4))
    # Steps of 1/16 dB are far below speckle and compress well.
    sar = (np.rint(10 * np.log10(power) * 16) / 16).astype(np.float32)
    return {"scene_rgb": rgb, "scene_sar": sar, "scene_labels": made.labels[None, inner, inner]}


def write(folder: Path, made: dict[str, np.ndarray]) -> None:
    """Write the three GeoTIFFs of the sample scene."""
    common: dict[str, Any] = {"driver": "GTiff", "crs": "EPSG:32633", "compress": "DEFLATE", "zlevel": 9, "tiled": True}
    pad = MARGIN * GSD_M
    grids = {
        "scene_rgb": from_origin(WEST, NORTH, GSD_M, GSD_M),
        "scene_sar": from_origin(WEST - pad, NORTH + pad, 2 * GSD_M, 2 * GSD_M),
        "scene_labels": from_origin(WEST, NORTH, GSD_M, GSD_M),
    }
    for stem, pixels in made.items():
        count, height, width = pixels.shape
        profile = {"count": count, "height": height, "width": width, "dtype": pixels.dtype, "transform": grids[stem]}
        profile |= {"predictor": 3 if stem == "scene_sar" else 2}
        if stem == "scene_rgb":
            profile |= {"photometric": "RGB"}
        with rasterio.open(folder / f"{stem}.tif", "w", **common, **profile) as target:
            target.write(pixels)
            target.update_tags(**TAGS)
            if stem == "scene_rgb":
                target.colorinterp = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
            if stem == "scene_sar":
                target.descriptions = ("VV", "VH")
            if stem == "scene_labels":
                target.descriptions = ("land cover",)
                target.update_tags(CLASSES="|".join(cover.name for cover in LAND_COVERS))


if __name__ == "__main__":
    write(Path(__file__).parent, rasters(scene(int(sys.argv[1]) if len(sys.argv) > 1 else SEED)))
