"""A CLIP model a few channels wide, for SegEarth-OV: in memory, and as files that options can name."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from open_clip import CLIP
from safetensors.torch import save_file

CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 64, "layers": 3, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def tiny_clip(seed: int = 0, *, quick_gelu: bool = True) -> CLIP:
    torch.manual_seed(seed)
    return CLIP(**CONFIG, quick_gelu=quick_gelu).eval().requires_grad_(False)


def tiny_encoder(folder: Path, seed: int = 0) -> dict[str, str]:
    """Options that name a seeded tiny encoder, whose architecture and weights are written to `folder`."""
    architecture = folder / "tiny"
    architecture.mkdir(exist_ok=True)
    (architecture / "open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIG}), encoding="utf-8")
    checkpoint = folder / f"tiny-{seed}.safetensors"
    save_file(tiny_clip(seed).state_dict(), checkpoint)
    return {"encoder": f"local-dir:{architecture}", "checkpoint": str(checkpoint)}
