"""Ours and the plain formulation that it is measured against give the same numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mmovseg_geo.models.mmovseg.build import build
from mmovseg_geo.models.mmovseg.head import CostHead
from tests.benchmarks import plain
from tests.unit.models.mmovseg.tiny import HEAD, tiny_params

PARAMS = replace(HEAD, num_layers=2, padded_classes=16)


def randomized(module: torch.nn.Module) -> torch.nn.Module:
    """Weights that all matter: fresh norms and padding would hide a missing step."""
    torch.manual_seed(3)
    for value in module.parameters():
        value.data += 0.3 * torch.randn_like(value) if value.ndim < 2 or value.shape[0] == 1 else 0.0
    return module.eval().requires_grad_(False)


@pytest.mark.parametrize("classes", [1, 5, 16, 20])
def test_head_gives_the_plain_numbers(classes: int) -> None:
    module = randomized(CostHead(PARAMS))
    clip_dense, dense = torch.randn(2, 2, PARAMS.text_dim, 8, 8).unbind()
    guidance = [[torch.randn(2, dim, 16 << i, 16 << i) for i, dim in enumerate(PARAMS.guidance_dims)] for _ in "cd"]
    text = torch.randn(classes, PARAMS.text_dim)
    expected = plain.head(module, clip_dense, dense, text, *guidance)
    found = module(clip_dense, dense, text, *map(tuple, guidance))
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


def test_network_gives_the_plain_numbers() -> None:
    params = replace(tiny_params(), head=PARAMS, native_size=128)
    model = randomized(build(params))
    optical, sar = torch.randn(2, 2, 3, 128, 128).unbind()
    text = torch.randn(3, PARAMS.text_dim)
    expected = plain.network(model, optical, sar, text)  # type: ignore[arg-type]
    torch.testing.assert_close(model(optical, sar, text), expected, atol=2e-5, rtol=1e-5)
