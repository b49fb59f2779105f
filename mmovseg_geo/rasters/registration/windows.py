"""Which windows can tell anything: not those of water, clouds, no-data, or without any texture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from mmovseg_geo.rasters.registration.structure import KINDS, features, filled, opponent, polarized, strength
from mmovseg_geo.rasters.registration.surfaces import Surfaces, surface

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmovseg_geo.rasters.registration.structure import Features, Floats, Mask

    Kind = Literal["used", "no data", "cloud", "water", "smooth"]

LEAST_SEEN = 0.5
"""Share of a window that both images must show."""
CLOUDED = 0.3
"""Share of a window that the mask of clouds may cover."""
SMOOTH = 0.15
"""Mean slope of the optical image, in 1/255 per pixel, below which a window holds nothing to match."""
CALM = 2.0
"""Water shows less slope than this, and darker SAR than DARK (0..255) on average."""
DARK = 60.0


def kinds(
    optical: Floats, seen: Mask, sar: Floats, clouds: Mask | None, place: list[tuple[slice, slice]]
) -> list[Kind]:
    """What each window, given by its rows and columns, is good for; `sar` (H, W) is the co-polarized band."""
    slope = strength(optical, seen)
    found: list[Kind] = []
    for part in place:
        shown = seen[part]
        if clouds is not None and float(clouds[part].mean()) > CLOUDED:
            found.append("cloud")
        elif float(shown.mean()) < LEAST_SEEN:
            found.append("no data")
        elif float(slope[part][shown].mean()) < SMOOTH:
            found.append("water" if float(sar[part][shown].mean()) < DARK else "smooth")
        elif float(slope[part][shown].mean()) < CALM and float(sar[part][shown].mean()) < DARK:
            found.append("water")
        else:
            found.append("used")
    return found


def tiled(shape: tuple[int, int], side: int, margin: int = 0) -> list[tuple[slice, slice]]:
    """Squares of `side` pixels in the middle of an image of `shape`, `margin` pixels left free around."""
    counts = tuple(max(1, (length - 2 * margin) // side) for length in shape)
    starts = tuple((length - count * side) // 2 for length, count in zip(shape, counts, strict=True))
    return [
        (
            slice(max(starts[0] + i * side, 0), min(starts[0] + (i + 1) * side, shape[0])),
            slice(max(starts[1] + j * side, 0), min(starts[1] + (j + 1) * side, shape[1])),
        )
        for i in range(counts[0])
        for j in range(counts[1])
    ]


def structures(
    optical: Floats, optical_valid: Mask, sar: Floats, sar_valid: Mask
) -> tuple[Features, Mask, Features, Mask]:
    """Features of both images and where they can be told."""
    own, seen = features(opponent(optical), optical_valid)
    other, other_seen = features(polarized(sar), sar_valid & ~filled(sar))
    return own, seen, other, other_seen


def matched(
    parts: tuple[Features, Mask, Features, Mask],
    place: list[tuple[slice, slice]],
    radius: int,
    corner: tuple[int, int] = (0, 0),
    scale: float = 1.0,
) -> tuple[Surfaces, Surfaces]:
    """Surfaces of windows by fine and by coarse features, for images on one grid.

    Args:
        corner: row and column of the images' first pixel in the scene; scale: scene pixels in one of theirs.
    """
    own, seen, other, other_seen = parts
    wide = ((radius, radius), (radius, radius))
    other, other_seen = np.pad(other, ((0, 0), *wide)), np.pad(other_seen, wide)
    rows: list[list[NDArray[np.float32]]] = [[] for _ in range(6)]
    centers = []
    side = place[0][0].stop - place[0][0].start
    for down, along in place:
        tall, broad = slice(down.start, down.stop + 2 * radius), slice(along.start, along.stop + 2 * radius)
        for level in (0, 1):
            which = slice(level * KINDS, (level + 1) * KINDS)
            told = surface(
                own[which, down, along], seen[down, along], other[which, tall, broad], other_seen[tall, broad]
            )
            for kind, values in enumerate(told):
                rows[level * 3 + kind].append(values)
        middle = ((down.start + down.stop) / 2, (along.start + along.stop) / 2)
        centers.append([corner[0] + middle[0] * scale, corner[1] + middle[1] * scale])
    stacked = [np.stack(row) for row in rows]
    at = np.array(centers, np.float64)
    fine, coarse = stacked[:3], stacked[3:]
    return Surfaces(fine[0], fine[1], fine[2], at, side), Surfaces(coarse[0], coarse[1], coarse[2], at, side)
