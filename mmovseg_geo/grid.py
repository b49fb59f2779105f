"""Where: windows of pixels and sizes with a unit. Pixel grids with a place on Earth are odc-geo's `GeoBox`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from mmovseg_geo.errors import ConfigError


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels: first row and column, height and width. It may reach beyond the grid."""

    row: int
    col: int
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.height, self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slices for indexing an array of the whole grid."""
        return slice(self.row, self.row + self.height), slice(self.col, self.col + self.width)

    def intersection(self, other: Window) -> Window | None:
        """The pixels both windows hold, or None where they share none."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        bottom = min(self.row + self.height, other.row + other.height)
        right = min(self.col + self.width, other.col + other.width)
        return Window(row, col, bottom - row, right - col) if bottom > row and right > col else None


@dataclass(frozen=True)
class Size:
    """A length or an area in map units (m or m2, unit `""`) or in pixels (unit `"px"`)."""

    value: float
    unit: Literal["", "px"] = ""

    def __str__(self) -> str:
        return f"{self.value:g}{self.unit}"

    @classmethod
    def parse(cls, text: str | float) -> Size:
        """`500`, `"500"` or `"1.5px"`.

        Raises:
            ConfigError: anything else, or a negative value.
        """
        match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*(px)?\s*", str(text))
        if not match:
            raise ConfigError(f"{text!r} is not a size: give a number of map units (500) or of pixels (1.5px).")
        return cls(float(match[1]), "px" if match[2] else "")
