"""Pixels to what the encoders of the published variants see, and scores back to the tile's pixels (sections 3, 10)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

MEAN = (122.7709383, 116.7460125, 104.09373615)
STD = (68.5005327, 66.6321579, 70.3231630)
"""CLIP's statistics of RGB in 0..255; they serve DINO and SAR as well."""
DIVISIBILITY = 32


def normalize(image_B3HW: Tensor) -> Tensor:
    """Pixels in 0..255 to zero mean and unit spread."""
    mean = torch.tensor(MEAN, device=image_B3HW.device, dtype=image_B3HW.dtype).view(3, 1, 1)
    std = torch.tensor(STD, device=image_B3HW.device, dtype=image_B3HW.dtype).view(3, 1, 1)
    return (image_B3HW - mean) / std


def as_rgb(sar_BCHW: Tensor) -> Tensor:
    """SAR as the published encoders know it: the co-polarized band three times."""
    return sar_BCHW if sar_BCHW.shape[1] == 3 else sar_BCHW[:, :1].expand(-1, 3, -1, -1)


def pad_to_multiple(image: Tensor, divisor: int = DIVISIBILITY) -> Tensor:
    """Zeros at the right and bottom up to a multiple of `divisor`; after `normalize` they are the mean color."""
    height, width = image.shape[-2:]
    return F.pad(image, (0, -width % divisor, 0, -height % divisor))


def resize(image: Tensor, size: tuple[int, int] | None) -> Tensor:
    """Bilinear without antialiasing, as the weights were trained; unchanged for None."""
    if size is None or tuple(image.shape[-2:]) == size:
        return image
    return F.interpolate(image, size=size, mode="bilinear", align_corners=False)


def fitted(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear with antialiasing, as the published programs bring files to the size of the network."""
    if tuple(image.shape[-2:]) == size:
        return image
    return F.interpolate(image, size=size, mode="bilinear", align_corners=False, antialias=True)


def scores_on_tile(logits: Tensor, tile: tuple[int, int], padded: tuple[int, int] | None = None) -> Tensor:
    """Sigmoid scores of the tile's own pixels, from logits that cover the `padded` tile (default: no padding).

    The sigmoid comes before the resampling. The reference stretches the padded square over the tile; here what lies
    over the padding is cut off.
    """
    scores = torch.sigmoid(logits)
    if padded is None or padded == tile:
        return resize(scores, tile)
    return resize(scores, padded)[..., : tile[0], : tile[1]]
