"""How one sensor is looked at: pixels of tiles in, scores of words for the same pixels out."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmovseg_geo.models.clip import IMAGENET_TEMPLATES, CLIPWords, embed_texts
from mmovseg_geo.models.segearth.encoder import activation_of
from mmovseg_geo.models.segearth.features import DenseFeatures
from mmovseg_geo.models.segearth.network import SegEarth
from mmovseg_geo.models.segearth.preprocessing import as_gray, normalize, resized, working_size
from mmovseg_geo.models.segearth.recipe import Recipe


class View:
    """One encoder with its words and its recipe.

    Args:
        model: an `open_clip.CLIP`, which is taken apart: only its image tower is kept.
        words: the query words of all classes.
        about: what the record of a run should say of the weights.
    """

    def __init__(
        self,
        model: Any,
        upsampler: nn.Module | None,
        recipe: Recipe,
        words: list[str],
        *,
        device: torch.device,
        about: dict[str, Any],
    ) -> None:
        self.recipe = recipe
        self.facts = {**asdict(recipe), "activation": activation_of(model), **about}
        model = model.to(device)
        with torch.inference_mode():
            self.words = embed_texts(CLIPWords(model), words, IMAGENET_TEMPLATES)
        features = DenseFeatures(model.visual, recipe.attention, last=recipe.last, residual=recipe.residual)
        self.network = SegEarth(features, upsampler, recipe).to(device).eval()

    def __call__(self, image: Tensor, valid: Tensor) -> Tensor:
        """Scores (B, Q, H, W) float32 of pixels (B, 3 or more bands of SAR, H, W) in 0..255; `valid` (B, H, W).

        Invalid pixels are shown in the mean color.
        """
        rgb = image if image.shape[1] == 3 else as_gray(image)
        shown = normalize(rgb) * valid[:, None]
        height, width = shown.shape[-2:]
        if not self.recipe.long_edge:
            return self._at(self.recipe.factor, shown)
        # The published programs scale an image, not the square tile that holds it: its empty end is cut off.
        rows, cols = (_extent(valid.any(dim=0).any(dim=dim)) for dim in (1, 0))
        scores = self._at(self.recipe.long_edge / max(rows, cols), shown[..., :rows, :cols])
        return F.pad(scores, (0, width - cols, 0, height - rows))

    def _at(self, factor: float, shown: Tensor) -> Tensor:
        own = shown.shape[-2], shown.shape[-1]
        return resized(self.network(resized(shown, working_size(own, factor)), self.words), own)


def _extent(seen: Tensor) -> int:
    """Length (at least 1) of a line up to its last pixel that was seen."""
    places = seen.nonzero()
    return int(places.max()) + 1 if len(places) else len(seen)
