from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mmovseg_geo.models.mmovseg.aggregator import (
    AxisWindows,
    ClassAttention,
    WindowAttention,
    axis_windows,
)
from tests.unit.models.mmovseg.tiny import HEAD


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def test_a_grid_of_24_has_the_published_windows() -> None:
    assert axis_windows(24, 12, shifted=False) == AxisWindows(size=12, number=2, shift=0)
    assert axis_windows(24, 12, shifted=True) == AxisWindows(size=12, number=2, shift=6)


@pytest.mark.parametrize("length", [1, 5, 12, 13, 20, 25, 32, 97])
def test_windows_cover_an_axis_with_less_padding_than_windows(length: int) -> None:
    windows = axis_windows(length, 12, shifted=True)
    assert windows.size <= 12
    assert 0 <= windows.padded - length < windows.number


def test_a_single_window_is_not_shifted() -> None:
    assert axis_windows(12, 12, shifted=True).shift == 0


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("shape", [(8, 8), (10, 7), (3, 9), (1, 1)])
def test_window_attention_is_attention_among_the_real_cells_of_each_window(
    shape: tuple[int, int], shifted: bool
) -> None:
    attention = WindowAttention(16, 8, 2, 4, shifted=shifted)
    x, guidance = torch.randn(2, 3, *shape, 16), torch.randn(2, *shape, 8)
    expected = _attention_cell_by_cell(attention, x, guidance)
    assert torch.allclose(attention(x, guidance), expected, atol=1e-5)


def _attention_cell_by_cell(attention: WindowAttention, x: Tensor, guidance: Tensor) -> Tensor:
    """Every pair of cells that shares a rolled window, minus 100 where the roll brought the pair together."""
    _, num_classes, height, width, dim = x.shape
    y = torch.cat([x, guidance[:, None].expand(-1, num_classes, -1, -1, -1)], dim=-1).flatten(2, 3)
    heads = (2, dim // 2)
    q, k = (layer(y).unflatten(-1, heads) for layer in (attention.q, attention.k))
    v = attention.v(x.flatten(2, 3)).unflatten(-1, heads)
    scores = torch.einsum("btqnd,btknd->btnqk", q, k) / (dim // 2) ** 0.5
    rows = axis_windows(height, attention.window, shifted=attention.shifted)
    cols = axis_windows(width, attention.window, shifted=attention.shifted)
    for i, a in enumerate((r, c) for r in range(height) for c in range(width)):
        for j, b in enumerate((r, c) for r in range(height) for c in range(width)):
            scores[..., i, j] += sum(_pair_score(axis, a[n], b[n]) for n, axis in enumerate((rows, cols)))
    weights = scores.masked_fill(scores < -1e3, -torch.inf).softmax(dim=-1)
    out = torch.einsum("btnqk,btknd->btqnd", weights, v).flatten(-2)
    return attention.proj(out).unflatten(2, (height, width))


def _pair_score(axis: AxisWindows, a: int, b: int) -> float:
    rolled_a, rolled_b = ((cell - axis.shift) % axis.padded for cell in (a, b))
    if rolled_a // axis.size != rolled_b // axis.size:
        return -1e4
    across_the_edge = (a < axis.shift) != (b < axis.shift) and rolled_a // axis.size == axis.number - 1
    return -100.0 if across_the_edge else 0.0


def test_constant_class_padding_equals_appended_copies() -> None:
    attention = ClassAttention(HEAD)
    torch.nn.init.normal_(attention.padding_tokens)
    torch.nn.init.normal_(attention.padding_guidance)
    n, guidance = torch.randn(2, 3, 4, 4, 16), torch.randn(2, 3, 8)
    copies = HEAD.padded_classes - 3
    padding = attention.norm1(attention.padding_tokens).expand(2, copies, 4, 4, -1)
    padded = torch.cat([n, padding], dim=1)
    padded_guidance = torch.cat([guidance, attention.padding_guidance.expand(2, copies, -1)], dim=1)
    expected = _linear_attention(attention, padded, padded_guidance)[:, :3]
    assert torch.allclose(attention._attend(n, guidance), expected, atol=1e-5)


def _linear_attention(attention: ClassAttention, n: Tensor, guidance: Tensor) -> Tensor:
    num_classes = n.shape[1]
    both = torch.cat([n, guidance[:, :, None, None].expand(*n.shape[:-1], -1)], dim=-1)
    heads = (attention.num_heads, -1)
    q, k = (F.elu(layer(both).unflatten(-1, heads)) + 1 for layer in (attention.q, attention.k))
    v = attention.v(n).unflatten(-1, heads) / num_classes
    context = torch.einsum("bthwnd,bthwne->bhwnde", k, v)
    weight = torch.einsum("bthwnd,bhwnd->bthwn", q, k.sum(dim=1)) + 1e-6
    return (torch.einsum("bthwnd,bhwnde->bthwne", q, context) / weight[..., None] * num_classes).flatten(-2)


def test_classes_beyond_the_padding_take_part() -> None:
    attention = ClassAttention(HEAD)
    n, guidance = torch.randn(1, 11, 4, 4, 16), torch.randn(1, 11, 8)
    assert torch.allclose(attention._attend(n, guidance), _linear_attention(attention, n, guidance), atol=1e-5)


def test_a_model_without_class_padding_has_no_padding_weights() -> None:
    attention = ClassAttention(replace(HEAD, padded_classes=0))
    assert not [name for name, _ in attention.named_parameters() if "padding" in name]
    assert attention(torch.randn(1, 2, 4, 4, 16), torch.randn(1, 2, 8)).isfinite().all()


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (4, 6)])
def test_class_attention_keeps_any_grid(shape: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *shape, 16)
    assert ClassAttention(HEAD)(x, torch.randn(2, 3, 8)).shape == x.shape


def test_the_last_odd_row_is_pooled_too() -> None:
    attention = ClassAttention(HEAD)
    x = torch.zeros(1, 2, 5, 4, 16)
    x[:, :, 4] = torch.randn(16)
    assert not torch.allclose(attention._pool(x)[:, :, 2], torch.zeros(1))
