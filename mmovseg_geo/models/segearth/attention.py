"""Self-attention of a CLIP block, changed so that a patch tells what is at its own place.

Shape suffixes: B images, N tokens (CLS first), D channels, M heads, E channels of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

PAIRS: dict[str, tuple[str, ...]] = {
    "vanilla": ("qk",),
    "maskclip": (),
    "clearclip": ("qq",),
    "sclip": ("qq", "kk"),
    "segearth": ("qq", "kk", "vv"),
    "naclip": ("kk",),
}
"""What is compared with what; the weights of several pairs are summed, not averaged. Without a pair, each token keeps
its own value. `gem` is more than another choice of pairs: see `gem_attention`."""

NEIGHBOR_STD = 1.0
"""Of NACLIP's bonus for close patches, in patches."""


def mixed_values(block: Any, tokens_BND: Tensor, kind: str, grid: tuple[int, int]) -> Tensor:
    """Output (B, N, D) of a block's attention on `ln_1` of the tokens, by one of `PAIRS`."""
    attention = block.attn
    parts = dict(zip(("q", "k", "v"), _heads(attention, block.ln_1(tokens_BND)), strict=True))
    bonus = _neighbors(grid, tokens_BND) if kind == "naclip" else None
    mixed = [
        F.scaled_dot_product_attention(parts[pair[0]], parts[pair[1]], parts["v"], attn_mask=bonus)
        for pair in PAIRS[kind]
    ]
    values = torch.stack(mixed).sum(dim=0) if mixed else parts["v"]
    out: Tensor = block.ls_1(attention.out_proj(rearrange(values, "b m n e -> b n (m e)")))
    return out


def gem_attention(block: Any, tokens_BND: Tensor) -> Tensor:
    """GEM's output (B, N, D): tokens of like query, like key and like value are gathered, and the three averaged."""
    attention = block.attn
    normed_BND = block.ln_1(tokens_BND)
    query, key, value = _heads(attention, normed_BND)
    # One temperature for each image: scaled_dot_product_attention has room for a single one, so it goes into a query.
    sharpness_B111 = normed_BND.norm(dim=-1).mean(dim=-1)[:, None, None, None] * query.shape[-1] ** -0.5

    def gathered(like: Tensor, what: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(sharpness_B111 * like, like, what, scale=1.0)

    total = torch.zeros_like(value)
    for part in (query, key, value):
        unit = F.normalize(part, dim=-1)
        unit = F.normalize(gathered(unit, unit), dim=-1)
        total = total + gathered(unit, value)
    out: Tensor = block.ls_1(attention.out_proj(rearrange(total / 3, "b m n e -> b n (m e)")))
    return out


def _heads(attention: Any, tokens_BND: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    projected = F.linear(tokens_BND, attention.in_proj_weight, attention.in_proj_bias)
    query, key, value = rearrange(projected, "b n (qkv m e) -> qkv b m n e", qkv=3, m=attention.num_heads)
    return query, key, value


def _neighbors(grid: tuple[int, int], like: Tensor) -> Tensor:
    """What is added to the comparison (N, N): exp(-d²/2) between patches d apart, 0 for CLS."""
    rows, cols = (torch.arange(cells, device=like.device, dtype=like.dtype) for cells in grid)
    places = torch.cartesian_prod(rows, cols)
    apart = torch.cdist(places, places)
    return F.pad(torch.exp(-0.5 * (apart / NEIGHBOR_STD) ** 2), (1, 0, 1, 0))
