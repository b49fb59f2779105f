"""Logits from plain cosines, by which the encoders learn before and beside the cost head.

Shape suffixes: B batch, T classes, H rows, W columns, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmovseg_geo.models.mmovseg.compact import image_planes, paired_bands
from mmovseg_geo.models.mmovseg.head import CostHead, cosine
from mmovseg_geo.models.mmovseg.network import MMOVSeg
from mmovseg_geo.training.augment import TrainingBatch

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


def forward(
    network: MMOVSeg, head: nn.Module, batch: TrainingBatch, text: Tensor
) -> tuple[Tensor | None, Sequence[Tensor]]:
    """What `head` makes of a batch by the network's encoders and adapters: logits, where it has any, and cosines."""
    planes = [
        None if image is None else image_planes(image, valid, batch.gsd_m)
        for image, valid in (
            (batch.optical, batch.optical_valid),
            (None if batch.sar is None else paired_bands(batch.sar), batch.sar_valid),
        )
    ]
    own, network.head = network.head, head  # type: ignore[assignment]
    try:
        answers: tuple[Tensor | None, Sequence[Tensor]] = network(
            planes[0], planes[1], text, batch.optical_valid, batch.sar_valid
        )
    finally:
        network.head = own
    return answers
