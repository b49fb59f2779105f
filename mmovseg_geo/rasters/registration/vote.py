"""The shift that most windows agree on, how sure it is, and by how much it may be wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmovseg_geo.rasters.registration.surfaces import Surfaces

    Doubles = NDArray[np.float64]

DRAWS = 100
SEED = 1
NEAR = 4
"""Shifts within so many pixels of a peak belong to it."""
REFINED = 4
"""Fine features may move the shift by so many pixels."""
OPEN = 0.5
"""Spread in pixels of all features' vote up to which it is as good as its place can be known."""
STEADY = 0.5
"""Share of the draws in which the fine peak is the same, for it to be believed."""
WAVERING = 1.3
"""So many times the spread of all features makes the fine ones, which are the sharper, not worth believing."""
SAME = 1.5
"""A draw whose peak lies within so many pixels of the peak of all agrees with it."""


@dataclass(frozen=True)
class Vote:
    """What the windows say.

    Attributes:
        rows, cols: by which the SAR content must move, in scene pixels.
        height: correlation at the peak.
        prominence: of the peak above the middle of the surface, in its robust standard deviations.
        lead: of the peak over the next one, as a share of the peak's own height above the middle.
        agreement: share of random halves of the windows whose peak is the same.
        spread: root mean square distance of these peaks from the estimate, in pixels, along the worse axis.
    """

    rows: float
    cols: float
    height: float
    prominence: float
    lead: float
    agreement: float
    spread: float


def vote(surfaces: Surfaces, *, equal: bool = False) -> Vote:
    """The peak of all windows together, tried on random weights of the windows (Bayesian bootstrap, fixed seed)."""
    whole = surfaces.fit(equal=equal)
    row, col = highest(whole)
    middle = float(np.median(whole))
    deviation = 1.4826 * float(np.median(np.abs(whole - middle))) + 1e-9
    rows, cols = np.indices(whole.shape)
    apart = np.maximum(np.abs(rows - row), np.abs(cols - col)) > NEAR
    height = float(whole[row, col])
    next_best = float(whole[apart].max()) if apart.any() else middle
    draws = surfaces.fit(np.random.default_rng(SEED).exponential(size=(DRAWS, len(surfaces))), equal=equal)
    peaks = np.array([subpixel(one, *highest(one)) for one in draws])
    best = np.array(subpixel(whole, row, col))
    away = peaks - best
    same = np.hypot(*away.T) <= SAME
    spread = float(np.sqrt((away[same] ** 2).mean(axis=0)).max()) if same.any() else float(surfaces.radius)
    return Vote(
        rows=float(best[0] - surfaces.radius),
        cols=float(best[1] - surfaces.radius),
        height=height,
        prominence=(height - middle) / deviation,
        lead=(height - next_best) / max(height - middle, 1e-9),
        agreement=float(same.mean()),
        spread=spread,
    )


def refined(fine: Surfaces, coarse: Vote) -> Vote:
    """The vote of fine features, each window one voice, near what all found, where that leaves the place open.

    Long straight edges leave it open along themselves; coarse features see little else. Where fine ones waver more, the
    vote of all stays.
    """
    if coarse.spread <= OPEN:
        return coarse
    row, col = round(coarse.rows) + fine.radius, round(coarse.cols) + fine.radius
    part = fine.cut(row, col, REFINED)
    reach = part.radius
    top = int(np.clip(row - reach, 0, 2 * (fine.radius - reach)))
    left = int(np.clip(col - reach, 0, 2 * (fine.radius - reach)))
    found = vote(part, equal=True)
    rows, cols = found.rows + top + reach - fine.radius, found.cols + left + reach - fine.radius
    at_edge = max(abs(found.rows), abs(found.cols)) > reach - 0.75
    if at_edge or found.agreement < STEADY or found.spread > WAVERING * coarse.spread:
        return coarse
    return replace(coarse, rows=rows, cols=cols, spread=max(found.spread, 1e-3))


def subpixel(values: Doubles, row: int, col: int) -> tuple[float, float]:
    """The top of a parabola through a peak and its neighbors."""
    found = []
    for at, along in ((row, values[:, col]), (col, values[row])):
        step = 0.0
        if 0 < at < len(along) - 1:
            before, here, after = (float(along[at + k]) for k in (-1, 0, 1))
            bend = before - 2 * here + after
            step = 0.5 * (before - after) / bend if bend < 0 else 0.0
        found.append(at + float(np.clip(step, -0.5, 0.5)))
    return found[0], found[1]


def highest(values: Doubles) -> tuple[int, int]:
    """Row and column of the largest value."""
    row, col = np.unravel_index(int(values.argmax()), values.shape)
    return int(row), int(col)
