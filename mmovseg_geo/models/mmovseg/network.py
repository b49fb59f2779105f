"""MM-OVSeg: open-vocabulary segmentation of optical and SAR (arXiv:2603.17528).

Shape suffixes: B batch, T classes, C channels shared by image and text, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmovseg_geo.models.mmovseg.features import OpticalEncoder, OpticalFeatures, Pyramid, SarEncoder, Size
from mmovseg_geo.models.mmovseg.head import CostHead
from mmovseg_geo.models.mmovseg.text_tower import TextTower

if TYPE_CHECKING:
    from mmovseg_geo.models.clip import CLIPText  # which loads open_clip


class MMOVSeg(nn.Module):
    """Optical and SAR images and text embeddings in, one logit map per class out.

    Args:
        optical: an `OpticalEncoder`; one trunk may serve both the CLIP and the DINO role.
        sar: a `SarEncoder`.
        adapters: bring the encoders' maps to the head's channels and grids.
        head: the cost head.
        text: the text tower; carried along with the weights, not used by `forward`.
    """

    def __init__(
        self,
        *,
        optical: OpticalEncoder,
        sar: SarEncoder,
        adapters: Adapters,
        head: CostHead,
        text: CLIPText | TextTower | None = None,
    ) -> None:
        super().__init__()
        self.optical = optical
        self.sar = sar
        self.adapters = adapters
        self.head = head
        self.text = text

    def forward(
        self,
        optical: Tensor | None,
        sar: Tensor | None,
        text: Tensor,
        optical_valid: Tensor | None = None,
        sar_valid: Tensor | None = None,
        size: Size | None = None,
    ) -> Tensor:
        """Logits (B, T, H, W).

        Args:
            optical, sar: normalized images (B, channels, H, W); either may be None.
            text: (T, C), or (B, T, C) for a class list per image.
            optical_valid, sar_valid: what share of each pixel has data (B, H, W), bool or 0..1; None for all of it.
                Features count as much as their cell is valid.
            size: height and width at which the encoders look at the images; None for their own.
        """
        if optical is None and sar is None:
            raise ValueError("neither an optical nor a SAR image")
        seen = []
        clip: Pyramid | None = None
        radar: Tensor | None = None
        if optical is not None:
            features = self.optical(optical, size)
            clip = _masked((*self.adapters.of_clip(features), features.dense), optical_valid)
            seen.append(_masked(self.adapters.of_optical(features.pyramid), optical_valid))
        if sar is not None:
            seen.append(_masked(self.adapters.of_sar(self.sar(sar, size)), sar_valid))
            radar = seen[-1][-1]
        *dino_guidance, dense = (sum(maps[1:], start=maps[0]) for maps in zip(*seen, strict=True))
        if clip is None:
            clip = tuple(torch.zeros_like(map_) for map_ in (*dino_guidance, dense))
        *clip_guidance, clip_dense = clip
        logits: Tensor = self.head(clip_dense, dense, text, tuple(clip_guidance), tuple(dino_guidance), radar=radar)
        return logits


class Adapters(nn.Module):
    """One module per map: hooks of CLIP, then the pyramids of optical and of SAR, which are added."""

    def __init__(self, *, clip: Iterable[nn.Module], optical: Iterable[nn.Module], sar: Iterable[nn.Module]) -> None:
        super().__init__()
        self.clip = nn.ModuleList(clip)
        self.optical = nn.ModuleList(optical)
        self.sar = nn.ModuleList(sar)

    def of_clip(self, features: OpticalFeatures) -> Pyramid:
        return tuple(adapt(map_) for adapt, map_ in zip(self.clip, features.hooks, strict=True))

    def of_optical(self, pyramid: Pyramid) -> Pyramid:
        return tuple(adapt(map_) for adapt, map_ in zip(self.optical, pyramid, strict=True))

    def of_sar(self, pyramid: Pyramid) -> Pyramid:
        return tuple(adapt(map_) for adapt, map_ in zip(self.sar, pyramid, strict=True))


def _masked(maps: Pyramid, valid_BHW: Tensor | None) -> Pyramid:
    """Maps weighted by the valid share of each cell."""
    if valid_BHW is None:
        return maps
    valid = valid_BHW[:, None].to(maps[0].dtype)
    return tuple(map_ * F.adaptive_avg_pool2d(valid, (map_.shape[-2], map_.shape[-1])) for map_ in maps)
