"""Pixels to what the encoders see (sections 5.2 and 6 of the published settings)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

MEAN = (122.771, 116.746, 104.094)
STD = (68.501, 66.632, 70.323)
"""CLIP's statistics of RGB in 0..255, as rounded by the published program; they serve SAR as well."""


def normalize(image_B3HW: Tensor) -> Tensor:
    """Pixels in 0..255 to zero mean and unit spread."""
    mean, std = (torch.tensor(values, device=image_B3HW.device).view(3, 1, 1) for values in (MEAN, STD))
    return (image_B3HW - mean) / std


def as_gray(sar_BCHW: Tensor) -> Tensor:
    """SAR as the adapted encoder knows it: the first, co-polarized band three times."""
    return sar_BCHW[:, :1].expand(-1, 3, -1, -1)


def working_size(shape: tuple[int, int], factor: float) -> tuple[int, int]:
    """Height and width of an image at `factor` of its own, rounded half up and at least 1."""
    height, width = (max(int(side * factor + 0.5), 1) for side in shape)
    return height, width


def resized(image_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear without antialiasing, in both directions."""
    if tuple(image_BCHW.shape[-2:]) == size:
        return image_BCHW
    return F.interpolate(image_BCHW, size=size, mode="bilinear", align_corners=False)
