"""Settlements and roads: streets in blocks, buildings on lots, trees and cars; areas of houses at coarse resolution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmovseg_geo.simulate.canvas import Canvas, Mask
from mmovseg_geo.simulate.fields import lay_band
from mmovseg_geo.simulate.noise import HASH_SIZE, Field, Ints, cells, floored, fractal, hashed, quantile, texture

HOUSES_BELOW_M = 6.0
CARS_BELOW_M = 0.7
ROOFS = 192
ROAD_WIDTHS = {"asphalt road": (6.0, 9.0, 22.0), "dirt road": (2.5, 4.0, 5.5), "railway": (5.0, 9.0, 12.0)}
LOT_KEYS = 1 << 16
WALL_M = 2.0


@dataclass(frozen=True)
class District:
    """How one kind of quarter is built; lengths in meters, `fill` the share of a lot's sides a building takes."""

    lot: tuple[float, float]
    block_lots: tuple[int, int]
    fill: tuple[float, float]
    height: tuple[float, float]
    tilt: float
    empty: float
    street: tuple[float, float]
    trees: float
    roofs: tuple[str, ...]
    grounds: tuple[str, ...]
    area: str


DISTRICTS: dict[str, District] = {
    "houses": District(
        (15, 32), (3, 7), (0.40, 0.68), (4, 8), 0.10, 0.10, (5, 9), 0.45,
        ("tiled roof", "gray roof", "tiled roof", "metal roof"), ("park", "grassland", "park", "bare soil", "pavement"),
        "residential area",
    ),
    "center": District(
        (12, 28), (2, 6), (0.70, 1.0), (7, 18), 0.02, 0.06, (8, 16), 0.12,
        ("gray roof", "tiled roof", "gray roof"), ("pavement", "pavement", "park"), "city center",
    ),
    "informal": District(
        (6, 13), (3, 9), (0.70, 0.98), (2.5, 5), 0.25, 0.08, (2.5, 6), 0.10,
        ("metal roof", "metal roof", "metal roof", "gray roof"), ("bare soil", "dirt road"), "residential area",
    ),
    "apartments": District(
        (35, 70), (1, 3), (0.22, 0.75), (9, 20), 0.05, 0.15, (8, 14), 0.4,
        ("gray roof",), ("park", "pavement", "parking lot"), "city center",
    ),
    "industry": District(
        (40, 140), (1, 3), (0.50, 0.88), (6, 14), 0.02, 0.15, (8, 18), 0.05,
        ("industrial building", "industrial building", "gray roof"),
        ("pavement", "parking lot", "pavement", "construction site"),
        "residential area",
    ),
    "farmsteads": District(
        (50, 160), (1, 3), (0.12, 0.35), (4, 9), 0.3, 0.55, (3, 6), 0.4,
        ("tiled roof", "metal roof", "gray roof", "industrial building"), ("park", "grassland", "pasture"),
        "residential area",
    ),
}  # fmt: skip


def paint_towns(canvas: Canvas) -> None:
    """Build up a share of the land, in one to three kinds of quarters."""
    rng = canvas.rng
    share = canvas.setting.town
    suited = fractal(rng, canvas.shape, canvas.feature_m(60, 2500) / canvas.gsd_m, 2.6)
    left = suited > quantile(suited, 1 - share)
    left &= ~canvas.is_cover("lake", "sea", "river", "ice", "beach", "wetland", "asphalt road", "railway", "bridge")
    weights = np.array([0.34, 0.13, 0.16, 0.12, 0.17, 0.08])
    kinds = rng.choice(list(DISTRICTS), int(rng.integers(1, 4)), p=weights)
    split = fractal(rng, canvas.shape, canvas.feature_m(60, 1500) / canvas.gsd_m, 2.6)
    for k, kind in enumerate(kinds):
        here = left & (split < quantile(split, (k + 1) / len(kinds)))
        left &= ~here
        if here.any():
            _build(canvas, DISTRICTS[str(kind)], here)


