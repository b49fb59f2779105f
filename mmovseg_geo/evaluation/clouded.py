"""Simulated clouds over the optical images of a scene: opaque, seeded, growing from cover to cover."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmovseg_geo.grid import Window
from mmovseg_geo.rasters.layer import Layer
from mmovseg_geo.rasters.radiometry import BRIGHT_REFLECTANCE
from mmovseg_geo.simulate.clouds import cloud_layer, lay_clouds

if TYPE_CHECKING:
    from mmovseg_geo.rasters.scene import Scene

    Floats = NDArray[np.float32]
    Pixels = tuple[Floats, NDArray[np.bool_]]

OPAQUE = 1.0
LONGEST = 1536
"""Pixels along a side of the clouds as they are made; over larger scenes they are stretched."""


@dataclass(frozen=True, eq=False)
class Clouds:
    """Opacity and shadow of a scene of `shape`, 0..1; for a large scene they are made smaller, and stretched."""

    shape: tuple[int, int]
    opacity: Floats
    shadow: Floats
    seed: int

    def over(self, values: Floats, window: Window) -> Floats:
        """A picture (3, H, W) of 0..255 with the clouds of its window; a pixel does not depend on the window."""
        opacity, shadow = self._at(self.opacity, window), self._at(self.shadow, window)
        reflectance = values / np.float32(255) * np.float32(BRIGHT_REFLECTANCE)
        # The same generator for every window: it draws how white the clouds of the scene are.
        covered = lay_clouds(reflectance, np.random.default_rng(self.seed), opacity, shadow)
        reached = (opacity > 0) | (shadow > 0)
        shown = np.clip(covered * np.float32(255 / BRIGHT_REFLECTANCE), 0, 255)
        return np.where(reached, shown, values).astype(np.float32)

    def _at(self, field: Floats, window: Window) -> Floats:
        """The field at the pixel centers of a window, bilinear where it was made coarser."""
        if field.shape == self.shape:
            inside = [
                np.clip(np.arange(first, first + count), 0, side - 1)
                for first, count, side in zip((window.row, window.col), window.shape, self.shape, strict=True)
            ]
            return field[np.ix_(*inside)]
        rows, down = self._around(window.row, window.height, 0, field.shape[0])
        cols, along = self._around(window.col, window.width, 1, field.shape[1])
        upper, lower = field[rows[0]], field[rows[1]]
        bands = upper * (1 - down[:, None]) + lower * down[:, None]
        mixed = bands[:, cols[0]] * (1 - along) + bands[:, cols[1]] * along
        return np.asarray(mixed, np.float32)

    def _around(
        self, first: int, count: int, axis: int, made: int
    ) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], Floats]:
        """Places before and after pixel centers along a side, and how far these are from the first to the second."""
        at = (np.arange(first, first + count) + 0.5) * made / self.shape[axis] - 0.5
        at = np.clip(at, 0, made - 1)
        before = np.minimum(at.astype(np.int64), max(made - 2, 0))
        return (before, np.minimum(before + 1, made - 1)), (at - before).astype(np.float32)


@dataclass(frozen=True, eq=False)
class CloudedLayer(Layer):
    """A layer with clouds over it."""

    clouds: Clouds | None = None

    def read(self, window: Window) -> Pixels:
        """Values (3, H, W) 0..255 under clouds, and validity (H, W)."""
        values, valid = super().read(window)
        assert self.clouds is not None, "a clouded layer has clouds"
        return np.where(valid, self.clouds.over(values, window), np.float32(0)), valid


def clouded(scene: Scene, cover: float, seed: int, name: str = "") -> Scene:
    """The scene with opaque clouds over a share `cover` of its optical image; the SAR image stays.

    The clouds of a scene grow with the cover: what a small cover hides, a larger one hides too. 0 changes nothing.

    Args:
        name: each has clouds of its own; by default that of the scene.
    """
    if cover <= 0 or scene.optical is None:
        return scene
    own = {entry.name: getattr(scene.optical, entry.name) for entry in fields(Layer)}
    return replace(
        scene, optical=CloudedLayer(**own, clouds=clouds_of(name or scene.name, scene.shape, cover, seed, scene.gsd_m))
    )


def clouds_of(name: str, shape: tuple[int, int], cover: float, seed: int, gsd_m: float) -> Clouds:
    """The clouds of a scene by its name: equal names, shapes and seeds have the same."""
    own = zlib.crc32(f"{seed} {name}".encode())
    scale = max(1.0, max(shape) / LONGEST)
    made = (max(1, round(shape[0] / scale)), max(1, round(shape[1] / scale)))
    opacity, shadow = cloud_layer(made, np.random.default_rng(own), cover=cover, thick=OPAQUE, gsd_m=gsd_m * scale)
    return Clouds(shape, np.asarray(opacity, np.float32), np.asarray(shadow, np.float32), own)
