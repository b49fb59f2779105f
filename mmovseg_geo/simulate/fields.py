"""Farmland: parcels in blocks, tracks and hedges between them, and the few things that lie in parcels."""

from __future__ import annotations

import numpy as np

from mmovseg_geo.simulate.canvas import Canvas, Mask
from mmovseg_geo.simulate.noise import HASH_SIZE, Field, cells, floored, fractal, quantile

CROPS = {
    "cereal field": 3.0,
    "maize field": 2.0,
    "plowed field": 2.6,
    "stubble field": 1.2,
    "pasture": 1.8,
    "vegetable field": 1.0,
    "rapeseed field": 0.6,
    "rice paddy": 0.4,
    "orchard": 0.4,
    "vineyard": 0.35,
    "bare soil": 0.5,
    "grassland": 0.5,
    "greenhouse": 0.08,
    "solar panels": 0.10,
    "quarry": 0.04,
    "lake": 0.06,
    "construction site": 0.03,
}
PARCELS = 256


def crop_mix(rng: np.random.Generator) -> dict[str, float]:
    """The crops of one scene: a few are common, most are rare; now and then one region grows a single thing."""
    weights = {name: share * float(rng.gamma(0.5)) + share * 0.02 for name, share in CROPS.items()}
    if rng.random() < 0.2:
        special = str(rng.choice(["rice paddy", "orchard", "vineyard", "greenhouse", "solar panels", "rapeseed field"]))
        weights[special] = sum(weights.values()) * rng.uniform(0.2, 0.9)
    return weights


def paint_fields(canvas: Canvas) -> None:
    """Turn a share of the land into parcels."""
    rng, gsd = canvas.rng, canvas.gsd_m
    share = canvas.setting.farm
    size = float(np.clip(canvas.extent_m * np.exp(rng.normal(-2.2, 0.5)), 18, rng.uniform(150, 900)))
    zone = np.ones(canvas.shape, bool)
    if share < 0.95:
        suited = fractal(rng, canvas.shape, canvas.feature_m(80, 6000) / gsd, 2.4)
        zone = suited > quantile(suited, 1 - share)
    if rng.random() < 0.6:
        zone &= ~canvas.is_cover("broadleaf forest", "coniferous forest")
    u, v = canvas.rotated(rng.uniform(0, np.pi))
    if rng.random() < 0.5:
        u = canvas.bent(u, size * 4, size * rng.uniform(0.1, 0.7))
    block = size * rng.uniform(1.5, 4)
    jitter = rng.choice([0.0, 0.5, 0.9])
    blocks, _, border = cells(rng, u / np.float32(block), v / np.float32(block * rng.uniform(0.6, 1.6)), jitter)
    strips, edge = _strips(canvas, blocks, size)
    parcel = (blocks * 37 + strips) % PARCELS
    first = canvas.add_choice(crop_mix(rng), PARCELS)
    if rng.random() < 0.3:
        # Rounder parcels leave wild corners.
        zone &= border * block > rng.uniform(0, 0.08) * size
    canvas.paint(zone, first + parcel)
    _paint_borders(canvas, zone, border * np.float32(block), edge)
    _paint_within(canvas, zone, parcel)


def _strips(canvas: Canvas, blocks: np.ndarray, size: float) -> tuple[np.ndarray, Field]:
    """Every block is cut into strips of its own direction and width: strip number, and meters to the strip's edge."""
    rng = canvas.rng
    turn = rng.choice([0.0, 0.3, 3.0])
    angles = (rng.uniform(0, np.pi) + turn * (rng.random(HASH_SIZE) - 0.5)).astype(np.float32)
    widths = (size * np.exp(rng.normal(0, 0.5, HASH_SIZE))).astype(np.float32)
    known = blocks % HASH_SIZE
    angle, width = angles[known], widths[known]
    across = (canvas.y * np.cos(angle) - canvas.x * np.sin(angle)) / width
    strips = floored(across)
    within = across - strips
    return strips, np.minimum(within, 1 - within) * width


def _paint_borders(canvas: Canvas, zone: Mask, block_m: Field, strip_m: Field) -> None:
    """Tracks between blocks, hedges or grass between strips; what is narrower than a pixel is laid on thinly."""
    rng = canvas.rng
    for distance, names, chance in (
        (strip_m, ("tree", "grassland", "shrubland", "bare soil"), 0.35),
        (block_m, ("dirt road", "asphalt road", "tree", "grassland"), 0.6),
    ):
        if rng.random() < chance:
            width = rng.uniform(1.5, 9)
            lay_band(canvas, str(rng.choice(names)), distance, width, zone)


def lay_band(canvas: Canvas, name: str, distance: Field, width_m: float, where: Mask) -> None:
    """Paint what is within half a width of a line; a band narrower than a pixel covers only part of its pixels."""
    gsd = canvas.gsd_m
    inside = (distance < max(width_m, gsd) / 2) & where
    if width_m >= 0.7 * gsd:
        canvas.paint(inside, canvas.add(name))
    elif width_m > 0.1 * gsd:
        canvas.thin.append((canvas.add(name), inside * np.float32(width_m / gsd)))


def _paint_within(canvas: Canvas, zone: Mask, parcel: np.ndarray) -> None:
    """Furrows, worn patches and lone trees in the parcels."""
    rng, gsd = canvas.rng, canvas.gsd_m
    angles = rng.uniform(0, np.pi, PARCELS).astype(np.float32)
    angle = angles[parcel]
    for spacing in (rng.uniform(0.6, 2.5), rng.uniform(12, 40)):
        if spacing < 2.5 * gsd:
            continue
        phase = (canvas.x * np.cos(angle) + canvas.y * np.sin(angle)) * np.float32(2 * np.pi / spacing)
        depth = (rng.random(PARCELS).astype(np.float32) ** 2 * 0.14)[parcel]
        canvas.shade *= np.where(zone, 1 + depth * np.sin(phase), 1)
    if rng.random() < 0.4 and gsd < 12:
        spacing = rng.uniform(25, 90)
        ids, distance, _ = cells(rng, canvas.x / np.float32(spacing), canvas.y / np.float32(spacing))
        crown = (distance * spacing < rng.uniform(2.5, 7)) & (ids % 3 == 0) & zone
        canvas.paint(crown, canvas.add("tree", each=8) + ids % 8)
