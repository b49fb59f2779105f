"""Invented optical + SAR scenes with known labels and clouds."""

from __future__ import annotations

from mmovseg_geo.simulate.canvas import Setting
from mmovseg_geo.simulate.clouds import add_clouds
from mmovseg_geo.simulate.land_covers import LAND_COVERS, LandCover
from mmovseg_geo.simulate.sar import speckle
from mmovseg_geo.simulate.scene import SimulatedScene, draw_setting, simulate

__all__ = [
    "LAND_COVERS", "LandCover", "Setting", "SimulatedScene", "add_clouds", "draw_setting", "simulate", "speckle",
]  # fmt: skip