def _build(canvas: Canvas, district: District, zone: Mask) -> None:
    rng, gsd = canvas.rng, canvas.gsd_m
    u, v = canvas.rotated(rng.uniform(0, np.pi))
    if rng.random() < 0.5:
        u = canvas.bent(u, 500, rng.uniform(5, 50))
    lot = rng.uniform(*district.lot)
    deep = lot * rng.uniform(0.8, 1.4)
    street = rng.uniform(*district.street)
    across = int(rng.integers(*district.block_lots, endpoint=True))
    along = int(rng.integers(1, 3))
    size_u, size_v = across * lot + street, along * deep + street
    block_u, block_v = np.floor(u / size_u), np.floor(v / size_v)
    in_u, in_v = u - block_u * size_u - street / 2, v - block_v * size_v - street / 2
    to_street = np.minimum(np.minimum(in_u, size_u - street - in_u), np.minimum(in_v, size_v - street - in_v))
    paved = "dirt road" if rng.random() < (0.75 if district.roofs[0] == "metal roof" else 0.1) else "asphalt road"
    if gsd > HOUSES_BELOW_M:
        _paint_area(canvas, district, zone, block_u, block_v)
        streets = (np.abs(to_street) < gsd / 2) & zone
        canvas.thin.append((canvas.add(paved), streets * np.float32(min(0.6, street / gsd / 2))))
        if district.lot[1] < 100 or gsd > 16:
            return
    else:
        ground = canvas.add(*[str(name) for name in rng.choice(district.grounds, 8)])
        canvas.paint(zone, ground + hashed(floored(block_u), floored(block_v)) % 8)
    i = floored(block_u * across + np.clip(np.floor(in_u / lot), 0, across - 1))
    j = floored(block_v * along + np.clip(np.floor(in_v / deep), 0, along - 1))
    p = in_u - np.floor(in_u / lot) * lot - lot / 2
    q = in_v - np.floor(in_v / deep) * deep - deep / 2
    lots = hashed(i, j)
    built = _whole(zone & (to_street >= 0) & ~(canvas.height > WALL_M), to_street >= 0, lots)
    if gsd <= HOUSES_BELOW_M:
        canvas.paint((to_street < 0) & zone, canvas.add(paved))
        if gsd < 1.5:
            canvas.paint((to_street >= 0) & (to_street < 1.6) & zone, canvas.add("pavement"))
            _paint_cars(canvas, u, v, (to_street < -0.2) & zone, 0.10)
        _paint_trees(canvas, district.trees, zone & (to_street > -1.5))
    _paint_roofs(canvas, district, built, lots % HASH_SIZE, (p, q, lot, deep))


def _whole(zone: Mask, ground: Mask, lots: Ints) -> Mask:
    """Lots that lie in the zone for the most part, so that no building is cut by its border."""
    keys = lots & (LOT_KEYS - 1)
    inside = np.bincount(keys.ravel(), weights=zone.ravel(), minlength=LOT_KEYS)
    total = np.bincount(keys.ravel(), weights=ground.ravel(), minlength=LOT_KEYS)
    return np.asarray((inside > 0.7 * total)[keys] & ground)


def _paint_area(canvas: Canvas, district: District, zone: Mask, block_u: Field, block_v: Field) -> None:
    """Where houses are smaller than pixels: one mixed surface, brighter and darker from block to block."""
    first = canvas.add(district.area, each=16)
    if district.lot[1] >= 100:
        first = canvas.add("pavement", "industrial building", "parking lot", "pavement", each=4)
    canvas.paint(zone, first + hashed(floored(block_u), floored(block_v)) % 16)


