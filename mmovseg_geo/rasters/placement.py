"""Where each pixel of a scene lies in a source file: through transforms, a CRS change and control points, to a fraction
of a pixel, and without regard to the window that asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from affine import Affine

from mmovseg_geo.rasters.displacement import Displacement

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmovseg_geo.grid import Window

    Coordinates = NDArray[np.float64]

STEPS = (64, 32, 16, 8, 4, 2)
"""Sides of the lattice cells, in scene pixels, that are tried from coarse to fine; 0 is no lattice."""
TOLERANCE = 0.01
"""Source pixels by which interpolation on the lattice may differ from the exact position."""
ALIGNED = 1e-4
"""Grids that differ by less than this many pixels anywhere are taken as one grid: no resampling."""


class Locator(Protocol):
    """Map coordinates of the source's CRS to its pixel coordinates (rows, cols; first pixel's center is 0.5, 0.5)."""

    def __call__(self, x: Coordinates, y: Coordinates) -> tuple[Coordinates, Coordinates]: ...


@dataclass(frozen=True)
class AffineLocator:
    """Pixel coordinates by the inverse of a file's transform."""

    inverse: Affine

    def __call__(self, x: Coordinates, y: Coordinates) -> tuple[Coordinates, Coordinates]:
        m = self.inverse
        return m.d * x + m.e * y + m.f, m.a * x + m.b * y + m.c


@dataclass(frozen=True, eq=False)
class Placement:
    """Scene pixel coordinates to source pixel coordinates. Build one with `place`.

    Attributes:
        affine: the whole way as one transform (col, row) to (col, row), where there is one.
        offset: whole rows and columns to add, where both grids coincide and nothing is resampled.
        step: side of the lattice cells in scene pixels, where positions are interpolated; 0 where they are not.
        scale: source pixels per scene pixel, along source rows and columns, at the scene's center.
    """

    grid: Affine
    transformer: Any
    locator: Locator
    around: float | None
    displacement: Displacement
    affine: Affine | None
    offset: tuple[int, int] | None
    step: int
    scale: tuple[float, float]

    def exact(self, rows: Coordinates, cols: Coordinates) -> tuple[Coordinates, Coordinates]:
        """Source rows and cols of scene pixel coordinates; not finite where there is no way."""
        if self.affine is not None:
            m = self.affine
            return m.d * cols + m.e * rows + m.f, m.a * cols + m.b * rows + m.c
        return _through(self, rows, cols)

    def displaced(self, displacement: Displacement, shape: tuple[int, int]) -> Placement:
        """The same way for a scene of `shape`, its content moved by `displacement` and by nothing else."""
        return place(
            self.grid, shape, self.locator, transformer=self.transformer, around=self.around, shift=displacement
        )

    def centers(self, window: Window) -> tuple[Coordinates, Coordinates]:
        """Source rows and cols (H, W) of a window's pixel centers; equal for a pixel in every window."""
        rows = np.arange(window.row, window.row + window.height, dtype=np.float64)[:, None] + 0.5
        cols = np.arange(window.col, window.col + window.width, dtype=np.float64)[None, :] + 0.5
        if self.step == 0:
            source_rows, source_cols = self.exact(*np.broadcast_arrays(rows, cols))
            return np.broadcast_to(source_rows, window.shape), np.broadcast_to(source_cols, window.shape)
        first_row, row_cell, row_part = self._cells(rows[:, 0])
        first_col, col_cell, col_part = self._cells(cols[0])
        node_rows = np.arange(first_row, first_row + row_cell[-1] + 2, dtype=np.float64) * self.step
        node_cols = np.arange(first_col, first_col + col_cell[-1] + 2, dtype=np.float64) * self.step
        nodes = self.exact(*np.meshgrid(node_rows, node_cols, indexing="ij"))
        found = []
        for node in nodes:
            along = node[:, col_cell] * (1.0 - col_part) + node[:, col_cell + 1] * col_part
            found.append(along[row_cell] * (1.0 - row_part)[:, None] + along[row_cell + 1] * row_part[:, None])
        return found[0], found[1]

    def _cells(self, centers: Coordinates) -> tuple[int, NDArray[np.int64], Coordinates]:
        """First lattice node, then for each pixel its cell (counted from that node) and its place in the cell."""
        cell = np.floor(centers / self.step).astype(np.int64)
        return int(cell[0]), cell - cell[0], centers / self.step - cell


