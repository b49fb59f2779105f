"""Mutual information of two images: an independent measure of whether a displacement helped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmovseg_geo.rasters.displacement import Displacement

    Floats = NDArray[np.float32]
    Mask = NDArray[np.bool_]

BINS = 32
FEWEST = 1000
"""Pixels without which a joint histogram says nothing."""


def mutual_information(
    optical: Floats,
    optical_valid: Mask,
    sar: Floats,
    sar_valid: Mask,
    displacement: Displacement,
    corner: tuple[int, int] = (0, 0),
) -> tuple[float, float] | None:
    """Of brightness (3, H, W) and SAR (H, W) in nats, before and after; None where too few pixels are seen.

    Both are taken at the same optical pixels; SAR is interpolated linearly, as a scene does it.
    """
    height, width = optical_valid.shape
    rows, cols = np.mgrid[0:height, 0:width].astype(np.float64)
    by_rows, by_cols = displacement.at(rows + corner[0] + 0.5, cols + corner[1] + 0.5)
    bright = optical.mean(axis=0)
    found = []
    masks = []
    for down, along in ((0 * by_rows, 0 * by_cols), (by_rows, by_cols)):
        at = np.stack([rows - down, cols - along])
        seen = ndimage.map_coordinates(sar_valid.astype(np.float32), at, order=1, mode="constant") > 0.999
        masks.append(seen & optical_valid)
        found.append(ndimage.map_coordinates(sar, at, order=1, mode="nearest"))
    shared = masks[0] & masks[1]
    if int(shared.sum()) < FEWEST:
        return None
    return _information(bright[shared], found[0][shared]), _information(bright[shared], found[1][shared])


def _information(first: Floats, second: Floats) -> float:
    counts, _, _ = np.histogram2d(first, second, bins=BINS)
    joint = counts / counts.sum()
    apart = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    there = joint > 0
    return float((joint[there] * np.log(joint[there] / apart[there])).sum())
