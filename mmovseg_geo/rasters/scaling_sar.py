"""Which scaling a SAR file needs: decibel, power, amplitude or a finished 8-bit picture."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import numpy as np

from mmovseg_geo.rasters.bands import Choice, is_cross
from mmovseg_geo.rasters.facts import Facts
from mmovseg_geo.rasters.radiometry import (
    CO_POLARIZED_DB,
    CROSS_POLARIZED_DB,
    STRETCH_PERCENT,
    Kind,
    Scaling,
    apart,
    as_is,
    percentiles,
)
from mmovseg_geo.rasters.scaling_optical import span_of

if TYPE_CHECKING:
    from mmovseg_geo.rasters.radiometry import Values

Form = Literal["db", "power", "amplitude", "8bit"]
FORMS: dict[str, Form] = {"db": "db", "power": "power", "amplitude": "amplitude", "8bit": "8bit"}
DECIBEL = re.compile(r"(?<![a-z])(db|decibels?)(?![a-z])", re.IGNORECASE)
AMPLITUDE = re.compile(r"amplitude|(?<![a-z])amp(?![a-z])", re.IGNORECASE)
BRIGHTEST_POWER = 10.0
"""99 % of calibrated power stays below this; digital numbers start higher."""


def decide_sar(facts: Facts, choice: Choice, sample: Values, option: str) -> Scaling:
    """The scaling of the chosen SAR bands, one or two; `sample` holds valid stored values (C, n).

    Raises:
        ConfigError: an option that is neither a known word nor MIN,MAX (decibels, or values of an 8-bit picture).
    """
    planes = len(choice.names)
    kind, why, gain = _kind(facts, choice.bands[0], sample)
    if option in FORMS:
        kind, why, gain = FORMS[option], "as asked for", 1.0
    elif option != "auto":
        span = span_of(option, "--sar-scale")
        why = f"range as asked for, {why}"
        return Scaling(kind, _logarithm(kind), span[:1] * planes, span[1:] * planes, why, gain)
    if kind == "8bit":
        return as_is(why, planes)
    if kind == "amplitude":
        return _amplitude(sample, why)
    spans = (CROSS_POLARIZED_DB if is_cross(name) else CO_POLARIZED_DB for name in choice.names)
    lows, highs = zip(*spans, strict=True)
    return Scaling(kind, kind, lows, highs, why, gain)


def _kind(facts: Facts, band: int, sample: Values) -> tuple[Form, str, float]:
    """The kind of values, why, and the gain that makes decibels of stored decibels."""
    if facts.product is not None and facts.product.meaning in FORMS:
        return FORMS[facts.product.meaning], facts.product.why, 1.0
    dtype = facts.dtypes[band - 1]
    if dtype == "uint8":
        return "8bit", "8-bit file", 1.0
    low, middle, high = percentiles(sample, (1.0, 50.0, 99.0))
    if facts.scales[band - 1] not in (0.0, 1.0) and middle * facts.scales[band - 1] < 0.0:
        return "db", f"negative values with scale {facts.scales[band - 1]:g} in the file", facts.scales[band - 1]
    if middle < 0.0:
        if middle < -100.0:
            return "db", f"negative values about {middle:.0f}, taken for decibels x 100", 0.01
        said = "named so and " if any(DECIBEL.search(text.replace("_", " ")) for text in facts.descriptions) else ""
        return "db", f"{said}mostly negative values ({low:.1f} .. {high:.1f})", 1.0
    if any(DECIBEL.search(text.replace("_", " ")) for text in facts.descriptions):
        return "db", "named so", 1.0
    if any(AMPLITUDE.search(text) for text in facts.descriptions):
        return "amplitude", "named so", 1.0
    if "float" in dtype and high <= BRIGHTEST_POWER:
        return "power", f"positive float values, 99 % below {high:.3g}", 1.0
    return "amplitude", f"positive {dtype} numbers, median {middle:.4g}, uncalibrated", 1.0


def _amplitude(sample: Values, why: str) -> Scaling:
    """Uncalibrated numbers: each band's own 1 to 99 % in decibels."""
    spans = []
    for band in sample:
        low, high = percentiles(20.0 * np.log10(np.maximum(band, 1e-5)), STRETCH_PERCENT)
        spans.append(apart(low, high))
    lows, highs = zip(*spans, strict=True)
    return Scaling("amplitude", "amplitude", lows, highs, f"{why}, so 1-99 % of each band in dB")


def _logarithm(form: Form) -> Kind:
    return "linear" if form == "8bit" else form
