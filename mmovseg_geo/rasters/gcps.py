"""Ground control points: a thin-plate spline through all of them, and how far it can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mmovseg_geo.errors import SceneError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mmovseg_geo.rasters.facts import ControlPoint

    Coordinates = NDArray[np.float64]

FEWEST = 4
ON_A_LINE = 1e-9
"""Points that lie off a common line by less than this share of their extent lie on it."""


@dataclass(frozen=True, eq=False)
class ThinPlate:
    """Map coordinates to pixel coordinates through every control point (a `Locator`).

    Bookstein 1989: an affine part and one radial term r^2 log r for each point, of the least bending.

    Attributes:
        residual_px: root mean square distance, in pixels, by which a point is missed when it is left out.
        worst_px: the largest of these distances.
    """

    nodes: Coordinates
    weights: Coordinates
    center: Coordinates
    extent: float
    residual_px: float
    worst_px: float

    def __call__(self, x: Coordinates, y: Coordinates) -> tuple[Coordinates, Coordinates]:
        shape = np.shape(x)
        at = (np.stack([np.ravel(x), np.ravel(y)], axis=1) - self.center) / self.extent
        rows, cols = np.empty(len(at)), np.empty(len(at))
        for start in range(0, len(at), 4096):
            part = at[start : start + 4096]
            terms = _radial(part, self.nodes)
            terms = np.concatenate([terms, np.ones((len(part), 1)), part], axis=1)
            rows[start : start + 4096] = (terms * self.weights[:, 0]).sum(axis=1)
            cols[start : start + 4096] = (terms * self.weights[:, 1]).sum(axis=1)
        return rows.reshape(shape), cols.reshape(shape)


def thin_plate(points: Sequence[ControlPoint], name: str) -> ThinPlate:
    """The spline through `points`; `name` is the file's, for messages.

    Raises:
        SceneError: fewer than four different points, or all on one line.
    """
    around = float(np.median([p.x for p in points])) if points else 0.0
    unique = {(_near(p.x, around), p.y): (p.row, p.col) for p in points}
    if len(unique) < FEWEST:
        raise SceneError(f"{name} has {len(unique)} different control points; a spline needs at least {FEWEST}.")
    place = np.array(list(unique), np.float64)
    pixel = np.array(list(unique.values()), np.float64)
    center = place.mean(axis=0)
    extent = float(np.abs(place - center).max()) or 1.0
    nodes = (place - center) / extent
    count = len(nodes)
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = _radial(nodes, nodes)
    system[:count, count] = system[count, :count] = 1.0
    system[:count, count + 1 :] = nodes
    system[count + 1 :, :count] = nodes.T
    # A singular system need not stop every processor's inversion: rounding may hide it.
    if np.linalg.matrix_rank(nodes, tol=ON_A_LINE) < 2:
        raise SceneError(f"The control points of {name} lie on one line; a spline through them is not defined.")
    inverse = np.linalg.inv(system)
    weights = inverse @ np.concatenate([pixel, np.zeros((3, 2))])
    # leave-one-out error of an interpolating spline: weight over the diagonal of the inverse (Rippa 1999)
    missed = np.hypot(*(weights[:count] / np.diag(inverse)[:count, None]).T)
    return ThinPlate(nodes, weights, center, extent, float(np.sqrt((missed**2).mean())), float(missed.max()))


def _near(x: float, around: float) -> float:
    """Longitudes of a swath over the antimeridian on one side; map coordinates in meters stay."""
    if abs(around) > 180.0 or abs(x) > 180.0:
        return x
    return x - 360.0 * round((x - around) / 360.0)


def _radial(at: Coordinates, nodes: Coordinates) -> Coordinates:
    squared = (at[:, None, 0] - nodes[None, :, 0]) ** 2 + (at[:, None, 1] - nodes[None, :, 1]) ** 2
    return 0.5 * squared * np.log(np.maximum(squared, 1e-300))
