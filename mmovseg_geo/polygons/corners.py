"""Corners of pixels: one number each, that sorts in raster order and carries marks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Corners = NDArray[np.int64]
"""Row in the upper 32 bits, column and marks in the lower."""

SADDLE = 1 << 30
"""Two regions of one class touch here across the corner; they may be one region that touches itself."""
JUNCTION = 1 << 31
"""Borders of more than two regions meet here, or the frame of the map turns: simplification leaves it."""

MARK_BITS = 30
"""Where the marks lie; a bare corner has room for two bits there."""

_ROW_BITS = 32
_COLUMN = SADDLE - 1
_PLACE = ~(SADDLE | JUNCTION)


def corners_at(rows: NDArray[np.integer], columns: NDArray[np.integer]) -> Corners:
    """Corners without marks; corner (0, 0) is the upper left of pixel (0, 0)."""
    return np.asarray((rows.astype(np.int64) << _ROW_BITS) | columns)


def places(corners: Corners) -> Corners:
    """The corners without their marks."""
    return np.asarray(corners & _PLACE)


def rows_of(corners: Corners) -> NDArray[np.int64]:
    return np.asarray(corners >> _ROW_BITS)


def columns_of(corners: Corners) -> NDArray[np.int64]:
    return np.asarray(corners & _COLUMN)
