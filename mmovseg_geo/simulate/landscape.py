"""Nature: terrain, water, forests, grass, rock, snow, and floods on top of everything."""

from __future__ import annotations

import numpy as np

from mmovseg_geo.simulate.canvas import Canvas, Mask
from mmovseg_geo.simulate.noise import Field, cells, fractal, quantile, ragged, texture

STANDS = 6
NEVER_FLOODED = (
    "tiled roof", "gray roof", "metal roof", "industrial building", "bridge", "tree",
    "lake", "sea", "river", "snow", "ice",
)  # fmt: skip
CROWNS_BELOW_M = 3.0


def paint_nature(canvas: Canvas) -> None:
    """Cover all ground by moisture, height and season."""
    rng, setting, gsd = canvas.rng, canvas.setting, canvas.gsd_m
    wavelength = canvas.feature_m(40, 4000) / gsd
    detail = rng.uniform(0.0, 0.08)
    moisture = ragged(rng, fractal(rng, canvas.shape, wavelength, rng.uniform(1.9, 2.5)), detail)
    kind = ragged(rng, fractal(rng, canvas.shape, wavelength * 0.6, rng.uniform(1.8, 2.6)), detail)
    other = ragged(rng, fractal(rng, canvas.shape, wavelength * 0.4, 2.2), detail)
    stand = (other > 0.5) + 2 * (other < -0.5) + 3 * (kind > 0).astype(np.int32)
    ground = _ground(setting.arid, rng)
    canvas.paint(np.ones(canvas.shape, bool), canvas.add(*ground[:1], each=STANDS) + stand)
    canvas.paint(kind > quantile(kind, rng.uniform(0.55, 0.9)), canvas.add(ground[1], each=STANDS) + stand)
    if setting.relief > 0.1 and rng.random() < 0.7:
        ridges = canvas.terrain + 0.3 * canvas.terrain.std() * kind
        canvas.paint(ridges > quantile(ridges, rng.uniform(0.75, 0.95)), canvas.add("rock", each=STANDS) + stand)
    if setting.forest > 0.02:
        forest = moisture > quantile(moisture, 1 - setting.forest)
        conifers = kind > quantile(kind, rng.choice([0.05, 0.5, 0.95]))
        canvas.paint(forest & ~conifers, canvas.add("broadleaf forest", each=STANDS) + stand)
        canvas.paint(forest & conifers, canvas.add("coniferous forest", each=STANDS) + stand)
        edge = quantile(moisture, 1 - setting.forest)
        shrubs = (moisture > edge - rng.uniform(0.05, 0.5)) & ~forest & (kind > 0)
        canvas.paint(shrubs, canvas.add("shrubland", each=STANDS) + stand)
        if rng.random() < 0.06:
            burned = forest & (kind < quantile(kind, rng.uniform(0.2, 0.6)))
            canvas.paint(burned, canvas.add("burned area", each=STANDS) + stand)
    if setting.snow > 0:
        snow = canvas.terrain + 0.2 * kind * canvas.terrain.std()
        covered = (snow > quantile(snow, 1 - setting.snow)) & ~canvas.is_cover("coniferous forest")
        canvas.paint(covered, canvas.add("snow", each=STANDS) + stand)


def _ground(arid: float, rng: np.random.Generator) -> tuple[str, str]:
    if rng.random() < arid:
        names = ["desert", "bare soil", "rock", "shrubland", "salt flat"]
        first = str(rng.choice(names, p=[0.35, 0.3, 0.12, 0.15, 0.08]))
        return first, str(rng.choice(["bare soil", "shrubland", "rock", "desert"]))
    first = str(rng.choice(["grassland", "shrubland", "pasture", "bare soil"], p=[0.6, 0.15, 0.2, 0.05]))
    return first, str(rng.choice(["grassland", "shrubland", "bare soil"]))


def paint_water(canvas: Canvas) -> None:
    """Sea or lakes where the terrain is low, a river across it, beaches and wetlands beside them."""
    rng, setting, gsd = canvas.rng, canvas.setting, canvas.gsd_m
    terrain = canvas.terrain
    spread = float(terrain.std()) + 1e-6
    if setting.water > 0:
        level = quantile(terrain, setting.water)
        rough = ragged(rng, terrain, rng.uniform(0.0, 0.03) * spread)
        water = rough < level
        _paint_shore(canvas, rough, level, spread)
        name = "sea" if setting.coast else "ice" if setting.snow > 0.5 and rng.random() < 0.5 else "lake"
        canvas.paint(water, canvas.add(name))
        if name != "ice":
            _paint_depth(canvas, water, (level - rough) / np.float32(spread))
        if name != "ice" and rng.random() < 0.2 and gsd < 12:
            _paint_ships(canvas, water)
    if setting.river > 0:
        _paint_river(canvas)


def _paint_shore(canvas: Canvas, rough: Field, level: float, spread: float) -> None:
    rng = canvas.rng
    if rng.random() < (0.85 if canvas.setting.coast else 0.3):
        canvas.paint(rough < level + spread * rng.uniform(0.05, 0.5), canvas.add("beach"))
    if rng.random() < (0.2 if canvas.setting.coast else 0.45):
        wet = rough < level + spread * rng.uniform(0.1, 0.8)
        name = "flooded forest" if rng.random() < 0.35 else "wetland"
        patches = ragged(rng, fractal(rng, canvas.shape, 60, 1.8), 0.2) > rng.uniform(-0.5, 0.8)
        canvas.paint(wet & patches, canvas.add(name))


