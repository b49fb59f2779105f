"""Training: a recipe in, weights out (torch)."""

from __future__ import annotations

from mmovseg_geo.training.trainer import train

__all__ = ["train"]
