"""Aggregation of the cost volume: over space in windows, then over classes.

Shape suffixes: B batch, T classes, H rows, W columns, C channels of the cost, A appearance and G text guidance
channels, h w pooled rows and columns, N heads (cells of a window in `W`, windows), D channels of a head, E of a value.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from mmovseg_geo.models.mmovseg.chunks import by_class
from mmovseg_geo.models.mmovseg.params import HeadParams

OTHER_REGION = -100.0  # the published score of a pair that the roll brought together; not minus infinity
PADDED_KEY = -1e4  # exactly zero after the softmax, yet finite, so that a row of nothing else is no NaN


class AxisWindows(NamedTuple):
    """How one axis of the cost grid is cut into windows."""

    size: int
    number: int
    shift: int

    @property
    def padded(self) -> int:
        return self.size * self.number


def axis_windows(length: int, longest: int, *, shifted: bool) -> AxisWindows:
    """The fewest windows no longer than `longest`, as equal as possible; a single one is never shifted.

    24 cells in windows of 12 are the published 2 x 12; 32 cells become 3 x 11 with one padded cell.
    """
    number = -(-length // longest)
    size = -(-length // number)
    return AxisWindows(size, number, size // 2 if shifted and number > 1 else 0)


def window_scores(rows: AxisWindows, cols: AxisWindows, shape: tuple[int, int], device: torch.device) -> Tensor | None:
    """Additive attention scores (windows, size, size) between the cells of each window, or None for all zero."""
    height, width = shape
    if not (rows.shift or cols.shift or rows.padded > height or cols.padded > width):
        return None

    def cells(axis: AxisWindows, length: int) -> tuple[Tensor, Tensor]:
        rolled = torch.arange(axis.padded, device=device)
        bands = (rolled >= axis.padded - axis.size).long() + (rolled >= axis.padded - axis.shift).long()
        is_padding = (rolled + axis.shift) % axis.padded >= length
        return bands * bool(axis.shift), is_padding

    (row_bands, row_padding), (col_bands, col_padding) = cells(rows, height), cells(cols, width)
    cut = {"nh": rows.number, "nw": cols.number}
    regions = rearrange(3 * row_bands[:, None] + col_bands, "(nh h) (nw w) -> (nh nw) (h w)", **cut)
    padding = rearrange(row_padding[:, None] | col_padding, "(nh h) (nw w) -> (nh nw) (h w)", **cut)
    scores = (regions[:, :, None] != regions[:, None, :]) * OTHER_REGION
    return scores.masked_fill(padding[:, None, :], PADDED_KEY)


def cut(x_BTHWC: Tensor, rows: AxisWindows, cols: AxisWindows) -> Tensor:
    """Windows (B, T, W, N, C) of a grid, rolled if they are shifted, zeros in cells beyond its end."""
    height, width = x_BTHWC.shape[2:4]
    if rows.padded > height or cols.padded > width:
        x_BTHWC = F.pad(x_BTHWC, (0, 0, 0, cols.padded - width, 0, rows.padded - height))
    if rows.shift or cols.shift:
        x_BTHWC = torch.roll(x_BTHWC, (-rows.shift, -cols.shift), dims=(2, 3))
    return rearrange(x_BTHWC, "b t (nh h) (nw w) c -> b t (nh nw) (h w) c", nh=rows.number, nw=cols.number)


def joined(x_BTWNC: Tensor, rows: AxisWindows, cols: AxisWindows, shape: tuple[int, int]) -> Tensor:
    """The grid (B, T, H, W, C) of `shape` that `cut` made windows of."""
    x = rearrange(x_BTWNC, "b t (nh nw) (h w) c -> b t (nh h) (nw w) c", nh=rows.number, h=rows.size)
    if rows.shift or cols.shift:
        x = torch.roll(x, (rows.shift, cols.shift), dims=(2, 3))
    return x[:, :, : shape[0], : shape[1]]


class WindowAttention(nn.Module):
    """Attention among the cells of a window; the guidance is part of queries and keys, not of values.

    A linear layer of `concat(x, guidance)` is the sum of two: the part of the guidance, which is the same for every
    class of an image, is computed once per image.
    """

    def __init__(self, dim: int, guidance_dim: int, num_heads: int, window: int, *, shifted: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window = window
        self.shifted = shifted
        self.q = nn.Linear(dim + guidance_dim, dim)
        self.k = nn.Linear(dim + guidance_dim, dim)
        self.v = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x_BTHWC: Tensor, guidance_BHWA: Tensor) -> Tensor:
        height, width = shape = x_BTHWC.shape[2], x_BTHWC.shape[3]
        rows = axis_windows(height, self.window, shifted=self.shifted)
        cols = axis_windows(width, self.window, shifted=self.shifted)
        x_BTWNC = cut(x_BTHWC, rows, cols)
        guided_BWNC = cut(self._of_guidance(guidance_BHWA)[:, None], rows, cols)[:, 0]
        qkv = F.linear(x_BTWNC, *self._of_x(x_BTHWC.shape[-1]))
        qkv[..., : guided_BWNC.shape[-1]] += guided_BWNC[:, None]
        q, k, v = rearrange(qkv, "b t w n (qkv heads d) -> qkv (b t w) heads n d", qkv=3, heads=self.num_heads)
        scores = window_scores(rows, cols, shape, x_BTHWC.device)
        if scores is not None:
            scores = repeat(scores.to(q.dtype), "w q k -> (bt w) 1 q k", bt=len(q) // len(scores))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=scores)
        y = self.proj(rearrange(y, "btw heads n d -> btw n (heads d)"))
        return joined(y.view(*x_BTWNC.shape[:-1], -1), rows, cols, shape)

    def _of_x(self, dim: int) -> tuple[Tensor, Tensor]:
        """Weight and bias that make queries, keys and values of x; the first two get the guidance added."""
        no_bias = self.v.bias.new_zeros(self.q.out_features + self.k.out_features)
        weight = torch.cat([self.q.weight[:, :dim], self.k.weight[:, :dim], self.v.weight])
        return weight, torch.cat([no_bias, self.v.bias])

    def _of_guidance(self, guidance_BHWA: Tensor) -> Tensor:
        dim = self.q.in_features - guidance_BHWA.shape[-1]
        weight = torch.cat([self.q.weight[:, dim:], self.k.weight[:, dim:]])
        return F.linear(guidance_BHWA, weight, torch.cat([self.q.bias, self.k.bias]))


class WindowBlock(nn.Module):
    """Pre-norm window attention and MLP."""

    def __init__(self, params: HeadParams, *, shifted: bool) -> None:
        super().__init__()
        dim = params.hidden_dim
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, params.appearance_dim, params.num_heads, params.window, shifted=shifted)
        self.norm2 = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, params.mlp_ratio * dim)
        self.fc2 = nn.Linear(params.mlp_ratio * dim, dim)

    def forward(self, x_BTHWC: Tensor, guidance_BHWA: Tensor) -> Tensor:
        x = x_BTHWC + self.attn(self.norm1(x_BTHWC), guidance_BHWA)
        out: Tensor = x + self.fc2(F.gelu(self.fc1(self.norm2(x))))
        return out


class SpatialAggregation(nn.Module):
    """Two window blocks, the second with its windows shifted by half, each class by itself."""

    def __init__(self, params: HeadParams) -> None:
        super().__init__()
        self.guidance_norm = nn.LayerNorm(params.appearance_dim)
        self.block_1 = WindowBlock(params, shifted=False)
        self.block_2 = WindowBlock(params, shifted=True)

    def forward(self, x_BTHWC: Tensor, appearance_BHWA: Tensor) -> Tensor:
        guidance_BHWA = self.guidance_norm(appearance_BHWA)
        out: Tensor = self.block_2(self.block_1(x_BTHWC, guidance_BHWA), guidance_BHWA)
        return out


class ClassAttention(nn.Module):
    """Linear attention among the classes of each pooled cell.

    The published model fills the classes up to 256 with copies of one learned class. Copies share key and value, so
    one of them stands for all, weighted by their number; what they would receive is dropped anyway.
    """

    def __init__(self, params: HeadParams) -> None:
        super().__init__()
        dim = params.hidden_dim
        self.num_heads = params.num_heads
        self.pooling = params.pooling
        self.padded_classes = params.padded_classes
        self.norm1 = nn.LayerNorm(dim)
        self.q = nn.Linear(dim + params.text_guidance_dim, dim)
        self.k = nn.Linear(dim + params.text_guidance_dim, dim)
        self.v = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, params.mlp_ratio * dim)
        self.fc2 = nn.Linear(params.mlp_ratio * dim, dim)
        if self.padded_classes:
            self.padding_tokens = nn.Parameter(torch.zeros(1, 1, dim))
            self.padding_guidance = nn.Parameter(torch.zeros(1, 1, params.text_guidance_dim))

    def forward(self, x_BTHWC: Tensor, text_BTG: Tensor, classes_at_once: int | None = None) -> Tensor:
        pooled = self._pool(x_BTHWC)
        pooled = pooled + self._attend(self.norm1(pooled), text_BTG)
        return by_class(self._joined, classes_at_once, x_BTHWC, pooled)

    def _joined(self, x_BTHWC: Tensor, pooled_BTHWC: Tensor) -> Tensor:
        pooled_BTHWC = pooled_BTHWC + self.fc2(F.relu(self.fc1(self.norm2(pooled_BTHWC))))
        return x_BTHWC + self._unpool(pooled_BTHWC, x_BTHWC.shape[2:4])

    def _attend(self, normed_BTHWC: Tensor, text_BTG: Tensor) -> Tensor:
        q, k, v = self._queries_keys_values(normed_BTHWC, text_BTG)
        context_BHWNDE = torch.einsum("bthwnd,bthwne->bhwnde", k, v)
        keys_BHWND = k.sum(dim=1)
        missing = self.padded_classes - normed_BTHWC.shape[1]
        if missing > 0:
            key_ND, value_NE = self._padding()
            context_BHWNDE = context_BHWNDE + missing * key_ND[:, :, None] * value_NE[:, None, :]
            keys_BHWND = keys_BHWND + missing * key_ND
        summed = torch.einsum("bthwnd,bhwnde->bthwne", q, context_BHWNDE)
        weight = torch.einsum("bthwnd,bhwnd->bthwn", q, keys_BHWND)
        return rearrange(summed / (weight[..., None] + 1e-6), "b t h w n e -> b t h w (n e)")

    def _queries_keys_values(self, normed_BTHWC: Tensor, text_BTG: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        dim = normed_BTHWC.shape[-1]
        of_x = torch.cat([self.q.weight[:, :dim], self.k.weight[:, :dim], self.v.weight])
        of_text = torch.cat([self.q.weight[:, dim:], self.k.weight[:, dim:]])
        guided = F.linear(text_BTG, of_text, torch.cat([self.q.bias, self.k.bias]))
        constant = torch.cat([guided, self.v.bias.expand(*guided.shape[:-1], dim)], dim=-1)
        qkv = F.linear(normed_BTHWC, of_x) + constant[:, :, None, None]
        q, k, v = rearrange(qkv, "b t h w (qkv n d) -> qkv b t h w n d", qkv=3, n=self.num_heads)
        return F.elu(q) + 1, F.elu(k) + 1, v

    def _padding(self) -> tuple[Tensor, Tensor]:
        token = self.norm1(self.padding_tokens)
        key = F.elu(self.k(torch.cat([token, self.padding_guidance], dim=-1))) + 1
        value = self.v(token)
        shape = (self.num_heads, -1)
        return key.reshape(shape), value.reshape(shape)

    def _pool(self, x_BTHWC: Tensor) -> Tensor:
        if self.pooling == 1:
            return x_BTHWC
        x = rearrange(x_BTHWC, "b t h w c -> (b t) c h w")
        x = F.avg_pool2d(x, self.pooling, ceil_mode=True)
        return rearrange(x, "(b t) c h w -> b t h w c", b=x_BTHWC.shape[0])

    def _unpool(self, x_BTHWC: Tensor, size: torch.Size) -> Tensor:
        if self.pooling == 1:
            return x_BTHWC
        x = rearrange(x_BTHWC, "b t h w c -> (b t) c h w")
        x = F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=True)
        return rearrange(x, "(b t) c h w -> b t h w c", b=x_BTHWC.shape[0])


class AggregationLayer(nn.Module):
    """Aggregation over space, then over classes."""

    def __init__(self, params: HeadParams) -> None:
        super().__init__()
        self.spatial = SpatialAggregation(params)
        self.classes = ClassAttention(params)

    def forward(
        self, x_BTHWC: Tensor, appearance_BHWA: Tensor, text_BTG: Tensor, classes_at_once: int | None = None
    ) -> Tensor:
        x_BTHWC = by_class(lambda part: self.spatial(part, appearance_BHWA), classes_at_once, x_BTHWC)
        out: Tensor = self.classes(x_BTHWC, text_BTG, classes_at_once)
        return out
