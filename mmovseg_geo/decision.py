"""From class values to labels: which class a pixel gets, and how sure that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from mmovseg_geo.errors import ConfigError
from mmovseg_geo.stitch import to_numpy
from mmovseg_geo.vocabulary import Vocabulary

if TYPE_CHECKING:
    from mmovseg_geo.models.segmenter import Segmenter

CLAIM = 0.5
"""With a background class, the value that a class must reach to claim a pixel."""
NOTHING = 255
"""Confidence of a pixel without data."""
BYTE = 256


class Decision:
    """How class values (K, h, W) become labels and a confidence of 0..100; both are no-data where not valid.

    The values are decided where they are; what crosses to the host is one byte for the class of a pixel (two beyond 255
    classes) and one for its confidence.

    Args:
        scored: the background is among the K classes, and wins pixels as they do.

    Raises:
        ConfigError: a `min_score` without a background class.
    """

    def __init__(self, vocabulary: Vocabulary, min_score: float | None, *, scored: bool = False) -> None:
        background = vocabulary.background
        if min_score is None:
            min_score = CLAIM if background and not scored else 0.0
        if min_score > 0 and not background:
            raise ConfigError(
                f"A minimum score of {min_score:g} needs a background class for the rest: add --background."
            )
        classes = [*(vocabulary.classes if scored else vocabulary.scored)]
        if background and not scored:
            classes.append(background)
        self._vocabulary = vocabulary
        self._ids = np.array([entry.id for entry in classes], dtype=vocabulary.dtype)
        self._background = classes.index(background) if background else None
        self._min_score = min_score

    @classmethod
    def of(cls, segmenter: Segmenter, min_score: float | None) -> Decision:
        """As a segmenter scores its vocabulary."""
        return cls(segmenter.vocabulary, min_score, scored=getattr(segmenter, "scores_background", False))

    def __call__(self, values: Any, valid: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """Labels (h, W) and confidence (h, W) of class values; None for values that nothing gave."""
        if values is None:
            return self.finished(None, None, valid)
        winner, confidence = self.decided(values)
        return self.finished(to_numpy(winner), to_numpy(confidence), valid)

    def decided(self, values: Any) -> tuple[Any, Any]:
        """The number of the class of each pixel, and its confidence, where the values are."""
        xp = array_namespace(values)
        best, winner = _best(values)
        number = xp.uint8 if len(self._ids) <= BYTE else xp.int16
        winner = xp.astype(winner, number)
        if self._background is not None:
            unclaimed = (best < self._min_score) & (winner != self._background)
            winner = xp.where(unclaimed, xp.full_like(winner, self._background), winner)
            best = xp.where(unclaimed, 1 - best, best)
        confidence = xp.astype(xp.clip(xp.round(best * 100), 0, 100), xp.uint8)
        return winner, confidence

    def finished(
        self, winner: NDArray[Any] | None, confidence: NDArray[np.uint8] | None, valid: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """Class values and confidence as a map holds them, of what `decided` found."""
        if winner is None or confidence is None:
            return (
                np.full(valid.shape, self._vocabulary.ignore, self._vocabulary.dtype),
                np.full(valid.shape, NOTHING, np.uint8),
            )
        labels = self._ids[winner]
        if not valid.all():
            labels[~valid] = self._vocabulary.ignore
            confidence = np.where(valid, confidence, np.uint8(NOTHING))
        return labels, confidence


def _best(values: Any) -> tuple[Any, Any]:
    """The highest of K values (K, h, W), and the first plane that holds it."""
    if not isinstance(values, np.ndarray):
        best, winner = values.max(0)  # torch finds both in one pass, in a seventh of the time of two
        return best, winner
    # numpy searches along the first axis pixel by pixel, which takes longer than plane by plane.
    best, winner = values[0].copy(), np.zeros(values.shape[1:], np.int16)
    for plane in range(1, len(values)):
        np.copyto(winner, plane, where=values[plane] > best)
        np.maximum(best, values[plane], out=best)
    return best, winner
