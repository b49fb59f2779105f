"""One simulated scene from a seed: setting, painting, two sensors."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mmovseg_geo.simulate import optical, sar
from mmovseg_geo.simulate.appearance import appear
from mmovseg_geo.simulate.canvas import Canvas, Setting
from mmovseg_geo.simulate.clouds import cloud_layer, lay_clouds
from mmovseg_geo.simulate.fields import paint_fields
from mmovseg_geo.simulate.landscape import paint_crowns, paint_flood, paint_nature, paint_water
from mmovseg_geo.simulate.noise import Field, fractal
from mmovseg_geo.simulate.sites import paint_sites
from mmovseg_geo.simulate.towns import paint_roads, paint_towns

# Fields need some pixels to vary in: smaller scenes are cut from one of this side.
SMALLEST = 16


@dataclass(frozen=True)
class SimulatedScene:
    """What the sensors saw and what was there.

    `optical` (3, H, W) is reflectance 0..1 with clouds on it; `sar` (2, H, W) is VV and VH in dB, speckled; `labels`
    (H, W) are indices into `LAND_COVERS`; `cloud` and `shadow` (H, W) are the opacity of clouds and their shadows,
    0..1; `shift` says by how many (rows, cols) the SAR content is displaced against the optical one.
    """

    optical: Field
    sar: Field
    labels: NDArray[np.uint8]
    cloud: Field
    shadow: Field
    gsd_m: float
    shift: tuple[float, float]


def simulate(
    shape: tuple[int, int], *, gsd_m: float, seed: int, clouds: float = 0.0, misregistration: float = 0.0,
    setting: Setting | None = None,
) -> SimulatedScene:  # fmt: skip
    """Invent a scene of `shape` (height, width) with pixels of `gsd_m` meters; the same seed gives the same bytes.

    `clouds` is the share of pixels that clouds reach; `misregistration` the largest displacement of the SAR content, in
    pixels. Labels follow the optical picture and ignore clouds. Without a `setting`, the seed draws one.

    >>> scene = simulate((256, 256), gsd_m=10.0, seed=1, clouds=0.3)
    """
    if min(shape) < SMALLEST:
        whole = (max(shape[0], SMALLEST), max(shape[1], SMALLEST))
        options = {"clouds": clouds, "misregistration": misregistration}
        return _cropped(simulate(whole, gsd_m=gsd_m, seed=seed, setting=setting, **options), shape)
    rng = np.random.Generator(np.random.PCG64(seed))
    setting = setting or draw_setting(rng, gsd_m)
    canvas = Canvas(rng, shape, gsd_m, setting, _terrain(rng, shape, gsd_m, setting))
    paint_nature(canvas)
    if setting.farm > 0:
        paint_fields(canvas)
    paint_water(canvas)
    if setting.snow < 0.5:
        paint_roads(canvas)
    if setting.town > 0:
        paint_towns(canvas)
    if setting.snow < 0.5:
        paint_sites(canvas)
    paint_crowns(canvas)
    if setting.flood > 0:
        paint_flood(canvas)
    looks = appear(canvas)
    height = np.where(np.isnan(canvas.height), looks.height_m[canvas.objects], canvas.height)
    rgb, _ = optical.render(canvas, looks, height)
    power = sar.render(canvas, looks, height)
    rgb = optical.through_sensor(rgb, rng)
    # Clouds draw from a generator of their own, so that the ground is the same with and without them.
    sky = np.random.Generator(np.random.PCG64([seed, 1]))
    opacity, shadow = cloud_layer(shape, sky, cover=clouds, thick=float(sky.beta(2, 1)), gsd_m=gsd_m)
    if clouds > 0:
        rgb = lay_clouds(rgb, sky, opacity, shadow)
    db, shift = sar.through_sensor(power, rng, misregistration)
    labels = np.array(canvas.covers, np.uint8)[canvas.objects]
    return SimulatedScene(rgb, db, labels, opacity, shadow, gsd_m, shift)


def _cropped(scene: SimulatedScene, shape: tuple[int, int]) -> SimulatedScene:
    planes = {
        name: getattr(scene, name)[..., : shape[0], : shape[1]]
        for name in ("optical", "sar", "labels", "cloud", "shadow")
    }
    return replace(scene, **planes)


def draw_setting(rng: np.random.Generator, gsd_m: float) -> Setting:
    """A random place, day and pair of sensors; finer pixels are more often a piece of a town, and of fewer things."""
    fine = float(np.clip(1 - np.log10(max(gsd_m, 0.1) / 0.3) / 1.5, 0, 1))
    varied = 1 - 0.65 * fine
    snow = rng.random() < 0.07
    arid = float(rng.choice([0.0, 1.0], p=[0.86, 0.14]))
    town = float(rng.beta(0.9, 2.6)) if rng.random() < 0.5 * varied else 0.0
    if rng.random() < 0.62 * fine:
        town = float(rng.choice([0.7, 1.0], p=[0.3, 0.7]))
    farm = float(rng.choice([0.4, 0.75, 1.0])) if rng.random() < (0.7 if town < 0.7 else 0.2) else 0.0
    flood = 0.0 if snow or rng.random() > 0.22 * varied else float(rng.uniform(0.1, 0.6))
    widest = np.log(np.clip(40 * gsd_m, 60, 900))
    river = float(np.exp(rng.uniform(np.log(max(6, 2 * gsd_m)), widest))) if rng.random() < 0.3 * varied else 0.0
    return Setting(
        water=float(rng.beta(1.1, 2.2)) if rng.random() < 0.5 * varied else 0.0,
        river=river,
        forest=float(rng.beta(0.9, 1.6)) * (1 - 0.8 * arid),
        farm=0.0 if snow or (arid and rng.random() < 0.7) else farm,
        town=town,
        arid=arid,
        snow=float(rng.uniform(0.3, 1.0)) if snow else 0.0,
        flood=flood,
        coast=bool(rng.random() < 0.4),
        dryness=float(rng.beta(1.3, 1.2)),
        mud=float(np.clip(rng.beta(0.8, 1.2) + 0.5 * (flood > 0), 0, 1)),
        wind=float(rng.beta(0.7, 2.5)),
        relief=float(rng.choice([0.0, 0.05, 0.15, 0.35], p=[0.35, 0.3, 0.2, 0.15])) * varied,
        sun_azimuth=float(rng.uniform(np.pi * 0.55, np.pi * 1.45)),
        sun_elevation=float(np.radians(rng.uniform(28 + 8 * fine, 68))),
        look_azimuth=float(np.pi / 2 + rng.choice([0, np.pi]) + rng.normal(0, 0.15)),
        incidence=float(rng.uniform(29, 46)),
    )


def _terrain(rng: np.random.Generator, shape: tuple[int, int], gsd_m: float, setting: Setting) -> Field:
    """Ground heights in meters whose slopes deviate by `relief`."""
    extent = min(shape) * gsd_m
    terrain = fractal(rng, shape, max(extent * rng.uniform(0.4, 1.3) / gsd_m, 8), rng.uniform(2.1, 2.6))
    south, east = np.gradient(terrain, gsd_m)
    slope = float(np.hypot(south.std(), east.std())) + 1e-9
    return np.asarray(terrain * (max(setting.relief, 0.01) / slope), np.float32)
