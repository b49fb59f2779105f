"""Single places: runways, parking lots, solar farms, sports fields, quarries, pools."""

from __future__ import annotations

import numpy as np

from mmovseg_geo.simulate.canvas import Canvas
from mmovseg_geo.simulate.noise import cells, fractal

# name: (shortest, longest side in meters, narrowest, widest as a share of the length, weight)
SITES: dict[str, tuple[float, float, float, float, float]] = {
    "runway": (900, 3000, 0.02, 0.04, 0.8),
    "parking lot": (30, 160, 0.4, 0.9, 1.2),
    "solar panels": (60, 900, 0.4, 1.0, 1.2),
    "greenhouse": (30, 300, 0.3, 0.9, 0.9),
    "sports field": (40, 110, 0.55, 0.7, 1.0),
    "construction site": (40, 250, 0.5, 1.0, 0.8),
    "industrial building": (40, 220, 0.3, 0.8, 1.0),
    "swimming pool": (6, 25, 0.4, 0.6, 0.6),
    "quarry": (80, 900, 0.6, 1.0, 0.8),
    "salt flat": (150, 2000, 0.5, 1.0, 0.4),
    "lake": (20, 500, 0.4, 1.0, 1.0),
}
ROUND = ("quarry", "salt flat", "lake")


def paint_sites(canvas: Canvas) -> None:
    """Lay up to three sites, of sizes that show in this picture, on dry land."""
    rng, gsd = canvas.rng, canvas.gsd_m
    longest, shortest = canvas.extent_m * 1.5, gsd * 6
    fitting = [name for name, (low, high, *_) in SITES.items() if low < longest and high > shortest]
    if not fitting:
        return
    weights = np.array([SITES[name][4] for name in fitting])
    count = min(int(rng.poisson(0.45 if canvas.extent_m < 300 else 1.1)), 4)
    for name in rng.choice(fitting, count, p=weights / weights.sum()):
        _paint_site(canvas, str(name))


def _paint_site(canvas: Canvas, name: str) -> None:
    rng, gsd = canvas.rng, canvas.gsd_m
    low, high, narrow, wide, _ = SITES[name]
    length = rng.uniform(max(low, gsd * 6), max(min(high, canvas.extent_m * 0.8), low * 1.05, gsd * 7))
    width = max(length * rng.uniform(narrow, wide), 2 * gsd)
    u, v = canvas.rotated(rng.uniform(0, np.pi))
    row, col = (int(rng.integers(0, n)) for n in canvas.shape)
    u, v = u - u[row, col], v - v[row, col]
    if name in ROUND:
        radius = np.hypot(u / length, v / width) + 0.07 * fractal(rng, canvas.shape, length / gsd / 2, 2.2)
        inside = radius < 0.5
    else:
        inside = (np.abs(u) < length / 2) & (np.abs(v) < width / 2)
    inside &= ~canvas.is_cover("lake", "sea", "river", "ice", "asphalt road", "dirt road", "railway", "bridge")
    canvas.paint(inside, canvas.add(name))
    if name == "solar panels" and gsd < 3:
        pitch = rng.uniform(4, 9)
        canvas.paint(inside & (v / pitch % 1 > rng.uniform(0.45, 0.7)), canvas.add("grassland"))
    if name == "greenhouse" and gsd < 3:
        canvas.shade *= np.where(inside, 1 + 0.15 * np.sign(np.sin(v * np.float32(2 * np.pi / 8))), 1)
    if name == "industrial building" and gsd < 3:
        ids, _, _ = cells(rng, u / 12, v / 9, 0.0)
        vents = inside & (np.abs(u / 12 % 1 - 0.5) < 0.12) & (np.abs(v / 9 % 1 - 0.5) < 0.1)
        canvas.shade *= np.where(vents, np.float32(rng.choice([0.6, 1.4])), 1)
        np.copyto(canvas.height, np.float32(rng.uniform(6, 14)), where=inside)
    if name == "parking lot" and gsd < 0.7:
        bay = (np.abs(u / 2.7 % 1 - 0.5) < 0.34) & (np.abs(v / 5.5 % 1 - 0.5) < 0.40)
        ids, _, _ = cells(rng, u / 2.7, v / 5.5, 0.0)
        canvas.paint(inside & bay & (ids % 10 < 5), canvas.add("car", each=32) + ids % 32)
