"""Registration of SAR against optical images by what they show: how far the one must move to lie on the other."""

from __future__ import annotations

from mmovseg_geo.rasters.registration.apply import coregistered
from mmovseg_geo.rasters.registration.estimate import Pair, register
from mmovseg_geo.rasters.registration.result import Registration
from mmovseg_geo.rasters.registration.scenes import register_scene

__all__ = ["Pair", "Registration", "coregistered", "register", "register_scene"]
