"""How good maps are: confusion, boundaries and calibration counted against labels, and what they say."""

from __future__ import annotations

from mmovseg_geo.evaluation.confusion import Confusion, Groups, Scores
from mmovseg_geo.evaluation.labelled import evaluate

__all__ = ["Confusion", "Groups", "Scores", "evaluate"]
