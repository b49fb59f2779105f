"""What the numbers and colors of a label raster mean: stored values to class indices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mmovseg_geo.errors import SceneError, a_few

Color: TypeAlias = tuple[int, int, int]
Indices: TypeAlias = NDArray[np.uint8]

IGNORE = 255
"""Class index of pixels that are not scored, and the stored value of such pixels in every set."""


@dataclass(frozen=True)
class LabelCode:
    """How class indices are stored. Without any rule, stored values are the indices and 255 is not scored.

    Attributes:
        colors: stored value to the colors (red, green, blue) that stand for it in a color picture; a picture of one
            band holds the values themselves.
        reduce_zero: stored 0 is not scored, every other value is the index plus one.
        at_least: stored values from here on are class 1, smaller ones class 0; in a picture of one bit a pixel white
            is class 1.
    """

    colors: Mapping[int, tuple[Color, ...]] = field(default_factory=dict)
    reduce_zero: bool = False
    at_least: int | None = None

    def indices(self, stored: NDArray[Any], count: int, path: Path) -> Indices:
        """Class indices (H, W) below `count`, or 255, of a label raster's bands (N, H, W).

        Raises:
            SceneError: a color or value that stands for no class; the message names `path`.
        """
        values = self._values(stored, path)
        if self.at_least is not None:
            least = 1 if stored.dtype == np.bool_ else self.at_least
            return (values >= least).astype(np.uint8)
        if self.reduce_zero:
            values = np.where(values == 0, IGNORE, np.where(values == IGNORE, IGNORE, values - 1))
        strange = (values != IGNORE) & ((values < 0) | (values >= count))
        if strange.any():
            found = np.unique(values[strange] + int(self.reduce_zero))
            least = int(self.reduce_zero)
            raise SceneError(
                f"{path}: the stored value{'s' if len(found) > 1 else ''} {a_few(found.tolist())} "
                f"stand{'s' if len(found) == 1 else ''} for no class ({int(strange.sum())} pixels); {count} classes "
                f"are stored as {least} to {count - 1 + least}, and {IGNORE} is not scored.\n"
                "  Check that the labels belong to this split: training labels often have other classes."
            )
        return values.astype(np.uint8)

    def _values(self, stored: NDArray[Any], path: Path) -> NDArray[np.int64]:
        if stored.dtype.kind == "f" and not (np.isfinite(stored).all() and (stored == np.round(stored)).all()):
            raise SceneError(f"{path} holds fractions; a label raster has whole numbers. Name the labels, not scores.")
        if len(stored) >= 3 and self.colors:
            return self._painted(stored[:3].astype(np.int64), path)
        if len(stored) >= 3 and (stored[:3] != stored[0]).any():
            raise SceneError(
                f"{path} is a color picture, and its set says nothing of colors. Give `labels: colors` in the file "
                "that describes the set, or labels of one band."
            )
        return np.asarray(stored[0], np.int64)

    def _painted(self, picture: NDArray[np.int64], path: Path) -> NDArray[np.int64]:
        packed = picture[0] << 16 | picture[1] << 8 | picture[2]
        value_of = {_packed(color): value for value, colors in self.colors.items() for color in colors}
        known = np.array(sorted(value_of), np.int64)
        values = np.array([value_of[color] for color in known.tolist()], np.int64)
        at = np.minimum(np.searchsorted(known, packed), len(known) - 1)
        strange = known[at] != packed
        if strange.any():
            found = [f"#{color:06x}" for color in np.unique(packed[strange]).tolist()]
            raise SceneError(
                f"{path}: the color{'s' if len(found) > 1 else ''} {a_few(found)} stand"
                f"{'s' if len(found) == 1 else ''} for no class ({int(strange.sum())} pixels).\n"
                "  Check that the picture is lossless and belongs to this set."
            )
        return np.asarray(values[at])


def _packed(color: Color) -> int:
    return color[0] << 16 | color[1] << 8 | color[2]
