"""Convolutions by frequencies give the numbers of plain ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmovseg_geo.models.mmovseg.head import CostHead
from mmovseg_geo.models.mmovseg.spectral import SpectralConv, by_frequencies
from tests.unit.models.mmovseg.tiny import HEAD


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kernel", [5, 7])
@pytest.mark.parametrize("grid", [(24, 24), (5, 9), (3, 2), (1, 1)])
def test_any_grid_has_the_numbers_of_the_convolution(grid: tuple[int, int], kernel: int, bias: bool) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 4, kernel, padding=kernel // 2, bias=bias).requires_grad_(False)
    x = torch.randn(3, 6, *grid)
    torch.testing.assert_close(SpectralConv(conv)(x), conv(x), atol=2e-6, rtol=1e-5)


def test_another_grid_gets_weights_of_its_own() -> None:
    conv = nn.Conv2d(2, 3, 7, padding=3).requires_grad_(False)
    spectral = SpectralConv(conv)
    for grid in ((8, 8), (6, 9), (8, 8)):
        x = torch.randn(1, 2, *grid)
        torch.testing.assert_close(spectral(x), conv(x), atol=2e-6, rtol=1e-5)


def test_other_precisions_take_the_convolution_itself() -> None:
    conv = nn.Conv2d(2, 3, 7, padding=3).requires_grad_(False).bfloat16()
    x = torch.randn(1, 2, 8, 8, dtype=torch.bfloat16)
    assert SpectralConv(conv)(x).equal(conv(x))


def test_a_head_made_so_gives_its_numbers() -> None:
    torch.manual_seed(0)
    head = CostHead(HEAD).eval().requires_grad_(False)
    dense = torch.randn(2, HEAD.text_dim, 8, 8)
    guidance = tuple(torch.randn(2, dim, 16 << i, 16 << i) for i, dim in enumerate(HEAD.guidance_dims))
    inputs = (dense, dense.flip(-1), torch.randn(3, HEAD.text_dim), guidance, guidance)
    expected = head(*inputs)
    assert isinstance(by_frequencies(head).fusion.fuse, SpectralConv)
    torch.testing.assert_close(head(*inputs), expected, atol=1e-5, rtol=1e-5)
