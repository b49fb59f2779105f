"""What a registration found: the displacement, how sure it is, why it is applied or not, in numbers and in words."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mmovseg_geo.rasters.displacement import Displacement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mmovseg_geo.rasters.registration.vote import Vote

CONFIDENT = 0.5
"""A confidence of at least this much is applied."""
CHANCE = 3.0
"""Peaks of images that have nothing in common stand about so many deviations above the middle."""
LOOSE = 0.6
"""Spread in pixels from which on the place of a peak is doubted."""
STILL = 0.25
"""A shift below so many pixels is left alone: interpolation would cost more than it mends."""
NAMES = {"cloud": "cloud", "no data": "without data", "water": "water", "smooth": "without texture"}


@dataclass(frozen=True)
class WindowFound:
    """One window: its center in scene pixels, the shift it would vote for by itself, its correlation there, and the
    shift that the result gives it."""

    row: float
    col: float
    rows: float
    cols: float
    correlation: float
    to_rows: float
    to_cols: float


@dataclass(frozen=True)
class Registration:
    """How SAR content lies against optical content.

    Attributes:
        rows, cols: by which the SAR content must move at the scene's center, in optical pixels, whether it is or not.
        confidence: 0..1. confident: whether it suffices. displacement: what is to be applied; nothing if it does not.
        asked, model: the model that was asked for, and the one the windows confirm.
        why: the verdict in words.
        counts: windows by what they are good for.
        information: mutual information of both images before and after, where it was measured.
    """

    rows: float
    cols: float
    confidence: float
    confident: bool
    displacement: Displacement
    asked: str
    model: str
    why: str
    counts: Mapping[str, int] = field(default_factory=dict)
    votes: Mapping[str, float] = field(default_factory=dict)
    information: tuple[float, float] | None = None
    residual_px: float | None = None
    windows: Sequence[WindowFound] = ()

    @property
    def applied(self) -> bool:
        """Whether there is anything to apply."""
        return not self.displacement.still

    def to_json(self) -> dict[str, Any]:
        """JSON-able values; `shift` and `displacement` are what `--coregister FILE` reads."""
        told: dict[str, Any] = {
            "shift": {
                "rows": round(self.rows, 3),
                "cols": round(self.cols, 3),
                "confidence": round(self.confidence, 3),
                "confident": self.confident,
            },
            "applied": self.applied,
            "verdict": self.why,
            "model": {"asked": self.asked, "found": self.model},
            "displacement": self.displacement.to_json() if self.applied else None,
            "windows": dict(self.counts),
            "votes": {name: round(value, 4) for name, value in self.votes.items()},
            "residual_px": None if self.residual_px is None else round(self.residual_px, 3),
        }
        if self.information is not None:
            before, after = (round(value, 5) for value in self.information)
            told["mutual_information"] = {"before": before, "after": after}
        return told


def confidence_of(found: Vote) -> float:
    """0..1: how far the peak stands above chance, how many draws agree on it, and how sharp it is."""
    return math.prod(_assurances(found))


def doubt(found: Vote) -> str:
    """What speaks most against a shift that is not confident, in words."""
    agree, above, _ = told = _assurances(found)
    if min(told) == agree:
        return f"the windows disagree: no more than {agree:.0%} of their draws find one shift"
    if min(told) == above:
        return "the best fit hardly stands out from chance"
    return f"the place of the best fit is open by {found.spread:.1f} pixels"


def _assurances(found: Vote) -> tuple[float, float, float]:
    """Of agreement, of the height above chance, of sharpness: 0..1."""
    above = max(found.prominence - CHANCE, 0.0) / CHANCE
    sharp = 1.0 / (1.0 + max(found.spread - LOOSE, 0.0) / LOOSE)
    return found.agreement, 1.0 - math.exp(-above * above), sharp


def refused(why: str, asked: str, counts: Mapping[str, int] | None = None) -> Registration:
    """Nothing could be estimated, for the reason `why`."""
    return Registration(0.0, 0.0, 0.0, False, Displacement(), asked, "shift", why, dict(counts or {}))


def of_windows(counts: Mapping[str, int]) -> str:
    """The kind that most excluded windows are of, in words: `62 % of windows are water`."""
    total = sum(counts.values())
    lost = {name: counts.get(name, 0) for name in NAMES if counts.get(name, 0)}
    if not lost or not total:
        return ""
    name = max(lost, key=lambda key: lost[key])
    return f"{100 * lost[name] / total:.0f} % of windows are {NAMES[name]}"
