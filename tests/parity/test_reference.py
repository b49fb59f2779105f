"""Our networks against recorded arrays of the reference, for every fixture file of a folder."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import torch

from tests.conftest import shared_folder
from tests.parity.fixture import Fixture, discover
from tests.parity.reference import dino_tensors, head_tensors, network_tensors

FIXTURES = Path(os.environ.get("MMOVSEG_FIXTURES", shared_folder() / "fixtures"))
FOLDER = FIXTURES / "mm-ovseg" if (FIXTURES / "mm-ovseg").is_dir() else FIXTURES
LARGE = 512
"""Encoders at least this wide make a case slow: it fills and runs up to a billion parameters."""

MAKERS = {"eval": network_tensors, "decoder": head_tensors, "dino": dino_tensors}


def cases() -> list[pytest.ParameterSet]:
    found = [pytest.param(fixture, id=fixture.path.stem, marks=marks(fixture)) for fixture in discover(FOLDER)]
    missing = pytest.mark.skip(reason=f"no fixtures in {FOLDER}; set MMOVSEG_FIXTURES or MMOVSEG_SHARED")
    return found or [pytest.param(None, id="none", marks=missing)]


def marks(fixture: Fixture) -> list[pytest.MarkDecorator]:
    mode = fixture.meta["mode"]
    if mode == "train":
        return [pytest.mark.skip(reason="losses and gradients belong to training")]
    if mode not in MAKERS:
        return [pytest.mark.skip(reason=f"unknown mode {mode!r}")]
    model = fixture.meta["model"]
    width = model.get("dino", model).get("embed_dim", 0)
    return [pytest.mark.slow] if mode != "decoder" and width >= LARGE else []


@pytest.mark.parametrize("fixture", cases())
def test_every_recorded_tensor_is_met(fixture: Fixture) -> None:
    tensors = MAKERS[fixture.meta["mode"]](fixture)
    deviations = fixture.deviations(tensors)
    assert deviations, f"{fixture.path.name} records nothing"
    failed = [
        f"{name}: off by {found:.3g}, allowed {allowed:.3g}"
        for name, (found, allowed) in deviations.items()
        if math.isnan(found) or found > allowed
    ]
    assert not failed, "\n".join(failed)


@pytest.fixture(autouse=True)
def _full_precision() -> None:
    torch.set_float32_matmul_precision("highest")
