"""A CLIP model by architecture and checkpoint file: whatever open_clip can hold and the method can use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from open_clip import CLIP
from open_clip.model import resize_pos_embed
from torch import Tensor

from mmovseg_geo.errors import ConfigError
from mmovseg_geo.models.clip import dense_config
from mmovseg_geo.models.mmovseg.checkpoint import load
from mmovseg_geo.models.pickled import read_checkpoint
from mmovseg_geo.models.segearth.transformers_layout import is_transformers, open_clip_layout

Activation = Literal["quickgelu", "gelu"]
ACTIVATIONS: dict[str, bool | None] = {"auto": None, "quickgelu": True, "gelu": False}

NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size", "attn_mask")
"""What OpenAI's and other checkpoints carry beside the weights."""


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


def with_weights(config: Mapping[str, object], state: Mapping[str, Tensor], *, source: str = "The state dict") -> CLIP:
    """A model of a configuration with these weights, in open_clip's layout or in that of `transformers`.

    A position table of another grid is resampled.

    Raises:
        WeightsError: missing, unexpected or differently shaped entries.
    """
    with torch.device("meta"):
        model = CLIP(**config)
    known = open_clip_layout(state) if is_transformers(state) else state
    weights = {
        key: value.float() if value.is_floating_point() else value
        for key, value in known.items()
        if key not in NOT_WEIGHTS
    }
    resize_pos_embed(weights, model)
    load(model, weights, source=source)
    # The one buffer that no checkpoint holds; our text tower makes its own.
    model.attn_mask = None
    return model.eval().requires_grad_(False)


def activation_of(model: CLIP) -> Activation:
    """The activation of a model's image tower."""
    block = model.visual.transformer.resblocks[0]
    return "gelu" if isinstance(block.mlp.gelu, torch.nn.GELU) else "quickgelu"
