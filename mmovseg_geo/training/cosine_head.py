"""Logits from plain cosines, by which the encoders learn before and beside the cost head.

Shape suffixes: B batch, T classes, H rows, W columns, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmovseg_geo.models.mmovseg.head import CostHead, cosine

Guidance = tuple[Tensor, ...]


class CosineHead(nn.Module):
    """A scale and an offset for the cosines of each role; takes the arguments of a `CostHead`."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([8.0, 8.0]))
        self.offset = nn.Parameter(torch.tensor([-3.0, -3.0]))

    def forward(
        self, clip_dense: Tensor, dense: Tensor, text: Tensor, clip_guidance: Guidance, dino_guidance: Guidance
    ) -> tuple[None, list[Tensor]]:
        """No logits, and the scaled cosines (B, T, H, W) of both roles; of one where a batch has no optical image."""
        text_BTC = text if text.ndim == 3 else text.expand(len(dense), -1, -1)
        roles = [(1, dense)]
        if clip_dense.any():
            roles.insert(0, (0, clip_dense))
        scaled = [self.scale[role] * cosine(maps, text_BTC) + self.offset[role] for role, maps in roles]
        return None, scaled


class SideHead(nn.Module):
    """A cost head, with cosines beside it."""

    def __init__(self, cost: CostHead, cosines: CosineHead) -> None:
        super().__init__()
        self.cost, self.cosines = cost, cosines

    def forward(
        self, clip_dense: Tensor, dense: Tensor, text: Tensor, clip_guidance: Guidance, dino_guidance: Guidance
    ) -> tuple[Tensor, list[Tensor]]:
        """Logits, and the scaled cosines."""
        logits = self.cost(clip_dense, dense, text, clip_guidance, dino_guidance)
        return logits, self.cosines(clip_dense, dense, text, clip_guidance, dino_guidance)[1]
