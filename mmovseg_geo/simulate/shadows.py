"""Shadows of what stands on the ground, for the sun and for the radar alike."""

from __future__ import annotations

import numpy as np

from mmovseg_geo.simulate.noise import Field


def moved(field: Field, rows: int, cols: int) -> Field:
    """The field moved down and right by whole pixels; what comes in from outside repeats the border."""
    if rows == 0 and cols == 0:
        return field
    height, width = field.shape
    down, right = max(1 - height, min(rows, height - 1)), max(1 - width, min(cols, width - 1))
    out = np.empty_like(field)
    first, last = max(right, 0), width + min(right, 0)
    top, bottom = max(down, 0), height + min(down, 0)
    out[top:bottom, first:last] = field[top - down : bottom - down, first - right : last - right]
    out[top:bottom, :first] = out[top:bottom, first : first + 1]
    out[top:bottom, last:] = out[top:bottom, last - 1 : last]
    out[:top] = out[top]
    out[bottom:] = out[bottom - 1]
    return out


def shadow_height(height: Field, gsd_m: float, azimuth: float, elevation: float) -> Field:
    """Height in meters below which a pixel lies in shadow, for light coming from `azimuth` (radians from north).

    The highest line of sight is found by doubling: each pass looks twice as far toward the light as the one before.
    """
    toward_row, toward_col = -np.cos(azimuth), np.sin(azimuth)
    fall = np.float32(np.tan(elevation) * gsd_m)
    reach = float(height.max()) / max(float(fall), 1e-6)
    line = np.full_like(height, -np.inf)
    step = 1
    rising = height
    while step <= reach + 1:
        rows, cols = round(-toward_row * step), round(-toward_col * step)
        ahead = moved(rising, rows, cols) - fall * step
        line = np.maximum(line, np.maximum(ahead, moved(line, rows, cols) - fall * step))
        rising = np.maximum(height, line)
        step *= 2
    return line


def shadows(height: Field, gsd_m: float, azimuth: float, elevation: float) -> Field:
    """How much of each pixel (H, W) is shaded, 0 to 1."""
    line = shadow_height(height, gsd_m, azimuth, elevation)
    softness = np.float32(max(0.5, gsd_m * np.tan(elevation)))
    return np.asarray(np.clip((line - height) / softness, 0, 1), np.float32)
