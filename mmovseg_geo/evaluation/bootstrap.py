"""How sure scores are: percentile intervals of a bootstrap over scenes.

Pixels of a scene depend on each other, scenes hardly do: so whole scenes are drawn with replacement, as many as there
are, and scored as one set, many times (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mmovseg_geo.evaluation.confusion import NO_GROUPS, Groups, Values, measures

LEVEL = 0.95
FEWEST = 2
"""One scene says nothing about how scenes differ."""
BY_CLASS = ("iou", "precision", "recall", "f1")
AT_ONCE = 2**22
"""Numbers of the confusion matrices made at a time."""

Span = tuple[float, float]


@dataclass(frozen=True)
class Intervals:
    """Lower and upper end of a score: of single ones by the name in `Scores`, of classes by score and class."""

    single: Mapping[str, Span] = field(default_factory=dict)
    by_class: Mapping[str, Mapping[str, Span]] = field(default_factory=dict)
    draws: int = 0

    def __bool__(self) -> bool:
        return self.draws > 0


NONE = Intervals()


def intervals(
    counts: Sequence[NDArray[np.int64]],
    names: Sequence[str],
    groups: Groups = NO_GROUPS,
    *,
    draws: int = 1000,
    seed: int = 0,
) -> Intervals:
    """Intervals that hold 95 % of the drawn scores.

    Args:
        counts: confusion matrices (K, K + 1), one for each scene; fewer than two give no intervals.
    """
    if len(counts) < FEWEST or draws < 1:
        return NONE
    scenes = np.stack(counts).reshape(len(counts), -1)
    rng = np.random.default_rng(seed)
    found: dict[str, list[Values]] = {}
    step = max(1, AT_ONCE // scenes.shape[1])
    for start in range(0, draws, step):
        drawn = rng.multinomial(len(scenes), np.full(len(scenes), 1 / len(scenes)), size=min(step, draws - start))
        for key, values in measures((drawn @ scenes).reshape(-1, len(names), len(names) + 1), names, groups).items():
            found.setdefault(key, []).append(values)
    single: dict[str, Span] = {}
    by_class: dict[str, dict[str, Span]] = {key: {} for key in BY_CLASS}
    for key, parts in found.items():
        values = np.concatenate(parts)
        if key not in BY_CLASS:
            _put(single, key, values)
            continue
        for index, name in enumerate(names):
            _put(by_class[key], name, values[:, index])
    return Intervals(single, by_class, draws)


def _put(spans: dict[str, Span], key: str, values: Values) -> None:
    known = values[~np.isnan(values)]
    if len(known):
        low, high = np.quantile(known, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
        spans[key] = (float(low), float(high))
