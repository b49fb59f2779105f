"""Sums and maxima over squares of pixels, that come out the same, to the last bit, in any window."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Values = NDArray[np.float32]


def box_sums(values: Values, side: int) -> Values:
    """Sums over `side` x `side` windows that lie inside: (..., H - side + 1, W - side + 1).

    Added slice by slice, in one order: a running sum would depend on where it began.
    """
    rows, cols = values.shape[-2] - side + 1, values.shape[-1] - side + 1
    down = values[..., :rows, :].copy()
    for step in range(1, side):
        down += values[..., step : step + rows, :]
    total: Values = down[..., :cols].copy()
    for step in range(1, side):
        total += down[..., step : step + cols]
    return total


def sums_around(values: Values, reach: int) -> Values:
    """Sums (H, W) over the pixels at most `reach` rows and columns away; those beyond the array count as 0."""
    return box_sums(np.pad(values, reach), 2 * reach + 1)
