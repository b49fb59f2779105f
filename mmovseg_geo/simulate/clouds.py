"""Clouds and their shadows over optical pictures, simulated or real."""

from __future__ import annotations

import numpy as np

from mmovseg_geo.simulate.noise import Field, fractal, quantile, ragged, smoothstep


def cloud_layer(
    shape: tuple[int, int], rng: np.random.Generator, *, cover: float, thick: float, gsd_m: float
) -> tuple[Field, Field]:
    """Opacity and ground shadow (H, W), both 0..1; `cover` is the share of pixels with an opacity of at least 0.1."""
    if cover <= 0:
        return np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    distance = np.clip(rng.uniform(300, 3000) / gsd_m, 0.03 * max(shape), 0.5 * max(shape))
    rows, cols = round(float(distance * np.cos(angle))), round(float(distance * np.sin(angle)))
    # Made larger than the picture: clouds outside of it throw shadows into it.
    wide = (shape[0] + abs(rows), shape[1] + abs(cols))
    wavelength = np.clip(rng.uniform(400, 4000) / gsd_m, 0.15 * max(shape), 1.2 * max(shape))
    field = ragged(rng, fractal(rng, wide, float(wavelength), rng.uniform(1.6, 2.2)), 0.03)
    row, col = max(rows, 0), max(cols, 0)
    edge = quantile(field[row : row + shape[0], col : col + shape[1]], 1 - min(cover, 1.0))
    softness = rng.uniform(0.15, 1.2) * (1.6 - thick)
    # smoothstep reaches 0.1 at 0.196 of its way: the asked cover is what can be seen.
    depth = smoothstep(field, edge - 0.196 * softness, edge + 0.804 * softness)
    depth *= np.float32(min(0.25 + 0.8 * thick, 1.0))
    opacity = depth[row : row + shape[0], col : col + shape[1]]
    shadow = depth[row - rows : row - rows + shape[0], col - cols : col - cols + shape[1]]
    return opacity, np.asarray(shadow * (1 - opacity), np.float32)


def lay_clouds(optical: Field, rng: np.random.Generator, opacity: Field, shadow: Field) -> Field:
    """The picture (3, H, W) in reflectance, darkened by the shadow and covered by the clouds."""
    white = np.float32(rng.uniform(0.45, 0.85)) * (1 + 0.12 * (opacity - 0.5))
    under = optical * (1 - np.array([0.62, 0.58, 0.50], np.float32)[:, None, None] * shadow)
    tint = np.array([1.0, 1.0, rng.uniform(1.0, 1.06)], np.float32)[:, None, None]
    return np.asarray(np.clip(under * (1 - opacity) + tint * white * opacity, 0, 1), np.float32)


def add_clouds(
    optical: Field, rng: np.random.Generator, *, cover: float, thick: float, gsd_m: float
) -> tuple[Field, Field]:
    """A reflectance picture (3, H, W) with clouds and their displaced shadows, and the clouds' opacity (H, W), 0..1.

    `cover` is the share of pixels that clouds reach, `thick` from thin haze (0) to opaque (1). Works on real pictures.
    """
    opacity, shadow = cloud_layer((optical.shape[1], optical.shape[2]), rng, cover=cover, thick=thick, gsd_m=gsd_m)
    return lay_clouds(optical, rng, opacity, shadow), opacity
