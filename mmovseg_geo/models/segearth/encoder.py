"""A CLIP model by architecture and checkpoint file: whatever open_clip can hold and the method can use."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from open_clip import CLIP

from mmovseg_geo.errors import ConfigError
from mmovseg_geo.models.clip import dense_config, with_weights
from mmovseg_geo.models.pickled import read_checkpoint

Activation = Literal["quickgelu", "gelu"]
ACTIVATIONS: dict[str, bool | None] = {"auto": None, "quickgelu": True, "gelu": False}


def load_encoder(path: str | Path, architecture: str, activation: str = "auto") -> CLIP:
    """The model with the weights of a file, both towers, for inference in single precision.

    A checkpoint does not say which activation it was trained with, and the wrong one fails silently: OpenAI's and
    MetaCLIP's weights want `quickgelu`, those trained by open_clip and AlignEarth's the exact `gelu`.

    Args:
        architecture: an open_clip name.
        activation: `quickgelu`, `gelu`, or `auto`: as the architecture's name says.

    Raises:
        ConfigError: an architecture that cannot be used, or an unknown activation.
        WeightsError: the file cannot be read or is for another architecture.
    """
    config = dense_config(architecture)
    if activation not in ACTIVATIONS:
        raise ConfigError(f"activation {activation!r} is unknown. Known: {', '.join(ACTIVATIONS)}.")
    quick_gelu = ACTIVATIONS[activation]
    if quick_gelu is not None:
        config["quick_gelu"] = quick_gelu
    return with_weights(config, read_checkpoint(path), source=str(path))


def activation_of(model: CLIP) -> Activation:
    """The activation of a model's image tower."""
    block = model.visual.transformer.resblocks[0]
    return "gelu" if isinstance(block.mlp.gelu, torch.nn.GELU) else "quickgelu"