def _paint_roofs(
    canvas: Canvas, district: District, zone: Mask, lots: Ints, place: tuple[Field, Field, float, float]
) -> None:
    """One building on each lot: a rectangle or an L, turned a little, with a ridge and a height of its own."""
    rng = canvas.rng
    p, q, lot, deep = place
    random = rng.random((8, HASH_SIZE), dtype=np.float32)
    half_p = (np.float32(lot / 2) * (district.fill[0] + random[0] * (district.fill[1] - district.fill[0])))[lots]
    half_q = (np.float32(deep / 2) * (district.fill[0] + random[1] * (district.fill[1] - district.fill[0])))[lots]
    p = p - (random[2][lots] - 0.5) * (lot - 2 * half_p)
    q = q - (random[3][lots] - 0.5) * (deep - 2 * half_q)
    tilt = ((random[4] - 0.5) * np.float32(2 * district.tilt))[lots]
    p, q = p + q * tilt, q - p * tilt
    inside = (np.abs(p) < half_p) & (np.abs(q) < half_q) & zone
    notch = (random[5][lots] < 0.35) & (p > half_p * 0.1) & (q > half_q * 0.15)
    inside &= ~notch & (random[6][lots] > district.empty)
    first = canvas.add(*[str(name) for name in rng.choice(district.roofs, ROOFS)])
    low, high = district.height
    canvas.paint(inside, first + lots % ROOFS)
    np.copyto(canvas.height, (low + random[7] ** 2 * (high - low)).astype(np.float32)[lots], where=inside)
    # A gable: one side of the ridge faces the sun; the ridge runs along the longer side.
    side = np.where(half_p > half_q, q, p)
    slope = np.float32(rng.choice([0.04, 0.12, 0.22]))
    np.copyto(canvas.shade, np.where(side > 0, 1 + slope, 1 - slope), where=inside)


def _paint_trees(canvas: Canvas, share: float, where: Mask) -> None:
    rng = canvas.rng
    spacing = np.float32(rng.uniform(6, 13))
    ids, distance, _ = cells(rng, canvas.x / spacing, canvas.y / spacing, 0.9)
    radius = (rng.random(HASH_SIZE, dtype=np.float32) * 0.35 + 0.15)[ids % HASH_SIZE]
    distance = distance + np.float32(0.05) * texture(rng, canvas.shape, 4)
    crowns = (distance < radius) & (ids % 100 < share * 100) & where
    canvas.paint(crowns, canvas.add("tree", each=16) + ids % 16)
    dome = 1 - (distance / radius) ** 2
    np.copyto(canvas.height, dome * np.float32(rng.uniform(4, 10)), where=crowns)
    np.copyto(canvas.shade, 0.7 + 0.5 * dome, where=crowns)


def _paint_cars(canvas: Canvas, u: Field, v: Field, where: Mask, share: float) -> None:
    if canvas.gsd_m > CARS_BELOW_M:
        return
    i, j = floored(u / 6.0), floored(v / 2.8)
    ids = hashed(i, j)
    inside = (np.abs(u / 6.0 - i - 0.5) < 0.37) & (np.abs(v / 2.8 - j - 0.5) < 0.32)
    canvas.paint(inside & (ids % 100 < share * 100) & where, canvas.add("car", each=32) + ids % 32)


def paint_roads(canvas: Canvas) -> None:
    """Roads, tracks and railways across the country; over water the paved ones become bridges."""
    rng, gsd = canvas.rng, canvas.gsd_m
    water = canvas.is_cover("lake", "sea", "river", "ice")
    for _ in range(int(rng.poisson(np.clip(canvas.extent_m / 900, 0.5, 2.2)))):
        name = str(rng.choice(["asphalt road", "dirt road", "railway"], p=[0.55, 0.33, 0.12]))
        width = float(rng.choice(ROAD_WIDTHS[name]))
        along, across = canvas.rotated(rng.uniform(0, np.pi))
        if rng.random() < 0.6:
            wavelength = max(canvas.extent_m, 500.0)
            across = canvas.bent(across, wavelength, rng.uniform(0.02, 0.2) * wavelength)
        distance = np.abs(across - quantile(across, rng.uniform(0.1, 0.9)))
        if canvas.extent_m < 8 * width and rng.random() < 0.5:
            continue
        lay_band(canvas, name, distance, width, ~water)
        if name != "dirt road" and width >= 0.7 * gsd:
            canvas.paint((distance < width / 2) & water, canvas.add("bridge"))
        if gsd < 1.0 and name == "asphalt road":
            _paint_cars(canvas, along, across, (distance < width / 2 - 0.5) & ~water, 0.05)
