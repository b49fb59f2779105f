"""A CLIP model a few channels wide, for SegEarth-OV."""

from __future__ import annotations

import torch
from open_clip import CLIP

CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 64, "layers": 3, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def tiny_clip(seed: int = 0, *, quick_gelu: bool = True) -> CLIP:
    torch.manual_seed(seed)
    return CLIP(**CONFIG, quick_gelu=quick_gelu).eval().requires_grad_(False)
