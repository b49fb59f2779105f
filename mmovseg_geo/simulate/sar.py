"""Backscatter of two polarizations as a side-looking radar would deliver it."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from mmovseg_geo.simulate.appearance import Appearance
from mmovseg_geo.simulate.canvas import Canvas
from mmovseg_geo.simulate.noise import Field, texture
from mmovseg_geo.simulate.shadows import moved, shadows

WALL_FROM_M = 2.0
WALLED = ("tiled roof", "gray roof", "metal roof", "industrial building", "bridge", "ship", "greenhouse")
DECIBEL = np.float32(np.log(10) / 10)


def speckle(power: Field, looks: float, rng: np.random.Generator) -> Field:
    """Power with multiplicative gamma noise of mean 1 and variance 1 / looks; the same shape."""
    noise = rng.standard_gamma(looks, size=power.shape, dtype=np.float32)
    noise *= power
    noise /= np.float32(looks)
    return noise


def render(canvas: Canvas, looks: Appearance, height: Field) -> Field:
    """Backscatter power (2, H, W) for VV and VH before speckle and noise."""
    rng, setting, gsd = canvas.rng, canvas.setting, canvas.gsd_m
    # Clutter: strong where the optical texture is (crowns, mixed houses), weak on water and fields.
    rough = looks.texture.sum(axis=1)[canvas.objects]
    fine, coarse = texture(rng, canvas.shape, 1), texture(rng, canvas.shape, 4)
    clutter = rough * (5.0 * fine + 5.0 * coarse)
    built = looks.height_m[canvas.objects] > 2
    clutter *= np.where(built, 1.0, 0.35).astype(np.float32)
    # Wind streaks on open water, moisture elsewhere.
    wet = canvas.is_cover("lake", "river", "sea", "flood water")
    patchy = np.where(wet, np.float32(0.2 + 1.5 * setting.wind), np.float32(0.35))
    clutter += patchy * texture(rng, canvas.shape, 16)
    if setting.relief > 0:
        clutter += _relief(canvas)
    power = np.empty((2, *canvas.shape), np.float32)
    for band in range(2):
        plane = np.exp((looks.db[:, band][canvas.objects] + clutter) * DECIBEL)
        for thing, coverage in canvas.thin:
            plane += coverage * (np.float32(10 ** (looks.db[thing, band] / 10)) - plane)
        power[band] = plane
    if float(height.max()) > 0.7 * gsd:
        _stand_up(canvas, power, height)
    return power


def _relief(canvas: Canvas) -> Field:
    """Decibels gained on slopes that face the radar and lost on those that turn away."""
    south, east = np.gradient(canvas.terrain, canvas.gsd_m)
    azimuth = canvas.setting.look_azimuth
    away = np.sin(azimuth) * east - np.cos(azimuth) * south
    return np.asarray(np.clip(12 * away, -9, 9), np.float32)


def _stand_up(canvas: Canvas, power: Field, height: Field) -> None:
    """Radar shadow behind what stands, and bright walls in front of it, laid over toward the radar; in place."""
    setting, gsd, rng = canvas.setting, canvas.gsd_m, canvas.rng
    incidence = np.radians(setting.incidence)
    # The radar stands opposite to where it looks.
    source = setting.look_azimuth + np.pi
    power *= 1 - np.float32(0.9) * shadows(height, gsd, source, np.pi / 2 - incidence)
    row, col = -np.cos(source), np.sin(source)
    wall = np.clip(height - moved(height, round(row * 1.01), round(col * 1.01)), 0, 30)
    wall[wall < WALL_FROM_M] = 0
    is_built = canvas.is_cover(*WALLED)
    strength = np.where(is_built, np.float32(0.35), np.float32(0.02)) * wall / np.float32(max(gsd, 0.5))
    strength *= rng.gamma(0.8, size=(1,)).astype(np.float32) * np.exp(texture(rng, canvas.shape, 4))
    reach = float(np.clip(np.nanmax(wall) / np.tan(incidence) / gsd, 1, 12))
    laid = np.zeros_like(strength)
    steps = np.linspace(1, reach, int(min(4, np.ceil(reach))))
    for step in steps:
        laid += moved(strength, round(row * step), round(col * step)) / np.float32(len(steps))
    power[0] += laid
    power[1] += laid * np.float32(0.15)


def through_sensor(power: Field, rng: np.random.Generator, misregistration: float) -> tuple[Field, tuple[float, float]]:
    """Speckled backscatter in dB (2, H, W), and by how many (rows, cols) its content is displaced."""
    shift = (0.0, 0.0)
    if misregistration > 0:
        reach, angle = misregistration * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
        shift = (float(reach * np.cos(angle)), float(reach * np.sin(angle)))
        power = np.stack([ndimage.shift(plane, shift, order=1, mode="nearest") for plane in power])
    # The noise of Sentinel-1 changes across the swath and with the mode; over calm water it is all that VH shows.
    floor = 10 ** ((rng.uniform(-30, -21) + rng.normal([0.5, -0.5], 0.7)) / 10).astype(np.float32)
    looks = float(np.exp(rng.uniform(np.log(1.5), np.log(10))))
    sigma = rng.uniform(0.3, 0.75)
    # Neighboring pixels share part of their speckle: fewer looks, then smoothed.
    mixed = max(1.0, 4 * np.pi * sigma**2 * 0.8)
    noisy = speckle(power + floor[:, None, None], max(looks / mixed, 0.8), rng)
    for plane in noisy:
        ndimage.gaussian_filter(plane, sigma, truncate=2.5, output=plane)
    np.maximum(noisy, np.float32(1e-5), out=noisy)
    return np.log10(noisy) * np.float32(10), shift
