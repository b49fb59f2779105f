"""More than one shift for all: an affine motion or a smooth field, where windows that were kept apart confirm it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage, optimize

from mmovseg_geo.rasters.displacement import LATTICE, Displacement, Field

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmovseg_geo.rasters.registration.surfaces import Surfaces

    Doubles = NDArray[np.float64]

BLURS = (4.0, 2.0, 1.0, 0.6)
"""Widths in pixels by which surfaces are blurred, one after the other: first the hill is found, then its top."""
FEWEST = 12
"""Windows that an affine motion needs."""
FIELD_CELLS = 4
REACH = 4
"""Pixels by which a node of a field may differ from the affine motion."""
STRETCH = 0.06
"""The largest scale or rotation (as a share) that windows can still be matched through."""


class Windows:
    """Windows' correlation at any displacement, blurred or not."""

    def __init__(self, surfaces: Surfaces) -> None:
        self.centers = surfaces.centers
        self.radius = surfaces.radius
        self.values = surfaces.each()
        self.weights = np.sqrt(np.maximum(surfaces.energy(), 1e-6))
        self.weights = self.weights / self.weights.sum()

    def blurred(self, width: float) -> Doubles:
        if width == 0:
            return self.values
        found: Doubles = ndimage.gaussian_filter(self.values, (0, width, width), mode="nearest")
        return found

    def at(self, values: Doubles, rows: Doubles, cols: Doubles) -> Doubles:
        """(N,) correlation of each window at its own displacement."""
        last = values.shape[1] - 1
        rows, cols = np.clip(rows + self.radius, 1, last - 2), np.clip(cols + self.radius, 1, last - 2)
        top, left = np.minimum(rows.astype(int), last - 2), np.minimum(cols.astype(int), last - 2)
        each = np.arange(len(values))
        by_row, by_col = _cubic(rows - top), _cubic(cols - left)
        found = np.zeros(np.broadcast(rows, cols).shape)
        for i in range(4):
            line = sum(values[each, top + i - 1, left + j - 1] * by_col[j] for j in range(4))
            found += line * by_row[i]
        return found

    def fit(self, displacement: Displacement) -> float:
        """Mean correlation of the windows under a displacement."""
        moved = displacement.at(self.centers[:, 0], self.centers[:, 1])
        return float((self.at(self.values, *moved) * self.weights).sum())


def _cubic(part: Doubles) -> tuple[Doubles, ...]:
    """Weights of four neighbors (Catmull-Rom): linear ones would pull every estimate to whole pixels."""
    square, cube = part * part, part * part * part
    return (
        0.5 * (-cube + 2 * square - part),
        0.5 * (3 * cube - 5 * square + 2),
        0.5 * (-3 * cube + 4 * square + part),
        0.5 * (cube - square),
    )


def affine(surfaces: Surfaces, start: Displacement) -> Displacement | None:
    """The affine motion that lets all windows fit best, from `start` on; None where too few windows are there."""
    if len(surfaces) < FEWEST:
        return None
    windows = Windows(surfaces)
    center = windows.centers.mean(axis=0)
    reach = float(np.abs(windows.centers - center).max()) or 1.0
    away = (windows.centers - center) / reach
    begin = start.at(np.asarray(center[0]), np.asarray(center[1]))
    found = np.array([float(begin[0]), 0.0, 0.0, float(begin[1]), 0.0, 0.0])
    for width in BLURS:
        values = windows.blurred(width)

        def loss(p: Doubles, values: Doubles = values) -> float:
            rows = p[0] + away @ p[1:3]
            cols = p[3] + away @ p[4:6]
            return -float((windows.at(values, rows, cols) * windows.weights).sum())

        step = max(width, 0.5)
        simplex = np.vstack([found, found + step * np.eye(6)])
        settings = {"initial_simplex": simplex, "xatol": 0.02, "fatol": 1e-7, "maxiter": 600}
        found = optimize.minimize(loss, found, method="Nelder-Mead", options=settings).x
    matrix = ((found[1] / reach, found[2] / reach), (found[4] / reach, found[5] / reach))
    if np.abs(matrix).max() > STRETCH:
        return None
    told = (round(float(found[0]), 4), round(float(found[3]), 4))
    rounded = tuple(tuple(round(float(value), 8) for value in row) for row in matrix)
    return Displacement(told, rounded, (float(center[0]), float(center[1])))  # type: ignore[arg-type]


def field(surfaces: Surfaces, start: Displacement, shape: tuple[int, int]) -> Displacement | None:
    """A smooth field of small differences from `start` for a scene of `shape`; None where too few windows are there."""
    spacing = max(1, round(max(shape) / FIELD_CELLS / LATTICE)) * LATTICE
    counts = tuple(-(-side // spacing) + 1 for side in shape)
    if len(surfaces) < 2 * counts[0] * counts[1]:
        return None
    windows = Windows(surfaces)
    steps = np.arange(-REACH, REACH + 0.25, 0.5)
    moved = start.at(windows.centers[:, 0], windows.centers[:, 1])
    values = windows.blurred(1.0)
    around = np.stack([windows.at(values, moved[0] + r, moved[1] + c) for r in steps for c in steps], axis=1)
    penalty = np.array([r * r + c * c for r in steps for c in steps])
    noise = float(np.std(values))
    tables = np.zeros((2, *counts))
    for row in range(counts[0]):
        for col in range(counts[1]):
            away = ((windows.centers - np.array([row, col]) * spacing) ** 2).sum(axis=1) / spacing**2
            near = np.exp(-2 * away) * windows.weights
            amount = near.sum()
            if amount <= 0:
                continue
            effective = amount**2 / (near**2).sum()
            told = (near[:, None] * around).sum(axis=0) / amount - 0.02 * noise / np.sqrt(effective) * penalty
            best = int(told.argmax())
            tables[:, row, col] = steps[best // len(steps)], steps[best % len(steps)]
    smooth = [ndimage.gaussian_filter(table, 0.4, mode="nearest") for table in tables]
    rows, cols = (tuple(tuple(round(float(v), 3) for v in line) for line in table) for table in smooth)
    return Displacement(start.shift, start.matrix, start.center, Field(spacing, rows, cols))


def confirmed(surfaces: Surfaces, fitted: object, simpler: object) -> bool:
    """Whether a model fitted to one half of the windows lets the other half fit better than the simpler one does.

    Args:
        fitted, simpler: functions of `Surfaces` that give a `Displacement` or None.
    """
    place = np.floor(surfaces.centers / surfaces.side).astype(int)
    odd = (place.sum(axis=1) % 2).astype(bool)
    gain = 0.0
    for half in (odd, ~odd):
        if half.all() or not half.any():
            return False
        more, less = fitted(surfaces.chosen(half)), simpler(surfaces.chosen(half))  # type: ignore[operator]
        if more is None or less is None:
            return False
        others = Windows(surfaces.chosen(~half))
        gain += others.fit(more) - others.fit(less)
    return gain > 0.0
