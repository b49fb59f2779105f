"""Networks of the published kinds, a few channels wide."""

from __future__ import annotations

from typing import Literal

import torch

from mmovseg_geo.models.mmovseg.build import build
from mmovseg_geo.models.mmovseg.network import MMOVSeg
from mmovseg_geo.models.mmovseg.params import CLIPParams, DINOParams, HeadParams, MMOVSegParams

HEAD = HeadParams(
    text_dim=16,
    hidden_dim=16,
    appearance_dim=8,
    text_guidance_dim=8,
    guidance_dims=(12, 8),
    guidance_proj=(6, 4),
    decoder_dims=(16, 8),
    num_layers=1,
    num_heads=2,
    window=4,
    padded_classes=8,
    channels_per_group=8,
)


def tiny_params(family: Literal["dinov1", "dinov3"] = "dinov1") -> MMOVSegParams:
    """ViT-B layout for `dinov1` (patches of 16 and 8), ViT-L layout for `dinov3` (patches of 14 and 16)."""
    clip_patch, dino_patch = (16, 8) if family == "dinov1" else (14, 16)
    return MMOVSegParams(
        clip=CLIPParams(
            embed_dim=16,
            image_size=4 * clip_patch,
            patch=clip_patch,
            vision_width=64,
            vision_layers=3,
            text_width=32,
            text_heads=2,
            text_layers=1,
        ),
        dino=DINOParams(family, embed_dim=32, depth=3, num_heads=2, patch=dino_patch, native_size=4 * dino_patch),
        head=HEAD,
        native_size=64,
    )


def tiny_network(family: Literal["dinov1", "dinov3"] = "dinov1") -> MMOVSeg:
    torch.manual_seed(0)
    return build(tiny_params(family)).eval()