def place(
    grid: Affine,
    shape: tuple[int, int],
    locator: Locator,
    *,
    transformer: Any = None,
    around: float | None = None,
    shift: tuple[float, float] | Displacement = (0.0, 0.0),
) -> Placement:
    """The way from the pixels of a scene (transform `grid`, `shape`) to those of a source.

    Args:
        transformer: pyproj's, from the scene's CRS to the source's (always x, y); None where they are the same.
        around: longitude in the middle of a source in degrees; positions are taken on its side of the antimeridian.
        shift: rows and cols of scene pixels by which the source's content must move (down and right positive), or
            these at every pixel.
    """
    moved = shift if isinstance(shift, Displacement) else Displacement((float(shift[0]), float(shift[1])))
    affine = offset = None
    motion = moved.affine()
    if transformer is None and isinstance(locator, AffineLocator) and motion is not None:
        affine = locator.inverse @ grid @ motion
        offset = _whole_offset(affine, shape)
    draft = Placement(grid, transformer, locator, around, moved, affine, offset, 0, (1.0, 1.0))
    step = 0 if affine is not None else _coarsest(draft, shape)
    return Placement(grid, transformer, locator, around, moved, affine, offset, step, _scale(draft, shape))


def _through(placement: Placement, rows: Coordinates, cols: Coordinates) -> tuple[Coordinates, Coordinates]:
    down, right = placement.displacement.at(rows, cols)
    rows, cols = rows - down, cols - right
    m = placement.grid
    x, y = m.a * cols + m.b * rows + m.c, m.d * cols + m.e * rows + m.f
    if placement.transformer is not None:
        shape = np.shape(x)
        x, y = placement.transformer.transform(np.ravel(x), np.ravel(y))
        found = np.isfinite(x) & np.isfinite(y)
        x, y = np.where(found, x, np.nan).reshape(shape), np.where(found, y, np.nan).reshape(shape)
    if placement.around is not None:
        x = x - 360.0 * np.round((x - placement.around) / 360.0)
    return placement.locator(x, y)


def _whole_offset(affine: Affine, shape: tuple[int, int]) -> tuple[int, int] | None:
    """Rows and cols to add when the transform is a step of whole pixels, to `ALIGNED` at the far corner."""
    row, col = round(affine.f), round(affine.c)
    for y, x in ((0, 0), (0, shape[1]), (shape[0], 0), shape):
        if abs(affine.d * x + affine.e * y + affine.f - (y + row)) > ALIGNED:
            return None
        if abs(affine.a * x + affine.b * y + affine.c - (x + col)) > ALIGNED:
            return None
    return row, col


def _coarsest(placement: Placement, shape: tuple[int, int]) -> int:
    """The largest lattice step whose interpolation is within `TOLERANCE` at sampled cells all over the scene."""
    for step in STEPS:
        rows = _sampled_nodes(shape[0], step)
        cols = _sampled_nodes(shape[1], step)
        corners = [
            placement.exact(*np.meshgrid(rows + dr, cols + dc, indexing="ij"))
            for dr, dc in ((0, 0), (0, step), (step, 0), (step, step), (step / 2, step / 2))
        ]
        errors = []
        for axis in (0, 1):
            middle = sum(corner[axis] for corner in corners[:4]) / 4.0
            errors.append(np.abs(middle - corners[4][axis]))
        error = np.maximum(*errors)
        known = error[np.isfinite(error)]
        if known.size and float(known.max()) <= TOLERANCE:
            return step
    return 0


def _sampled_nodes(length: int, step: int) -> Coordinates:
    count = min(9, max(2, length // step + 1))
    return np.unique(np.round(np.linspace(0, max(length - step, 0), count) / step)) * step


def _scale(placement: Placement, shape: tuple[int, int]) -> tuple[float, float]:
    """Source pixels per scene pixel along source rows and cols, the median over the scene."""
    rows, cols = np.meshgrid(np.linspace(0, shape[0], 9), np.linspace(0, shape[1], 9), indexing="ij")
    here = placement.exact(rows, cols)
    right, down = placement.exact(rows, cols + 1.0), placement.exact(rows + 1.0, cols)
    found = []
    for axis in (0, 1):
        length = np.hypot(right[axis] - here[axis], down[axis] - here[axis])
        length = length[np.isfinite(length)]
        found.append(float(np.median(length)) if length.size else 1.0)
    return found[0], found[1]
