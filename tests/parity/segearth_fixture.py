"""Recorded arrays of SegEarth-OV: reading them and rebuilding the weights they were made with.

The format is described by the README beside the fixture files.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from open_clip import CLIP, get_model_config
from torch import Tensor, nn

from mmovseg_geo.models.clip import with_weights
from tests.parity.discovery import ABSENT, files, name_of

SETTINGS = "meta.json"
"""Of all files of a folder."""


def seeded(salt: str, key: str, shape: tuple[int, ...]) -> Tensor:
    """The value of one entry of a state dict, made from its own key."""
    raw = np.random.PCG64(zlib.crc32(f"{salt}/{key}".encode())).random_raw(math.prod(shape))
    x = (2 * ((raw >> np.uint64(11)) * 2.0**-53) - 1) * math.sqrt(3)
    last = key.rsplit(".", 1)[-1]
    if len(shape) >= 2:
        x /= math.sqrt(math.prod(shape[1:]))
        x *= {"visual.positional_embedding": 4.0, "positional_embedding": 0.1, "token_embedding.weight": 0.1}.get(
            key, 1
        )
    elif last == "range_temp":
        x *= 0.3
    elif last == "logit_scale":
        x = np.full_like(x, math.log(1 / 0.07))
    elif last == "class_embedding":
        x *= 0.2
    elif last in ("weight", "sigma_spatial"):
        x = 1 + 0.1 * x
    else:
        x *= 0.05
    return torch.from_numpy(x.reshape(shape).astype(np.float32))


def fill(module: nn.Module, salt: str, prefix: str = "") -> nn.Module:
    """The module with seeded weights, for inference."""
    shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    module.load_state_dict({key: seeded(salt, prefix + key, shape) for key, shape in shapes.items()}, assign=True)
    return module.eval().requires_grad_(False)


@lru_cache(maxsize=2)
@torch.inference_mode(False)
def seeded_state(salt: str, config: str) -> Mapping[str, Tensor]:
    """The weights of a CLIP; `config` is what open_clip would find in a file of its own, as JSON."""
    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in CLIP(**json.loads(config)).state_dict().items()}
    return {key: seeded(salt, key, shape) for key, shape in shapes.items()}


@lru_cache(maxsize=4)
@torch.inference_mode(False)
def seeded_clip(salt: str, config: str, quick_gelu: bool) -> CLIP:
    """CLIP with seeded weights, which those of either activation share."""
    return with_weights({**json.loads(config), "quick_gelu": quick_gelu}, seeded_state(salt, config))


@dataclass(frozen=True)
class Recorded:
    """One fixture file and the settings of its folder."""

    path: Path

    @cached_property
    def meta(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.path.parent / SETTINGS).read_text(encoding="utf-8"))
        return found

    @cached_property
    def arrays(self) -> Mapping[str, np.ndarray]:
        with np.load(self.path) as file:
            return {name: file[name] for name in file.files}

    @property
    def marks(self) -> list[pytest.MarkDecorator]:
        """Filling and running a full-size model takes seconds; the settings' tiny one takes none."""
        tiny = self.meta["tiny"]["embed_dim"]
        return [] if any(tiny in array.shape for array in self.arrays.values()) else [pytest.mark.slow]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    @property
    def salt(self) -> str:
        return str(self.meta["salt"])

    def model(self, channels: int, *, quick_gelu: bool = True) -> CLIP:
        """The model whose vectors have so many channels: `tiny` of the settings, or ViT-B/16."""
        tiny = self.meta["tiny"]
        config = tiny if channels == tiny["embed_dim"] else get_model_config("ViT-B-16")
        assert config["embed_dim"] == channels, f"no model of {channels} channels is known"
        return seeded_clip(self.salt, json.dumps(config), quick_gelu)

    def quick_gelu(self, name: str) -> bool:
        """Whether an array comes from a model with QuickGELU: as its name says, else by whether the image is SAR."""
        if name.startswith(("gelu.", "quickgelu.")):
            return name.startswith("quickgelu.")
        return "query_idx" not in self.arrays or self.words(len(self["query_idx"])) == self.words_of("classes")

    def words_of(self, classes: str) -> list[str]:
        """Query words of a class list of the settings."""
        return [word.strip() for line in self.meta[classes] for word in line.split(",")]

    def words(self, groups: int) -> list[str]:
        """Query words of the class list that has so many words."""
        for found in map(self.words_of, ("classes", "sar_classes")):
            if len(found) == groups:
                return found
        raise AssertionError(f"{self.path.name}: no class list has {groups} words")

    def beside(self, array: str) -> Recorded:
        """The file of the same folder that records an array; the test is skipped where none does."""
        found = next(
            (file for file in recorded() if file.path.parent == self.path.parent and array in file.arrays), None
        )
        return found or pytest.skip(f"no file beside {self.path} records {array}")

    def image(self, name: str = "image") -> Tensor:
        """(1, 3, H, W) float32 in 0..255; cut from the real scene where it was not stored."""
        return torch.from_numpy(self[name].astype(np.float32)).permute(2, 0, 1)[None]


def compared(ours: Any, expected: np.ndarray, *, atol: float, rtol: float = 0.0) -> str:
    """What is wrong with an array of ours, or nothing."""
    found = np.asarray(ours)
    if found.shape != expected.shape:
        return f"shape {found.shape} instead of {expected.shape}"
    off = np.abs(found.astype(np.float64) - expected)
    worst = float(np.max(off - (atol + rtol * np.abs(expected))))
    return "" if worst <= 0 else f"off by {float(off.max()):.3g}, {worst:.3g} more than allowed"


def feature_error(ours: Any, expected: np.ndarray) -> str:
    """Features, upsampled maps and text vectors: within 1e-4 + 1e-4 of the value."""
    return compared(ours, expected, atol=1e-4, rtol=1e-4)


@cache
def recorded() -> tuple[Recorded, ...]:
    """Every fixture file beside settings with a salt."""
    folders = {path.parent for path in files(SETTINGS) if "salt" in json.loads(path.read_text(encoding="utf-8"))}
    return tuple(Recorded(path) for path in files(".npz") if path.parent in folders)


def discover(asks: Callable[[str], bool]) -> list[pytest.ParameterSet]:
    """Every fixture file with an array whose name `asks` wants."""
    missing = pytest.mark.skip(reason=f"fixtures of SegEarth-OV: {ABSENT}")
    found = [
        pytest.param(file, id=name_of(file.path), marks=file.marks)
        for file in recorded()
        if any(map(asks, file.arrays))
    ]
    return found or [pytest.param(None, id="none", marks=missing)]
