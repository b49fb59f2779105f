"""A registry of small files, and the files as their authors would publish them."""

from __future__ import annotations

import io
import zipfile
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from mmovseg_geo.models import registry
from mmovseg_geo.models.mmovseg.variants import PUBLISHED
from mmovseg_geo.models.registry import Entry, Source
from tests.unit.models.mmovseg.test_checkpoint import official_state
from tests.unit.models.mmovseg.tiny import tiny_params

ENCODER = {"encoder.weight": torch.arange(12.0).reshape(4, 3), "encoder.bias": torch.zeros(4)}
LAYOUT = {"encoder.weight": (4, 3)}
SENSORS = ("optical", "sar")
REPOSITORY = "someone/weights"


def entry(name: str, file: str, *, kind: str = "hub", network: str = "encoder", **more: object) -> Entry:
    source = Source(kind, REPOSITORY, file)  # type: ignore[arg-type]
    return Entry(name, "small", "a test", SENSORS, network=network, **{"source": source, **more})  # type: ignore[arg-type]


ENTRIES = {
    found.name: found
    for found in (
        entry("plain", "encoder.safetensors", licence="MIT"),
        entry("pickled", "encoder.pt", licence="MIT"),
        entry("brought", "encoder.ckpt", kind="web", licence_note="ask the authors"),
        Entry("system", "all of them", "a test", SENSORS, parts=("plain", "pickled"), wanted=("brought",)),
        entry(
            "mmovseg-vitb16-pie",
            "B16.zip",
            network="mmovseg-vitb16",
            member="modelPIE.pth",
            classes=("city", "forest"),
            evaluated=("city", "road", "forest"),
        ),
        entry("mmovseg-vitl14-pie", "L14.zip", network="mmovseg-vitl14", member="modelPIE.pth"),
    )
}


def use_small_registry(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """The entries above instead of the shipped ones, in an empty cache, for networks a few channels wide."""
    for variable in ("HF_HUB_CACHE", "HF_ASSETS_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(home))
    monkeypatch.setattr(registry, "_table", lambda: (ENTRIES, {"encoder": LAYOUT}))
    monkeypatch.setitem(PUBLISHED, "mmovseg-vitb16", tiny_params)


def plain(tensors: dict[str, Tensor] | None = None) -> bytes:
    return save(ENCODER if tensors is None else tensors)


def pickled(content: object = None) -> bytes:
    target = io.BytesIO()
    torch.save({"state_dict": ENCODER} if content is None else content, target)
    return target.getvalue()


@cache
def official() -> bytes:
    """What the training program of MM-OVSeg leaves, a few channels wide."""
    return pickled({"model": official_state("dinov1"), "optimizer": {"state": {}}, "iteration": 80000})


def archive(**members: bytes) -> bytes:
    """A zip of checkpoints; `modelPIE=...` becomes `B16/modelPIE.pth`."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as packed:
        for name, content in members.items():
            packed.writestr(f"B16/{name}.pth", content)
    return target.getvalue()
