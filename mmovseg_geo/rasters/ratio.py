"""The ratio of both polarizations as a third SAR band: in decibels, the difference of the two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mmovseg_geo.errors import ConfigError, MissingBand

if TYPE_CHECKING:
    from mmovseg_geo.rasters.layer import Layer
    from mmovseg_geo.rasters.radiometry import Values

RATIO_DB = (0.0, 20.0)
"""Co- over cross-polarized backscatter that is shown as 0 and 255: from crowns and calm water to bare walls."""


def with_ratio(bands_2HW: Values, layers: Sequence[Layer]) -> Values:
    """Both bands in 0..255 and, after them, their ratio in 0..255 (3, H, W)."""
    spans = [span for layer in layers for span in zip(layer.scaling.low, layer.scaling.high, strict=True)]
    co_db, cross_db = (
        np.float32(low) + band * np.float32((high - low) / 255)
        for band, (low, high) in zip(bands_2HW, spans, strict=True)
    )
    low, high = RATIO_DB
    ratio = (co_db - cross_db - np.float32(low)) * np.float32(255 / (high - low))
    return np.concatenate([bands_2HW, np.clip(ratio, 0, 255)[None]])


def require_polarizations(layers: Sequence[Layer]) -> None:
    """Check that a ratio can be made.

    Raises:
        MissingBand: there are not a co- and a cross-polarized band. ConfigError: their decibels are not known.
    """
    names = [name for layer in layers for name in layer.choice.names]
    if len(names) != 2:
        found = f"the SAR image has {', '.join(names)} only" if names else "there is no SAR image"
        raise MissingBand(f"--sar-ratio needs a co- and a cross-polarized band; {found}. Give both, or leave it out.")
    for layer in layers:
        if layer.scaling.kind == "linear":
            raise ConfigError(
                f"--sar-ratio needs backscatter; {layer.source.facts.path} is a finished picture\n"
                f"  ({layer.scaling.why}), of which nobody knows the decibels. Leave it out."
            )
