"""From a trained network to the file that is given away."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from mmovseg_geo.training.recipe import Recipe


def write_weights(path: Path, network: nn.Module, recipe: Recipe) -> None:
    """Half-precision weights with what must be known to use them: variant, classes, licence, data, recipe."""
    state = {
        name: value.to(torch.float16 if value.dtype.is_floating_point else value.dtype).contiguous().clone()
        for name, value in network.state_dict().items()
    }
    metadata = {
        "variant": "mmovseg-compact",
        "classes": json.dumps(recipe.classes),
        "licence": recipe.licence,
        "sources": json.dumps(recipe.sources),
        "recipe_sha256": recipe.digest,
    }
    partial = path.with_suffix(".partial")
    save_file(state, partial, metadata=metadata)
    partial.replace(path)
