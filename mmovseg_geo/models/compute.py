"""Where a model runs, and with which numbers."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from mmovseg_geo.errors import ConfigError

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def device_of(name: str) -> torch.device:
    """The device that `auto`, `cpu`, `cuda` or `cuda:n` means here.

    Raises:
        ConfigError: an unknown word, or a GPU that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"Unknown device {name!r}. Known: auto, cpu, cuda, cuda:0 and so on.") from error
    if device.type == "cuda":
        count = gpu_count()
        if (device.index or 0) >= count:
            found = f"{count} of them" if count else "no GPU"
            raise ConfigError(f"The device {name!r} is not there: {found} was found. Use --device cpu or auto.")
    return device


def gpu_count() -> int:
    """How many GPUs this process sees."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def dtype_of(precision: str, device: torch.device) -> torch.dtype:
    """The type that `auto`, `fp32`, `bf16` or `fp16` means on a device: `auto` is bf16 on a GPU, else fp32.

    Raises:
        ConfigError: an unknown word.
    """
    if precision == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if precision not in PRECISIONS:
        raise ConfigError(f"Unknown precision {precision!r}. Known: auto, {', '.join(PRECISIONS)}.")
    return PRECISIONS[precision]


def mixed(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Within it, products of matrices are computed in `dtype`."""
    return torch.autocast(device.type, dtype) if dtype != torch.float32 else nullcontext()


def stored_in(module: nn.Module, dtype: torch.dtype) -> None:
    """Keep the weights of matrix products and convolutions in the type that `mixed` brings them to at every call.

    The numbers are the same; it takes half of the memory and saves the conversion. The weights must not be trained.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d | nn.ConvTranspose2d | nn.MultiheadAttention):
            part.to(dtype)
