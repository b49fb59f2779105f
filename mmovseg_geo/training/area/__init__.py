"""Training on one's own area: scenes with labels in, a file for `segment --model` out."""

from __future__ import annotations

from mmovseg_geo.training.area.run import train_area
from mmovseg_geo.training.area.settings import AreaConfig

__all__ = ["AreaConfig", "train_area"]
