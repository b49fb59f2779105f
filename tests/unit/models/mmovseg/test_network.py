from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mmovseg_geo.models.mmovseg.network import MMOVSeg
from tests.unit.models.mmovseg.tiny import tiny_network

FAMILIES = ("dinov1", "dinov3")


@pytest.fixture(scope="module", params=FAMILIES)
def network(request: pytest.FixtureRequest) -> MMOVSeg:
    return tiny_network(request.param)


def images(height: int, width: int, batch: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Optical, SAR and two words."""
    torch.manual_seed(1)
    return torch.randn(batch, 3, height, width), torch.randn(batch, 3, height, width), torch.randn(2, 16)


@pytest.mark.parametrize("size", [(64, 64), (80, 48), (112, 128)])
@torch.no_grad()
def test_tiles_of_any_size_that_the_stride_divides(network: MMOVSeg, size: tuple[int, int]) -> None:
    optical, sar, text = images(*size)
    assert network(optical, sar, text).shape == (1, 2, size[0] // 4, size[1] // 4)


@torch.no_grad()
def test_sensors_of_different_size_meet_at_the_size_asked_for(network: MMOVSeg) -> None:
    optical, _, text = images(50, 70)
    _, sar, _ = images(64, 64)
    assert network(optical, sar, text, size=(64, 96)).shape == (1, 2, 16, 24)


def test_a_tile_that_the_stride_does_not_divide_is_refused(network: MMOVSeg) -> None:
    optical, sar, text = images(60, 64)
    with pytest.raises(ValueError, match="multiples of 16"):
        network(optical, sar, text)


@torch.no_grad()
def test_all_pixels_valid_is_the_published_network(network: MMOVSeg) -> None:
    optical, sar, text = images(64, 64)
    everywhere = torch.ones(1, 64, 64, dtype=torch.bool)
    assert torch.equal(network(optical, sar, text), network(optical, sar, text, everywhere, everywhere))


@torch.no_grad()
def test_an_absent_sensor_equals_one_that_is_invalid_everywhere(network: MMOVSeg) -> None:
    optical, sar, text = images(64, 64)
    nowhere = torch.zeros(1, 64, 64, dtype=torch.bool)
    without_optical = network(None, sar, text)
    without_sar = network(optical, None, text)
    assert without_optical.isfinite().all()
    assert torch.allclose(network(optical, sar, text, optical_valid=nowhere), without_optical, atol=1e-5)
    assert torch.allclose(network(optical, sar, text, sar_valid=nowhere), without_sar, atol=1e-5)


@torch.no_grad()
def test_both_sensors_decide(network: MMOVSeg) -> None:
    optical, sar, text = images(64, 64)
    both = network(optical, sar, text)
    assert not torch.allclose(both, network(optical, None, text), atol=1e-4)
    assert not torch.allclose(both, network(None, sar, text), atol=1e-4)


def test_no_sensor_at_all_is_refused(network: MMOVSeg) -> None:
    with pytest.raises(ValueError, match="neither"):
        network(None, None, torch.randn(2, 16))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_weight_that_is_used_learns(family: str) -> None:
    network = tiny_network(family)
    torch.nn.init.normal_(network.head.layers[0].classes.padding_tokens)
    optical, sar, _ = images(64, 64)
    text = network.text.encode(["water", "a wood"])
    network(optical, sar, text).square().sum().backward()
    last_block = f"resblocks.{len(network.optical.clip.visual.transformer.resblocks) - 1}.attn"
    silent = [
        name
        for name, weight in network.named_parameters()
        if last_block not in name and (weight.grad is None or not weight.grad.abs().sum() > 0)
    ]
    assert not silent, silent
