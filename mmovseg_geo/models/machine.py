"""What torch finds to compute with on this machine."""

from __future__ import annotations

import os
import shutil
from typing import Any

import torch

from mmovseg_geo.models.compute import device_of, dtype_of

COMPILERS = ("c++", "g++", "clang++", "cl")


def compute_facts() -> dict[str, Any]:
    """The device and precision that `auto` means, GPUs, threads, and whether a network can be compiled."""
    device = device_of("auto")
    return {
        "torch": torch.__version__,
        "device": str(device),
        "precision": str(dtype_of("auto", device)).removeprefix("torch."),
        "gpus": [_gpu(index) for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0)],
        "cuda_build": torch.version.cuda,
        "threads": torch.get_num_threads(),
        "processors": os.cpu_count(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "compiler": _compiler(),
    }


def _gpu(index: int) -> dict[str, Any]:
    about = torch.cuda.get_device_properties(index)
    return {"name": about.name, "memory_mb": round(about.total_memory / 2**20), "bf16": torch.cuda.is_bf16_supported()}


def _compiler() -> str | None:
    """What `compile=true` would compile with, or None."""
    asked = os.environ.get("CXX")
    return next((name for name in (asked, *COMPILERS) if name and shutil.which(name)), None)
