"""Recorded arrays of the reference method: reading them and rebuilding what they were made from.

The format is described by the README beside the fixture files.
"""

from __future__ import annotations

import json
import math
import zlib
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tests.parity.discovery import files

TOKENS = ("cls_token", "pos_embed", "storage_tokens", "mask_token", "padding_tokens", "padding_guidance")
TABLES = ("class_embedding", "positional_embedding", "token_embedding.weight")
PROJECTIONS = tuple(f"attn.{name}" for name in ("q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"))
GAINS = (
    ("clip_model.transformer.", PROJECTIONS, 2),
    ("predictor.transformer.", (".conv1.weight", ".conv2.weight"), 32),
    ("predictor.transformer.", (".fusion_corr.weight",), 4),
    ("predictor.transformer.", (".head.weight",), 2),
)


def raw(seed: int, key: str, count: int) -> np.ndarray:
    """`count` uint64 of the stream that belongs to a key."""
    return np.random.PCG64((seed << 32) | zlib.crc32(key.encode())).random_raw(count)


def unit(seed: int, key: str, shape: tuple[int, ...]) -> np.ndarray:
    """float32 in [-1, 1)."""
    values = (raw(seed, key, math.prod(shape)) >> np.uint64(40)).astype(np.float32)
    values *= np.float32(2**-23)
    values -= np.float32(1)
    return values.reshape(shape)


def weight(seed: int, key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The seeded value of one entry of the reference state dict."""
    values = unit(seed, key, shape)
    if key.endswith((*TOKENS, *TABLES)):
        return np.float32(0.5) * values
    if key.endswith(".gamma"):
        return np.float32(0.3) + np.float32(0.1) * values
    if len(shape) == 1:
        if key.endswith("weight"):
            return np.float32(1) + np.float32(0.2) * values
        return np.float32(0.1) * values
    gain = next((gain for part, ends, gain in GAINS if part in key and key.endswith(ends)), 1)
    values *= np.float32(gain * math.sqrt(3 / math.prod(shape[1:])))
    return values


def image(seed: int, key: str, bands: int, size: tuple[int, int]) -> np.ndarray:
    """uint8 (bands, height, width): a coarse pattern under fine noise."""
    height, width = size
    rows, cols = -(-height // 16), -(-width // 16)
    coarse = (raw(seed, f"{key}/coarse", bands * rows * cols) >> np.uint64(56)).reshape(bands, rows, cols)
    coarse = coarse.repeat(16, axis=1).repeat(16, axis=2)[:, :height, :width]
    fine = (raw(seed, f"{key}/fine", bands * height * width) >> np.uint64(56)).reshape(bands, height, width)
    return ((3 * coarse.astype(int) + fine.astype(int)) // 4).astype(np.uint8)


@dataclass(frozen=True)
class Fixture:
    """One recorded case."""

    path: Path

    @cached_property
    def meta(self) -> dict[str, Any]:
        """How the case was made; empty for a file of another kind."""
        with np.load(self.path) as file:
            found: dict[str, Any] = json.loads(str(file["meta"])) if "meta" in file else {}
        return found

    @property
    def seed(self) -> int:
        return int(self.meta["seed"])

    @property
    def size(self) -> tuple[int, int]:
        height, width = self.meta.get("size", (384, 384))
        return height, width

    @property
    def sar_size(self) -> tuple[int, int]:
        height, width = self.meta.get("sar_size", self.size)
        return height, width

    @property
    def out(self) -> tuple[int, int]:
        height, width = self.meta.get("out", self.size)
        return height, width

    def images(self, sensor: str, bands: int, size: tuple[int, int]) -> np.ndarray:
        """float32 (batch, bands, height, width) in 0..255."""
        stream = self.meta["input"]
        batch = range(self.meta["batch"])
        return np.stack([image(self.seed, f"{stream}/{b}/{sensor}", bands, size) for b in batch]).astype(np.float32)

    def features(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Seeded features of spread 1."""
        return np.float32(math.sqrt(3)) * unit(self.seed, f"{self.meta['input']}/{name}", shape)

    def recorded(self) -> dict[str, np.ndarray]:
        """What was stored of each tensor: every `stride`-th value in C order."""
        with np.load(self.path) as file:
            return {name: file[name] for name in self.meta["tensors"]}

    def deviations(self, tensors: dict[str, np.ndarray]) -> dict[str, tuple[float, float]]:
        """For each recorded tensor: largest absolute deviation of ours, and what is allowed.

        The stored values are compared, and mean, minimum and maximum of the whole tensor.
        """
        found = {}
        for name, expected in self.recorded().items():
            about = self.meta["tensors"][name]
            ours = tensors[name]
            assert list(ours.shape) == about["shape"], f"{name}: {ours.shape} instead of {about['shape']}"
            difference = np.abs(ours.reshape(-1)[:: about["stride"]].astype(np.float64) - expected)
            if about["dtype"] == "int32":
                found[name] = (float(difference.max()), 0.0)
                continue
            summary = (ours.mean(dtype=np.float64), ours.min(), ours.max())
            off = [abs(float(value) - about[of]) for value, of in zip(summary, ("mean", "min", "max"), strict=True)]
            found[name] = (max(float(difference.max()), *off), 1e-4 * max(1.0, about["std"]))
        return found


@cache
def discover() -> tuple[Fixture, ...]:
    """Every fixture file that says how it was made."""
    return tuple(fixture for fixture in map(Fixture, files(".npz")) if "mode" in fixture.meta)
