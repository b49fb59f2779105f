"""Our networks against recorded arrays of the reference, for every fixture file of a folder."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.parity.discovery import ABSENT, name_of
from tests.parity.fixture import Fixture, discover
from tests.parity.reference import (
    bfloat16_agreement,
    dino_tensors,
    head_tensors,
    network_tensors,
    scores_on,
)

LARGE = 512
"""Encoders at least this wide make a case slow: it fills and runs up to a billion parameters."""

MAKERS = {"eval": network_tensors, "decoder": head_tensors, "dino": dino_tensors}
ON_GPU = pytest.param(
    "cuda",
    marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device was found")],
)


def cases(*modes: str) -> list[pytest.ParameterSet]:
    """Every recorded case of these modes, or of those that no other test knows."""
    found = [
        pytest.param(fixture, id=name_of(fixture.path), marks=marks(fixture))
        for fixture in discover()
        if fixture.meta["mode"] in modes or (not modes and fixture.meta["mode"] != "train")
    ]
    missing = pytest.mark.skip(reason=f"fixtures of MM-OVSeg: {ABSENT}")
    return found or [pytest.param(None, id="none", marks=missing)]


def marks(fixture: Fixture) -> list[pytest.MarkDecorator]:
    mode = fixture.meta["mode"]
    if mode not in (*MAKERS, "train"):
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


@pytest.mark.parametrize("device", ["cpu", ON_GPU])
@pytest.mark.parametrize("fixture", cases("eval"))
def test_bfloat16_finds_the_clear_winners_of_float32(fixture: Fixture, device: str) -> None:
    if len(fixture.meta["classes"]) == 1:
        pytest.skip("of a single class nothing else can win")
    if device == "cpu" and marks(fixture) and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this processor has no bfloat16 arithmetic: a network of full size would take many minutes")
    assert bfloat16_agreement(fixture, device, apart=0.01) >= 0.99


@pytest.mark.parametrize("device", [ON_GPU])
@pytest.mark.parametrize("fixture", cases("eval"))
def test_a_gpu_gives_the_recorded_scores(fixture: Fixture, device: str) -> None:
    expected = fixture.recorded()
    for name, ours in scores_on(fixture, device).items():
        about = fixture.meta["tensors"][name]
        off = np.abs(ours.reshape(-1)[:: about["stride"]] - expected[name]).max()
        assert off <= 10 * 1e-4 * max(1.0, about["std"]), name


@pytest.fixture(autouse=True)
def _full_precision() -> None:
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
