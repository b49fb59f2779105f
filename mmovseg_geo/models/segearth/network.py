"""SegEarth-OV as one module: a normalized image and word vectors in, scores of every pixel out.

Shape suffixes: B images, C channels, H rows, W columns, Q query words.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from mmovseg_geo.models.segearth.features import DenseFeatures
from mmovseg_geo.models.segearth.preprocessing import resized
from mmovseg_geo.models.segearth.recipe import Recipe
from mmovseg_geo.models.segearth.scoring import word_scores
from mmovseg_geo.models.segearth.windows import pad_around, windowed


class SegEarth(nn.Module):
    """Dense features, brought to every pixel by an upsampler, compared with words.

    Args:
        upsampler: features (B, C, h, w) and the image (B, 3, H, W) to features (B, C, H, W); None resizes the scores
            of the patches instead.
    """

    def __init__(self, features: DenseFeatures, upsampler: nn.Module | None, recipe: Recipe) -> None:
        super().__init__()
        self.features = features
        self.upsampler = upsampler
        self.recipe = recipe

    def forward(self, image_B3HW: Tensor, words_QC: Tensor) -> Tensor:
        """Scores (B, Q, H, W) float32 of an image of any size, averaged over its windows."""
        score = partial(self.window_scores, words_QC=words_QC)
        return windowed(score, image_B3HW, self.recipe.window, self.recipe.stride)

    def window_scores(self, image_B3HW: Tensor, words_QC: Tensor) -> Tensor:
        """Scores (B, Q, H, W) of one window, padded to whole patches for the encoder."""
        padded_B3HW, place = pad_around(image_B3HW, self.features.patch)
        dense_BChw, cls_BC = self.features(padded_B3HW)
        if self.upsampler is None:
            patches_BQhw = word_scores(dense_BChw, cls_BC, words_QC, self.recipe.bias)
            return resized(patches_BQhw, (padded_B3HW.shape[-2], padded_B3HW.shape[-1]))[place]
        scores = []
        # A map of C channels for every pixel is large: one image at a time.
        for index in range(len(dense_BChw)):
            one = slice(index, index + 1)
            pixels_1CHW = self.upsampler(dense_BChw[one], padded_B3HW[one])
            cls_1C = None if cls_BC is None else cls_BC[one]
            scores.append(word_scores(pixels_1CHW, cls_1C, words_QC, self.recipe.bias)[place])
        return torch.cat(scores)
