"""From dense features to scores of words, and from averaged scores to values of classes (sections 2 and 4.3).

Shape suffixes: B images, C channels, H rows, W columns, Q query words, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

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


def class_values(scores: Any, words: Sequence[int], temperature: float) -> Any:
    """Averaged scores (Q, H, W) to values (K, H, W) in 0..1: softmax over all words, then the best word of each class.

    Args:
        scores: a tensor or a numpy array; the result is of the same kind.
        words: number of words of each class, in the order of the planes.
    """
    planes = scores if isinstance(scores, Tensor) else torch.from_numpy(scores)
    assert sum(words) == len(planes), f"{sum(words)} words, but {len(planes)} planes"
    shares = torch.softmax(temperature * planes, dim=0)
    if len(words) < len(planes):
        ends = list(accumulate(words))
        shares = torch.stack([shares[end - count : end].amax(dim=0) for end, count in zip(ends, words, strict=True)])
    return shares if isinstance(scores, Tensor) else shares.numpy()
