"""The last step of training: the statistics that the batch norms keep."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mmovseg_geo.models.mmovseg.network import MMOVSeg
from mmovseg_geo.training.augment import TrainingBatch
from mmovseg_geo.training.cosine_head import CosineHead, SideHead, forward


@torch.no_grad()
def refresh_norms(network: MMOVSeg, batches: Iterable[tuple[TrainingBatch, Tensor]], share: float) -> None:
    """Move the norms' statistics toward fresh ones, 0 (not at all) to 1.

    Those that training ended with belong to weights changed since; fresh ones of small batches leave out how scenes
    differ from each other. The truth lies between.

    Args:
        batches: what the fresh statistics are taken of, with the text vectors asked for.
    """
    old = _statistics(network)
    fresh = _statistics(_with_fresh_statistics(network, batches))
    for name, value in network.named_buffers():
        if name in old:
            value.copy_(torch.lerp(old[name], fresh[name], share))


def _with_fresh_statistics(network: MMOVSeg, batches: Iterable[tuple[TrainingBatch, Tensor]]) -> MMOVSeg:
    other = copy.deepcopy(network)
    for norm in (module for module in other.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
    other.train()
    head = SideHead(other.head, CosineHead())
    for batch, text in batches:
        forward(other, head, batch, text)
    return other


def _statistics(network: nn.Module) -> dict[str, Tensor]:
    kept = ("running_mean", "running_var")
    return {name: value.clone() for name, value in network.named_buffers() if name.endswith(kept)}
