"""Brightness to class: a light segmenter for tests and benchmarks, without weights and without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmovseg_geo.errors import VocabularyError, WeightsError
from mmovseg_geo.tiles import Batch, Sensor, Tiling
from mmovseg_geo.vocabulary import Vocabulary

LEVELS = 3 * 255
"""Brightness is the mean of three bytes; rounding to its steps keeps blended values on their side of a threshold."""


class ThresholdSegmenter:
    """Equal steps of brightness, the first class the darkest. Where the optical image is missing, SAR decides."""

    name = "threshold"
    sensors: frozenset[Sensor] = frozenset({"optical", "sar"})
    tiling = Tiling(size=256, overlap=32)
    planes = 1

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.provenance: dict[str, Any] = {"model": self.name}

    def __call__(self, batch: Batch) -> NDArray[np.float32]:
        """Brightness (B, 1, H, W) in [0, 1]."""
        brightness = np.zeros(batch.valid.shape, dtype=np.float32)
        for image, valid in ((batch.sar, batch.sar_valid), (batch.optical, batch.optical_valid)):
            if image is not None and valid is not None:
                np.copyto(brightness, image.mean(axis=1, dtype=np.float32) / np.float32(255), where=valid)
        return brightness[:, None]

    def probabilities(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """(1, H, W) brightness to (K, H, W): 1 in the middle of a class's step, 0.5 at its border."""
        steps = len(self.vocabulary.scored)
        brightness = np.clip(np.round(scores * LEVELS) / LEVELS, 0, 1) * steps
        middles = np.arange(steps, dtype=np.float32)[:, None, None] + np.float32(0.5)
        values: NDArray[np.float32] = np.clip(1 - np.abs(brightness - middles), 0, 1).astype(np.float32)
        return values


def threshold(
    vocabulary: Vocabulary | None, *, weights: Path | None = None, device: str, precision: str, gsd_m: float | None
) -> ThresholdSegmenter:
    """The segmenter for a vocabulary; device, precision and ground sampling distance make no difference to it."""
    if weights is not None:
        raise WeightsError(f"The model `threshold` takes no weights, but {weights} was given.")
    if vocabulary is None:
        raise VocabularyError('The model `threshold` knows no classes of its own; give some: --classes "dark,bright".')
    return ThresholdSegmenter(vocabulary)
