"""An image seen through overlapping windows whose scores are averaged (section 5.3 of the published settings)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def starts(length: int, window: int, stride: int) -> list[int]:
    """First pixels of the windows along a side; the last slide back to end at the border.

    >>> starts(280, 224, 112), starts(100, 224, 112)
    ([0, 56], [0])
    """
    count = max(length - window + stride - 1, 0) // stride + 1
    return [max(min(index * stride + window, length) - window, 0) for index in range(count)]


def windowed(score: Callable[[Tensor], Tensor], image_BCHW: Tensor, window: int, stride: int) -> Tensor:
    """Mean (B, Q, H, W) float32 of what `score` says of each window of an image; a window of 0 is the whole image."""
    height, width = image_BCHW.shape[-2:]
    rows, cols = min(window or height, height), min(window or width, width)
    if (rows, cols) == (height, width):
        return score(image_BCHW).float()
    total: Tensor | None = None
    visits_HW = torch.zeros(height, width, device=image_BCHW.device)
    for top in starts(height, rows, stride):
        for left in starts(width, cols, stride):
            part = ..., slice(top, top + rows), slice(left, left + cols)
            scores = score(image_BCHW[part]).float()
            if total is None:
                total = scores.new_zeros(*scores.shape[:2], height, width)
            total[part] += scores
            visits_HW[part] += 1
    assert total is not None, "an image has at least one window"
    return total / visits_HW


def pad_around(image_BCHW: Tensor, multiple: int) -> tuple[Tensor, tuple[Any, ...]]:
    """Zeros on all sides up to multiples, and the index that takes the image's own rows and columns out again.

    After normalization zeros are the mean color.
    """
    height, width = image_BCHW.shape[-2:]
    more_rows, more_cols = -height % multiple, -width % multiple
    top, left = more_rows // 2, more_cols // 2
    padded = F.pad(image_BCHW, (left, more_cols - left, top, more_rows - top))
    return padded, (..., slice(top, top + height), slice(left, left + width))
