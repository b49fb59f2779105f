"""From dense features to scores of words, and from averaged scores to values of classes (sections 2 and 4.3).

Shape suffixes: B images, C channels, H rows, W columns, Q query words, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

SMALLEST_NORM = 1e-12


def word_scores(pixels_BCHW: Tensor, cls_BC: Tensor | None, words_QC: Tensor, bias: float) -> Tensor:
    """Similarity (B, Q, H, W) float32 of every pixel to every word, less what the image as a whole says of the word.

    Args:
        words_QC: unit vectors.
        bias: what the similarity of CLS is multiplied by before it is added; 0 leaves CLS out.
    """
    # In reduced precision a step of the similarity would be a tenth of a class's logit.
    with torch.autocast(pixels_BCHW.device.type, enabled=False):
        pixels_BCHW, words_QC = pixels_BCHW.float(), words_QC.float()
        # Dividing the products spares a normalized copy of a map of C channels.
        norm_B1HW = torch.linalg.vector_norm(pixels_BCHW, dim=1, keepdim=True).clamp(min=SMALLEST_NORM)
        scores_BQHW: Tensor = torch.einsum("bchw,qc->bqhw", pixels_BCHW, words_QC) / norm_B1HW
        if bias and cls_BC is not None:
            scores_BQHW += bias * (F.normalize(cls_BC.float(), dim=-1) @ words_QC.T)[:, :, None, None]
        return scores_BQHW


def class_values(scores_QHW: Tensor, words: Sequence[int], temperature: float) -> Tensor:
    """Averaged scores to values (K, H, W) in 0..1: softmax over all words, then the best word of each class.

    Args:
        words: number of words of each class, in the order of the planes.
    """
    shares_QHW = torch.softmax(temperature * scores_QHW, dim=0)
    if len(words) == len(scores_QHW):
        return shares_QHW
    return torch.stack([shares.amax(dim=0) for shares in torch.split(shares_QHW, list(words))])
