"""What every object of a scene looks like: one row of color and backscatter for each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mmovseg_geo.simulate.canvas import Canvas
from mmovseg_geo.simulate.land_covers import INDEX, LAND_COVERS
from mmovseg_geo.simulate.noise import Field

GRAINS = (1, 4, 16)
WATER = ("lake", "river", "sea", "flood water")
BUILT = (
    "tiled roof", "gray roof", "metal roof", "industrial building", "greenhouse",
    "pavement", "parking lot", "car", "ship", "solar panels", "construction site",
)  # fmt: skip
SEASONAL = (
    "broadleaf forest", "tree", "shrubland", "grassland", "wetland", "cereal field", "maize field", "vegetable field",
    "pasture", "orchard", "vineyard", "park", "rice paddy",
)  # fmt: skip
# What is one object per lot in fine pictures is seen without the walls: those answer by themselves, in `sar`.
ROOFS = ("tiled roof", "gray roof", "metal roof", "industrial building")


@dataclass(frozen=True)
class Appearance:
    """Tables over objects: reflectance (N, 3), backscatter in dB (N, 2), textures (N, grains), height in meters."""

    rgb: Field
    db: Field
    texture: Field
    height_m: Field


@lru_cache(maxsize=1)
def _tables() -> dict[str, np.ndarray]:
    return {
        "rgb": np.array([c.rgb for c in LAND_COVERS], np.float32),
        "other": np.array([c.rgb_other for c in LAND_COVERS], np.float32),
        "db": np.array([(c.vv_db, c.vh_db) for c in LAND_COVERS], np.float32),
        "spread": np.array([c.spread_db for c in LAND_COVERS], np.float32),
        "grain": np.array([c.grain_m for c in LAND_COVERS], np.float32),
        "contrast": np.array([c.contrast for c in LAND_COVERS], np.float32),
        "height": np.array([c.height_m for c in LAND_COVERS], np.float32),
        "built": _flags(BUILT),
        "roof": _flags(ROOFS),
        "water": _flags(WATER),
        "seasonal": _flags(SEASONAL),
    }


def _flags(names: tuple[str, ...]) -> np.ndarray:
    flags = np.zeros(len(LAND_COVERS), bool)
    flags[[INDEX[name] for name in names]] = True
    return flags


def appear(canvas: Canvas) -> Appearance:
    """Draw the looks of all objects: land covers differ from scene to scene, objects within a scene a little less."""
    rng, setting = canvas.rng, canvas.setting
    table = _tables()
    cover = np.array(canvas.covers, np.int64)
    kinds, n = len(LAND_COVERS), len(cover)
    built = table["built"]
    toward = np.where(table["seasonal"], setting.dryness + 0.25 * rng.standard_normal(kinds), rng.random(kinds))
    toward = np.where(table["water"], setting.mud + 0.1 * rng.standard_normal(kinds), toward)
    drawn = toward[cover] + np.where(built, 0.45, 0.16)[cover] * rng.standard_normal(n)
    between = np.clip(drawn, -0.15, 1.2)[:, None]
    rgb = np.maximum(table["rgb"][cover] * (1 - between) + table["other"][cover] * between, 0.004)
    scene_tint = np.exp(0.12 * rng.standard_normal((kinds, 1)) + 0.05 * rng.standard_normal((kinds, 3)))
    object_tint = np.where(built, 0.16, 0.07)[cover][:, None] * rng.standard_normal((n, 1)) + np.where(
        built, 0.05, 0.035
    )[cover][:, None] * rng.standard_normal((n, 3))
    return Appearance(
        (rgb * scene_tint[cover] * np.exp(object_tint)).astype(np.float32),
        _backscatter(canvas, cover),
        _textures(canvas, cover),
        _heights(canvas, cover),
    )


def _backscatter(canvas: Canvas, cover: np.ndarray) -> Field:
    rng, setting, table = canvas.rng, canvas.setting, _tables()
    kinds, n = len(LAND_COVERS), len(cover)
    common = rng.standard_normal((kinds, 1)) + 0.5 * rng.standard_normal((kinds, 2))
    own = rng.standard_normal((n, 1)) + 0.4 * rng.standard_normal((n, 2))
    spread = table["spread"][:, None]
    # Wind roughens water: most in VV, and at steep incidence.
    wind = table["water"][:, None] * setting.wind * np.array([[9.0, 3.0]])
    wind[INDEX["flood water"]] *= 0.5
    # Steeper looks are brighter, mostly over smooth ground; gamma0 removes most of it elsewhere.
    wind = wind + table["water"][:, None] * (37 - setting.incidence) * 0.12
    scene = table["db"] + 0.75 * spread * common + wind + 0.7 * rng.standard_normal()
    fine = float(np.clip(1.3 - canvas.gsd_m / 6, 0, 1))
    scene = scene - 5.0 * fine * table["roof"][:, None]
    return np.asarray(scene[cover] + 0.7 * spread[cover] * own, np.float32)


def _textures(canvas: Canvas, cover: np.ndarray) -> Field:
    """Amplitude of each texture grain: that of the land cover's grain, less where it is finer than a pixel."""
    table = _tables()
    grain = table["grain"] / np.float32(canvas.gsd_m)
    level = np.log2(np.maximum(grain, 1.0)) / 2
    steps = np.arange(len(GRAINS), dtype=np.float32)
    weight = np.exp(-((np.minimum(level[:, None], steps[-1]) - steps) ** 2) / 1.2)
    weight /= np.sqrt((weight**2).sum(axis=1, keepdims=True))
    # Finer than a pixel it averages out; coarser than the picture shows it is a slow drift.
    seen = np.minimum(1, grain) ** 0.7 * np.minimum(1, 32 / grain) ** 0.5
    amplitude = table["contrast"] * seen * canvas.rng.uniform(0.7, 1.4, len(grain))
    return np.asarray((weight * amplitude[:, None])[cover], np.float32)


def _heights(canvas: Canvas, cover: np.ndarray) -> Field:
    factor = np.exp(0.2 * canvas.rng.standard_normal(len(cover)))
    return np.asarray(_tables()["height"][cover] * factor, np.float32)
