"""Where a model runs, and with which numbers."""

from __future__ import annotations

import pytest
import torch

from mmovseg_geo.errors import ConfigError
from mmovseg_geo.models.compute import device_of, dtype_of, mixed, stored_in
from tests.unit.models.mmovseg.tiny import HEAD, tiny_network


def test_the_processor_is_always_there() -> None:
    assert device_of("cpu") == torch.device("cpu")
    assert dtype_of("auto", torch.device("cpu")) == torch.float32


def test_a_gpu_is_preferred_and_computes_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_of("auto") == torch.device("cuda")
    assert dtype_of("auto", torch.device("cuda")) == torch.bfloat16


def test_a_gpu_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="'cuda:1' is not there: no GPU was found"):
        device_of("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert device_of("cuda:0") == torch.device("cuda:0")
    with pytest.raises(ConfigError, match="'cuda:1' is not there: 1 of them"):
        device_of("cuda:1")


def test_other_words_are_errors() -> None:
    with pytest.raises(ConfigError, match="Unknown device 'gpu'"):
        device_of("gpu")
    with pytest.raises(ConfigError, match=r"Unknown precision 'half'\. Known: auto, fp32"):
        dtype_of("half", torch.device("cpu"))


@torch.inference_mode()
def test_weights_stored_in_a_precision_give_what_autocast_gives() -> None:
    torch.manual_seed(0)
    device = torch.device("cpu")
    network = tiny_network()
    optical, sar = torch.randn(2, 2, 3, 64, 64).unbind()
    text = torch.randn(3, HEAD.text_dim)
    with mixed(device, torch.bfloat16):
        expected = network(optical, sar, text)
        for part in (network.optical, network.sar, network.adapters):
            stored_in(part, torch.bfloat16)
        assert network(optical, sar, text).equal(expected)
    assert network.optical.dino.vit.blocks[0].mlp.fc1.weight.dtype == torch.bfloat16
