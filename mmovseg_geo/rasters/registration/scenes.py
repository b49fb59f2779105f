"""Registration of a scene: small ones whole, large ones from a decimated read and then a few places at full size."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mmovseg_geo.grid import Window
from mmovseg_geo.rasters.displacement import Displacement
from mmovseg_geo.rasters.registration.estimate import RADIUS, SMALLEST, Pair, register
from mmovseg_geo.rasters.registration.result import CONFIDENT, Registration, refused
from mmovseg_geo.rasters.registration.structure import MARGIN, strength

if TYPE_CHECKING:
    from typing import Literal

    from numpy.typing import NDArray

    from mmovseg_geo.rasters.clouds import Clouds
    from mmovseg_geo.rasters.scene import Scene
    from mmovseg_geo.tiles import Tile

    Model = Literal["shift", "affine", "field"]
    Mask = NDArray[np.bool_]

WHOLE = 1024
"""Scenes up to so many pixels on a side are read as they are; larger ones are looked at in this size first."""
PLACES = 5
"""So many rows and columns of places of a large scene are read at full size."""
PLACE = 256
"""Side of such a place in pixels, without what the search and the features need around it."""
TOO_FINE = 5.0
"""Images whose pixels differ by so much in size show different things."""


def register_scene(scene: Scene, *, model: Model = "shift") -> Registration:
    """By how much the scene's SAR content must move, beyond what it was moved by already; nothing is changed.

    Clouds and shadows that the scene is sure of are not compared.
    """
    if scene.optical is None or not scene.sar:
        return refused("there is only one sensor, nothing to align", model)
    # The way back from speckle filters is long, and the features have their own way to deal with speckle.
    scene = replace(scene, sar=tuple(replace(layer, speckle=None) for layer in scene.sar))
    scales = [side for layer in scene.sar for side in layer.placement.scale]
    coarser, finer = 1.0 / min(scales), max(scales)
    if max(coarser, finer) > TOO_FINE:
        which = "coarser" if coarser > finer else "finer"
        times = max(coarser, finer)
        return refused(
            f"the pixels of the SAR image are {times:.0f} times {which} than those of the optical one, so their "
            f"content cannot be compared to a pixel ({TOO_FINE:g} times is the most); shift not applied",
            model,
        )
    if min(scene.shape) < SMALLEST or max(scene.shape) <= WHOLE:
        window = Window(0, 0, *scene.shape)
        if min(scene.shape) < SMALLEST:
            return register([], scene.shape, model=model)
        return register([_read(scene, window)], scene.shape, model=model)
    return _large(scene, model)


def _hiding(scene: Scene) -> Clouds | None:
    """The clouds that are not compared: those that no snow is taken for."""
    return scene.clouds if scene.clouds is not None and scene.clouds.sure else None


def _large(scene: Scene, model: Model) -> Registration:
    tile = scene.overview(WHOLE)
    stride = max(1, -(-max(scene.shape) // WHOLE))
    clouds = _hiding(scene)
    whole = _pair(tile, clouds.thinned((tile.window.height, tile.window.width)) if clouds else None)
    roughly = register([whole], whole.shape)
    near = (0, 0)
    if roughly.confidence >= CONFIDENT and max(abs(roughly.rows), abs(roughly.cols)) * stride > RADIUS / 2:
        near = (round(roughly.rows * stride), round(roughly.cols * stride))
    moved = scene.moved(_plus(scene, near)) if near != (0, 0) else scene
    border = RADIUS + MARGIN
    pairs = []
    for row, col in _places(whole, scene.shape, stride):
        window = Window(row - border, col - border, PLACE + 2 * border, PLACE + 2 * border)
        pairs.append(_read(moved, window, border))
    if not pairs:
        under = " beside the clouds" if whole.clouds is not None and whole.clouds.any() else ""
        return refused(f"no place of the scene{under} shows both images and any texture; shift not applied", model)
    return register(pairs, scene.shape, model=model, near=near, overview=whole)


def _places(pair: Pair, shape: tuple[int, int], stride: int) -> list[tuple[int, int]]:
    """First row and column of places to read at full size: in each part of the scene the one of most texture.

    Args:
        pair: the whole scene with `stride` pixels made one.
    """
    seen = pair.clear & pair.sar_valid
    slope = np.minimum(strength(pair.optical, seen), 20.0)
    reach = max(1, PLACE // stride)
    found = []
    for i in range(PLACES):
        for j in range(PLACES):
            top, low = i * seen.shape[0] // PLACES, (i + 1) * seen.shape[0] // PLACES
            left, right = j * seen.shape[1] // PLACES, (j + 1) * seen.shape[1] // PLACES
            best, at = 0.0, None
            for row in range(top, max(low - reach, top + 1), max(1, reach // 2)):
                for col in range(left, max(right - reach, left + 1), max(1, reach // 2)):
                    part = (slice(row, row + reach), slice(col, col + reach))
                    value = float(slope[part].mean()) if float(seen[part].mean()) > 0.9 else 0.0
                    if value > best:
                        best, at = value, (row, col)
            if at is not None:
                row, col = (min(k * stride, side - PLACE) for k, side in zip(at, shape, strict=True))
                found.append((max(row, 0), max(col, 0)))
    return found


def _read(scene: Scene, window: Window, border: int = 0) -> Pair:
    clouds = _hiding(scene)
    return _pair(scene.read(window), clouds.read(window) if clouds else None, (window.row, window.col), border)


def _pair(tile: Tile, clouds: Mask | None, corner: tuple[int, int] = (0, 0), border: int = 0) -> Pair:
    optical, sar, optical_valid, sar_valid = tile.optical, tile.sar, tile.optical_valid, tile.sar_valid
    assert optical is not None, "both sensors are there"
    assert sar is not None, "both sensors are there"
    assert optical_valid is not None, "a sensor that is there says where it is valid"
    assert sar_valid is not None, "a sensor that is there says where it is valid"
    return Pair(optical, optical_valid, sar, sar_valid, clouds, corner, border)


def _plus(scene: Scene, near: tuple[int, int]) -> Displacement:
    moved = scene.displacement
    return replace(moved, shift=(moved.shift[0] + near[0], moved.shift[1] + near[1]))