def _paint_depth(canvas: Canvas, water: Mask, depth: Field) -> None:
    """Shallow water is brighter, and waves break white along open coasts."""
    rng = canvas.rng.spawn(1)[0]
    light = 1 + np.float32(rng.exponential(0.5)) * np.exp(-np.maximum(depth, 0) / np.float32(rng.uniform(0.05, 0.5)))
    if canvas.setting.coast and rng.random() < 0.6:
        lines = ragged(rng, fractal(rng, canvas.shape, 24, 1.8), 0.3)
        surf = (lines > 1.0) & (depth < rng.uniform(0.05, 0.25))
        light += np.where(surf, np.float32(rng.uniform(0.8, 3.5)), 0)
    np.copyto(canvas.shade, light.astype(np.float32), where=water)


def _paint_ships(canvas: Canvas, water: Mask) -> None:
    rng = canvas.rng
    length = rng.uniform(12, 60)
    along, across = canvas.rotated(rng.uniform(0, np.pi))
    ids, _, _ = cells(rng, along / (length * 3), across / (length * 3), 0.0)
    u = np.abs(along / (length * 3) % 1 - 0.5) * length * 3
    v = np.abs(across / (length * 3) % 1 - 0.5) * length * 3
    afloat = (ids % 97 < 6) & (u < length / 2) & (v < length / 9 * (1.2 - u / length)) & water
    canvas.paint(afloat, canvas.add("ship", each=8) + ids % 8)


def _paint_river(canvas: Canvas) -> None:
    rng, gsd = canvas.rng, canvas.gsd_m
    width = canvas.setting.river
    _, across = canvas.rotated(rng.uniform(0, np.pi))
    across = canvas.bent(across, canvas.extent_m, 0.25 * canvas.extent_m * rng.random())
    across = canvas.bent(across, width * rng.uniform(6, 14), width * rng.uniform(0, 1.5))
    across -= quantile(across, rng.uniform(0.15, 0.85))
    south, east = np.gradient(across, gsd)
    # Dividing by the slope turns the bent coordinate into a distance from the middle of the river, in meters.
    distance = np.abs(across) / np.maximum(np.hypot(south, east), 0.3)
    if rng.random() < 0.5:
        banks = ragged(rng, distance, 0.1 * width) < width * rng.uniform(0.6, 1.3)
        names = ["beach", "shrubland", "broadleaf forest", "wetland", "grassland"]
        canvas.paint(banks, canvas.add(str(rng.choice(names))))
    canvas.paint(distance < width / 2, canvas.add("river"))


def paint_flood(canvas: Canvas) -> None:
    """Muddy water over low ground, whatever is there; forests and buildings stand out of it."""
    rng, setting = canvas.rng, canvas.setting
    spread = float(canvas.terrain.std()) + 1e-6
    uneven = fractal(rng, canvas.shape, canvas.feature_m(30, 800) / canvas.gsd_m, 2.0)
    surface = canvas.terrain + 0.25 * spread * ragged(rng, uneven, 0.1)
    under = surface < quantile(surface, setting.flood)
    trees = canvas.is_cover("broadleaf forest", "coniferous forest", "shrubland")
    canvas.paint(under & ~trees & ~canvas.is_cover(*NEVER_FLOODED), canvas.add("flood water"))
    canvas.paint(under & trees, canvas.add("flooded forest"))


def paint_crowns(canvas: Canvas) -> None:
    """At fine resolution: forests become crowns with gaps, orchards become rows of trees."""
    if canvas.gsd_m > CROWNS_BELOW_M:
        return
    rng = canvas.rng
    forest = canvas.is_cover("broadleaf forest", "coniferous forest", "flooded forest", "tree")
    if forest.any():
        size = rng.uniform(4, 9)
        _, distance, border = cells(rng, canvas.x / np.float32(size), canvas.y / np.float32(size), 0.9)
        dome = np.clip(1 - distance**2 * 1.4, 0.1, 1)
        leaves = 1 + np.float32(0.12) * texture(rng, canvas.shape, 4)
        top = np.where(border < 0.04, 0.6, 1) * dome * rng.uniform(8, 22)
        np.copyto(canvas.height, top.astype(np.float32), where=forest)
        np.copyto(canvas.shade, (0.5 + 0.65 * dome) * leaves, where=forest)
    groves = canvas.is_cover("orchard", "vineyard", "shrubland")
    if groves.any():
        spacing = rng.uniform(3.5, 8)
        along, across = canvas.rotated(rng.uniform(0, np.pi))
        _, distance, _ = cells(rng, along / np.float32(spacing), across / np.float32(spacing), rng.choice([0.1, 0.9]))
        crown = np.clip(1.2 - distance * 3, 0, 1)
        np.copyto(canvas.height, crown * 3, where=groves)
        np.copyto(canvas.shade, 1.25 - 0.7 * np.minimum(crown * 3, 1) * (1.1 - crown), where=groves)
