"""Logits from plain cosines, by which the encoders learn before and beside the cost head.

Shape suffixes: B batch, T classes, H rows, W columns, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmovseg_geo.models.mmovseg.compact import SpeakingHead, image_planes, paired_bands
from mmovseg_geo.models.mmovseg.head import cosine
from mmovseg_geo.models.mmovseg.network import MMOVSeg
from mmovseg_geo.training.augment import TrainingBatch

Guidance = tuple[Tensor, ...]


class Cosines(nn.Module):
    """A scale and an offset for the cosines of each role; they are not part of the network."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([20.0, 20.0]))
        self.offset = nn.Parameter(torch.tensor([-8.0, -8.0]))


class SideHead(nn.Module):
    """A cost head with cosines beside it; takes the arguments of a `CostHead`.

    Args:
        text: words of the cosines, where they are others than those of the cost.
        alone: the cosines only.
    """

    def __init__(self, cost: SpeakingHead, cosines: Cosines, text: Tensor | None = None, *, alone: bool) -> None:
        super().__init__()
        self.cost, self.cosines, self.text, self.alone = cost, cosines, text, alone

    def forward(
        self,
        clip_dense: Tensor,
        dense: Tensor,
        text: Tensor,
        clip_guidance: Guidance,
        dino_guidance: Guidance,
        *,
        radar: Tensor | None = None,
    ) -> tuple[Tensor | None, list[Tensor], list[Tensor]]:
        """Logits, and of both roles the scaled cosines (B, T, H, W) and logits of land covers (B, K, H, W); of one role
        where a batch has no optical image."""
        words = text if self.text is None else self.text
        heard = self.cost.hear(words)
        words_BTC = heard if heard.ndim == 3 else heard.expand(len(dense), -1, -1)
        roles = [(1, dense)]
        if clip_dense.any():
            roles.insert(0, (0, clip_dense))
        scale, offset = self.cosines.scale, self.cosines.offset
        scaled = [scale[role] * cosine(self.cost.speak(maps), words_BTC) + offset[role] for role, maps in roles]
        logits = None
        if not self.alone:
            logits = self.cost(clip_dense, dense, text, clip_guidance, dino_guidance, radar=radar)
        return logits, scaled, [maps for _, maps in roles]


def forward(
    network: MMOVSeg, head: nn.Module, batch: TrainingBatch, text: Tensor
) -> tuple[Tensor | None, Sequence[Tensor], Sequence[Tensor]]:
    """What `head` makes of a batch by the network's encoders and adapters; see `SideHead`."""
    planes = [
        None if image is None else image_planes(image, valid, batch.gsd_m)
        for image, valid in (
            (batch.optical, batch.optical_valid),
            (None if batch.sar is None else paired_bands(batch.sar), batch.sar_valid),
        )
    ]
    own, network.head = network.head, head  # type: ignore[assignment]
    try:
        answers: tuple[Tensor | None, Sequence[Tensor], Sequence[Tensor]] = network(
            planes[0], planes[1], text, batch.optical_valid, batch.sar_valid
        )
    finally:
        network.head = own
    return answers
