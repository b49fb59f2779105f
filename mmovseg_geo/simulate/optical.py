"""Surface reflectance in three bands as an optical sensor would deliver it."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from mmovseg_geo.simulate.appearance import GRAINS, Appearance
from mmovseg_geo.simulate.canvas import Canvas
from mmovseg_geo.simulate.noise import Field, texture
from mmovseg_geo.simulate.shadows import shadows

SKYLIGHT = (0.30, 0.36, 0.46)
HAZE = (0.35, 0.55, 1.0)


def render(canvas: Canvas, looks: Appearance, height: Field) -> tuple[Field, Field]:
    """Reflectance (3, H, W) without sensor effects, and the part of each pixel that lies in shadow (H, W)."""
    rng, setting = canvas.rng, canvas.setting
    light = canvas.shade.copy()
    grain = np.zeros(canvas.shape, np.float32)
    for k, size in enumerate(GRAINS):
        grain += looks.texture[:, k][canvas.objects] * texture(rng, canvas.shape, size)
    light *= np.exp(grain)
    if setting.relief > 0:
        light *= hillshade(canvas)
    shaded = np.zeros(canvas.shape, np.float32)
    if float(height.max()) > 0.7 * canvas.gsd_m:
        shaded = shadows(height, canvas.gsd_m, setting.sun_azimuth, setting.sun_elevation)
    tint = 0.22 * grain * texture(rng, canvas.shape, 4)
    rgb = np.empty((3, *canvas.shape), np.float32)
    for band in range(3):
        plane = looks.rgb[:, band][canvas.objects]
        for thing, coverage in canvas.thin:
            plane += coverage * (looks.rgb[thing, band] - plane)
        lit = light * (1 - shaded * np.float32(1 - SKYLIGHT[band]))
        rgb[band] = plane * lit * (1 + np.float32((0.6, -0.4, 0.2)[band]) * tint)
    return rgb, shaded


def hillshade(canvas: Canvas) -> Field:
    """Brightness of slopes relative to flat ground."""
    setting = canvas.setting
    south, east = np.gradient(canvas.terrain, canvas.gsd_m)
    facing = -np.sin(setting.sun_azimuth) * east + np.cos(setting.sun_azimuth) * south
    return np.asarray(np.clip(1 + facing / np.tan(setting.sun_elevation), 0.25, 1.9), np.float32)


def through_sensor(rgb: Field, rng: np.random.Generator) -> Field:
    """Add exposure, haze, white balance, blur and noise; clipped to 0..1."""
    gain = np.exp(0.22 * rng.standard_normal()) * np.exp(0.04 * rng.standard_normal(3))
    haze = rng.exponential(0.005) if rng.random() < 0.88 else rng.uniform(0.03, 0.09)
    sigma = max(rng.normal(0.45, 0.25), 0.0)
    noise = np.float32(rng.exponential(0.0025))
    shape = (rgb.shape[1], rgb.shape[2])
    out = np.empty_like(rgb)
    for band in range(3):
        plane = rgb[band] if sigma < 0.3 else ndimage.gaussian_filter(rgb[band], sigma, truncate=3)
        out[band] = plane * np.float32(gain[band] * (1 - haze)) + np.float32(haze * HAZE[band])
        out[band] += noise * texture(rng, shape, 1)
    return np.clip(out, 0, 1, out=out)
