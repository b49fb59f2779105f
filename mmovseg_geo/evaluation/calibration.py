"""Whether a map's confidence means something: expected calibration error, streamed.

After Guo et al., On Calibration of Modern Neural Networks (ICML 2017): pixels are sorted by confidence into bins of
equal width; the error is the mean difference between a bin's confidence and its share of right pixels, weighted by
pixels. Confidence comes as whole numbers of 0 to 100, so each of them is counted, and bins are made at the end.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmovseg_geo.datasets.codes import IGNORE, Indices

LEVELS = 101
BINS = 15
NO_CONFIDENCE = 255


class Reliability:
    """Pixels, and right ones among them, by confidence of 0 to 100."""

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros((2, LEVELS), np.int64)

    def add(self, labels: Indices, found: Indices, confidence: NDArray[np.uint8]) -> None:
        """Count one window (H, W): pixels that are scored, mapped, and have a confidence of 0 to 100."""
        counted = (labels != IGNORE) & (found != IGNORE) & (confidence < LEVELS)
        told = confidence[counted]
        self.counts[0] += np.bincount(told, minlength=LEVELS)
        self.counts[1] += np.bincount(told[labels[counted] == found[counted]], minlength=LEVELS)

    def error(self, bins: int = BINS) -> float | None:
        """Expected calibration error, 0 (confidence is the chance to be right) to 1; None where nothing was counted."""
        pixels, right, confidence = self.binned(bins)
        if not pixels.sum():
            return None
        filled = pixels > 0
        gaps = np.abs(right[filled] - confidence[filled])
        return float((gaps * pixels[filled]).sum() / pixels.sum())

    def binned(self, bins: int = BINS) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """By bin: pixels, share of right ones, and mean confidence of 0 to 1; NaN for an empty bin."""
        levels = np.arange(LEVELS)
        place = np.minimum(levels * bins // (LEVELS - 1), bins - 1)
        pixels = np.bincount(place, self.counts[0], bins)
        right, told = np.bincount(place, self.counts[1], bins), np.bincount(place, self.counts[0] * levels / 100, bins)
        shares = [np.divide(part, pixels, out=np.full(bins, np.nan), where=pixels > 0) for part in (right, told)]
        return pixels.astype(np.int64), shares[0], shares[1]
