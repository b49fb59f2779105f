"""By how much content must move, at every pixel of a scene: everywhere alike, linearly, or as a smooth field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from affine import Affine

from mmovseg_geo.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Coordinates = NDArray[np.float64]
    Rows = tuple[tuple[float, ...], ...]

LATTICE = 64
"""Nodes of a field lie a multiple of so many pixels apart: cells of the placement's lattice fit into its own."""


@dataclass(frozen=True)
class Field:
    """Rows and columns to move by at nodes `spacing` pixels apart from the scene's first corner on; linear between."""

    spacing: int
    rows: Rows
    cols: Rows

    def at(self, rows: Coordinates, cols: Coordinates) -> tuple[Coordinates, Coordinates]:
        """Rows and columns to move by at scene pixel coordinates; beyond the nodes the last ones hold."""
        found = []
        for values in (np.asarray(self.rows), np.asarray(self.cols)):
            down = np.clip(rows / self.spacing, 0, values.shape[0] - 1)
            along = np.clip(cols / self.spacing, 0, values.shape[1] - 1)
            top = np.minimum(np.floor(down).astype(np.int64), max(values.shape[0] - 2, 0))
            left = np.minimum(np.floor(along).astype(np.int64), max(values.shape[1] - 2, 0))
            low, right = np.minimum(top + 1, values.shape[0] - 1), np.minimum(left + 1, values.shape[1] - 1)
            down, along = down - top, along - left
            upper = values[top, left] * (1 - along) + values[top, right] * along
            lower = values[low, left] * (1 - along) + values[low, right] * along
            found.append(upper * (1 - down) + lower * down)
        return found[0], found[1]


@dataclass(frozen=True)
class Displacement:
    """Rows and columns of scene pixels by which content must move, down and right positive.

    At (row, col) that is `shift + matrix (row - center row, col - center col)`, and `field` where there is one: what
    belongs at a place now lies there minus the displacement of the place.
    """

    shift: tuple[float, float] = (0.0, 0.0)
    matrix: tuple[tuple[float, float], tuple[float, float]] = ((0.0, 0.0), (0.0, 0.0))
    center: tuple[float, float] = (0.0, 0.0)
    field: Field | None = None

    @property
    def model(self) -> str:
        """`shift`, `affine` or `field`."""
        if self.field is not None:
            return "field"
        return "affine" if any(any(row) for row in self.matrix) else "shift"

    @property
    def still(self) -> bool:
        """Whether nothing moves."""
        return self == Displacement(center=self.center)

    def at(self, rows: Coordinates, cols: Coordinates) -> tuple[Coordinates, Coordinates]:
        """Rows and columns to move by at scene pixel coordinates."""
        down, along = rows - self.center[0], cols - self.center[1]
        (a, b), (c, d) = self.matrix
        by_rows, by_cols = self.shift[0] + a * down + b * along, self.shift[1] + c * down + d * along
        if self.field is not None:
            more = self.field.at(rows, cols)
            by_rows, by_cols = by_rows + more[0], by_cols + more[1]
        return by_rows, by_cols

    def affine(self) -> Affine | None:
        """Where content of a place lies now, as (col, row) to (col, row); None where that is not affine."""
        if self.field is not None:
            return None
        (a, b), (c, d) = self.matrix
        row, col = self.center
        along = Affine(1 - d, -c, d * col + c * row - self.shift[1], -b, 1 - a, b * col + a * row - self.shift[0])
        return Affine.translation(-self.shift[1], -self.shift[0]) if self.model == "shift" else along

    def to_json(self) -> dict[str, Any]:
        """Plain values, that `from_json` reads."""
        told: dict[str, Any] = {
            "model": self.model,
            "shift": list(self.shift),
            "matrix": [list(row) for row in self.matrix],
            "center": list(self.center),
        }
        if self.field is not None:
            told["field"] = {
                "spacing": self.field.spacing,
                "rows": [list(row) for row in self.field.rows],
                "cols": [list(row) for row in self.field.cols],
            }
        return told

    @classmethod
    def from_json(cls, told: Any) -> Displacement:
        """What `to_json` gave.

        Raises:
            ConfigError: anything else.
        """
        try:
            field = told.get("field")
            found = cls(
                _pair(told["shift"]),
                (_pair(told["matrix"][0]), _pair(told["matrix"][1])),
                _pair(told["center"]),
                None if field is None else Field(int(field["spacing"]), _table(field["rows"]), _table(field["cols"])),
            )
        except (TypeError, KeyError, ValueError, IndexError, AttributeError) as error:
            raise ConfigError(f"The displacement cannot be read ({type(error).__name__}: {error}).") from None
        if found.field is not None:
            shapes = {np.shape(found.field.rows), np.shape(found.field.cols)}
            if (
                found.field.spacing < 1
                or found.field.spacing % LATTICE
                or len(shapes) != 1
                or np.ndim(found.field.rows) != 2
            ):
                raise ConfigError(
                    f"The displacement field needs two equal tables and a spacing of n x {LATTICE} pixels."
                )
        return found


def _pair(values: Any) -> tuple[float, float]:
    first, second = (float(value) for value in values)
    if not (np.isfinite(first) and np.isfinite(second)):
        raise ValueError("numbers that are not finite")
    return first, second


def _table(rows: Any) -> Rows:
    found = tuple(tuple(float(value) for value in row) for row in rows)
    if not np.isfinite(np.asarray(found, np.float64)).all():
        raise ValueError("numbers that are not finite")
    return found
