"""The numbers of the variants that have a name."""

from __future__ import annotations

from collections.abc import Callable

from mmovseg_geo.models.mmovseg.params import CLIPParams, DINOParams, HeadParams, MMOVSegParams


def mmovseg_vitb16() -> MMOVSegParams:
    """OpenAI ViT-B/16 with DINOv1 ViT-B/8."""
    return MMOVSegParams(
        clip=CLIPParams(
            embed_dim=512,
            image_size=224,
            patch=16,
            vision_width=768,
            vision_layers=12,
            text_width=512,
            text_heads=8,
            text_layers=12,
        ),
        dino=DINOParams("dinov1", embed_dim=768, depth=12, num_heads=12, patch=8),
        head=HeadParams(text_dim=512),
    )


def mmovseg_vitl14() -> MMOVSegParams:
    """OpenAI ViT-L/14 at 336 pixels with DINOv3 ViT-L/16."""
    return MMOVSegParams(
        clip=CLIPParams(
            embed_dim=768,
            image_size=336,
            patch=14,
            vision_width=1024,
            vision_layers=24,
            text_width=768,
            text_heads=12,
            text_layers=12,
        ),
        dino=DINOParams("dinov3", embed_dim=1024, depth=24, num_heads=16, patch=16),
        head=HeadParams(text_dim=768),
    )


PUBLISHED: dict[str, Callable[[], MMOVSegParams]] = {
    "mmovseg-vitb16": mmovseg_vitb16,
    "mmovseg-vitl14": mmovseg_vitl14,
}
"""Variants with official checkpoints."""
