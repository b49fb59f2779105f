"""What a step is corrected by, where most pixels may have no label.

Shape suffixes: B crops, T classes, H rows, W columns.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mmovseg_geo.training.concepts import TRUE, UNASKED
from mmovseg_geo.training.questions import SMALLEST_SHARE

MOST = 3.0
"""How many times as much a rare answer counts."""


def labelled_loss(logits_BTHW: Tensor, truth_BTHW: Tensor, *, dice: float) -> Tensor:
    """Cross-entropy at the grid of the logits against the share of true pixels of each cell, and soft Dice.

    A cell counts as soon as one of its pixels is labelled, so that points and lines are learned from; of its pixels
    only those with a label are looked at. Rare answers count more, up to threefold.

    Args:
        truth_BTHW: 1 true, 0 false, -1 not labelled; larger than the logits by a whole factor.
    """
    cell = truth_BTHW.shape[-1] // logits_BTHW.shape[-1]
    labelled = F.avg_pool2d((truth_BTHW != UNASKED).float(), cell)
    share = F.avg_pool2d((truth_BTHW == TRUE).float(), cell) / labelled.clamp(min=0.5 / cell**2)
    counts = (labelled > 0).float()
    total = counts.sum((2, 3), keepdim=True).clamp(min=1)
    positive = (share * counts).sum((2, 3), keepdim=True) / total
    boost = ((1 - positive) / positive.clamp(min=1e-3)).sqrt().clamp(1, MOST)
    entropy = F.binary_cross_entropy_with_logits(logits_BTHW, share, reduction="none") * (1 + (boost - 1) * share)
    loss = (entropy * counts).sum() / counts.sum().clamp(min=1)
    score = torch.sigmoid(logits_BTHW) * counts
    overlap = (score * share).sum((2, 3))
    size = (score + share * counts).sum((2, 3))
    is_there = (positive[..., 0, 0] > SMALLEST_SHARE).float()
    missed = (1 - (2 * overlap + 1) / (size + 1)) * is_there
    return loss + dice * missed.sum() / is_there.sum().clamp(min=1)
