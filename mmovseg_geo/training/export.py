"""From a trained network to the file that is given away."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mmovseg_geo.models.weights import packed
from mmovseg_geo.training.recipe import Recipe

TOKEN_TABLE = "text.tokens.weight"


def write_weights(path: Path, network: nn.Module, recipe: Recipe) -> None:
    """The weights that a recipe gave, and what must be known to use them."""
    about = {
        "classes": json.dumps(recipe.classes),
        "licence": recipe.licence,
        "sources": json.dumps(recipe.sources),
        "recipe_sha256": recipe.digest,
    }
    write_compact(path, network, about)


def write_compact(path: Path, network: nn.Module, about: Mapping[str, str]) -> None:
    """Half-precision weights of a compact network, the token table in bytes, and what is told about them."""
    state: dict[str, Tensor] = {}
    for name, value in network.state_dict().items():
        if name == TOKEN_TABLE:
            state |= packed(name, value)
        else:
            state[name] = value.to(torch.float16 if value.is_floating_point() else value.dtype).contiguous().clone()
    partial = path.with_suffix(".partial")
    save_file(state, partial, metadata={"variant": "mmovseg-compact", **about})
    partial.chmod(0o644)  # safetensors makes files that only their owner reads
    partial.replace(path)
