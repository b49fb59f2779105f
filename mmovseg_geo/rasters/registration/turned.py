"""Whether an image that does not fit would fit mirrored or turned by right angles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mmovseg_geo.rasters.registration.structure import features
from mmovseg_geo.rasters.registration.surfaces import Surfaces, surface
from mmovseg_geo.rasters.registration.vote import Vote, vote
from mmovseg_geo.rasters.registration.windows import tiled

if TYPE_CHECKING:
    from collections.abc import Callable

MOST = 384
"""Pixels along a side that are looked at."""
RADIUS = 24
SURER = 1.5
"""So many times the prominence of the image as it is makes a turned one the better explanation."""
LEAST = 7.0

TURNS: dict[str, Callable[[Any], Any]] = {
    "mirrored left to right": lambda x: x[..., ::-1],
    "mirrored top to bottom": lambda x: x[..., ::-1, :],
    "rotated by 180 degrees": lambda x: x[..., ::-1, ::-1],
    "rotated by 90 degrees clockwise": lambda x: np.rot90(x, 1, (-2, -1)),
    "rotated by 90 degrees counterclockwise": lambda x: np.rot90(x, 3, (-2, -1)),
    "mirrored at a diagonal": lambda x: np.swapaxes(x, -1, -2),
}
"""What turns each of them back."""


def how_turned(optical: Any, optical_valid: Any, sar: Any, sar_valid: Any, found: Vote) -> str:
    """`the SAR image seems mirrored ...`, or nothing.

    Args:
        optical: (3, H, W), as `structure.opponent` gives it; sar: (C, H, W), as `structure.polarized` does.
        found: of the image as it is.
    """
    shape = optical_valid.shape
    side = min(*shape, MOST)
    part = (
        slice((shape[0] - side) // 2, (shape[0] + side) // 2),
        slice((shape[1] - side) // 2, (shape[1] + side) // 2),
    )
    own, seen = features(optical[:, part[0], part[1]], optical_valid[part])
    best, how = max(SURER * found.prominence, LEAST), ""
    for name, turn in TURNS.items():
        bands = np.ascontiguousarray(turn(sar[:, part[0], part[1]]))
        other, other_seen = features(bands, np.ascontiguousarray(turn(sar_valid[part])))
        told = vote(_surfaces(own, seen, other, other_seen))
        if told.prominence > best and told.agreement > 0.5:
            best, how = told.prominence, f"the SAR image seems {name}"
    return how


def _surfaces(own: Any, seen: Any, other: Any, other_seen: Any) -> Surfaces:
    wide = ((RADIUS, RADIUS), (RADIUS, RADIUS))
    other, other_seen = np.pad(other, ((0, 0), *wide)), np.pad(other_seen, wide)
    place = tiled(seen.shape, max(32, seen.shape[0] // 4))
    told = []
    for down, along in place:
        around = (slice(down.start, down.stop + 2 * RADIUS), slice(along.start, along.stop + 2 * RADIUS))
        told.append(surface(own[:, down, along], seen[down, along], other[:, around[0], around[1]], other_seen[around]))
    parts = [np.stack(values) for values in zip(*told, strict=True)]
    return Surfaces(parts[0], parts[1], parts[2], np.zeros((len(place), 2)), place[0][0].stop - place[0][0].start)
