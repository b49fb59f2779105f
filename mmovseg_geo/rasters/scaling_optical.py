"""Which scaling an optical file needs: from its type, tags and names, else from a sample of its values."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mmovseg_geo.errors import ConfigError
from mmovseg_geo.rasters.facts import Facts
from mmovseg_geo.rasters.radiometry import (
    BRIGHT_REFLECTANCE,
    LANDSAT_GAIN,
    LANDSAT_OFFSET,
    SENTINEL_2_GAIN,
    SENTINEL_2_OFFSET_DN,
    Scaling,
    as_is,
    percentiles,
    reflectance,
    stretch,
)

if TYPE_CHECKING:
    from mmovseg_geo.rasters.bands import Choice
    from mmovseg_geo.rasters.radiometry import Values

BASELINE = re.compile(r"_N(\d{4})_")
LANDSAT_2 = re.compile(r"L[COTEM]0[4-9]_L2S[PR]_", re.IGNORECASE)
SENTINEL_2 = re.compile(r"S2[A-D]_(MSIL(1C|2A)|\d{8})|T\d{2}[A-Z]{3}_\d{8}T\d{6}|HLS\.[SL]30", re.IGNORECASE)
BAND_NAME = re.compile(r"(?<![A-Za-z0-9])(B0?\d{1,2}|B8A|nir|swir ?\d?)(?![A-Za-z0-9])", re.IGNORECASE)
REFLECTANCE_STEPS_M = (10.0, 20.0, 30.0, 60.0)
"""Pixel sizes of Sentinel-2, Landsat and HLS."""
TALLEST_REFLECTANCE_DN = 20000.0
"""Reflectance x 10000 stays below, but for a few glints and clouds."""


def decide_optical(facts: Facts, choice: Choice, sample: Values, option: str) -> Scaling:
    """The scaling of red, green, blue; `sample` holds valid stored values (3, n) of the chosen bands.

    Raises:
        ConfigError: an option that is neither a known word nor MIN,MAX.
    """
    if option == "auto":
        return _by_metadata(facts, choice) or _automatic(facts, choice.bands[0], sample)
    if option == "8bit":
        return as_is("as asked for", 3)
    if option == "reflectance":
        return reflectance(option, "as asked for")
    if option == "reflectance-10000":
        return reflectance(option, "as asked for", gain=SENTINEL_2_GAIN)
    if option == "reflectance-10000-offset":
        return _with_offset("as asked for")
    if option == "stretch":
        return stretch(sample, "as asked for")
    low, high = span_of(option, "--optical-scale")
    return Scaling("range", "linear", (low,) * 3, (high,) * 3, "as asked for")


def span_of(option: str, flag: str) -> tuple[float, float]:
    """MIN,MAX as two numbers.

    Raises:
        ConfigError: not two numbers in rising order.
    """
    try:
        low, high = (float(part) for part in option.split(","))
    except ValueError:
        raise ConfigError(f"{flag} {option!r} is not known; give auto, one of its words, or MIN,MAX.") from None
    if not low < high:
        raise ConfigError(f"{flag} {option!r}: the first number must be smaller than the second.")
    return low, high


def _by_metadata(facts: Facts, choice: Choice) -> Scaling | None:
    """Reflectance by scale and offset of a product's own metadata; None where these do not tell."""
    if facts.product is None or facts.product.meaning != "reflectance" or choice.expand_palette:
        return None
    gains, offsets = ([values[band - 1] for band in choice.bands] for values in (facts.scales, facts.offsets))
    if len(set(gains)) == len(set(offsets)) == 1:
        return reflectance("reflectance", facts.product.why, gain=gains[0], offset=offsets[0])
    lows = tuple(-offset / gain for gain, offset in zip(gains, offsets, strict=True))
    highs = tuple((BRIGHT_REFLECTANCE - offset) / gain for gain, offset in zip(gains, offsets, strict=True))
    return Scaling("reflectance", "linear", lows, highs, facts.product.why)


def _automatic(facts: Facts, band: int, sample: Values) -> Scaling:
    dtype = facts.dtypes[band - 1]
    if dtype == "uint8":
        return as_is("8-bit file", 3)
    if facts.scales[band - 1] != 1.0 or facts.offsets[band - 1] != 0.0:
        gain, offset = facts.scales[band - 1], facts.offsets[band - 1]
        low, high = percentiles(sample * gain + offset, (1.0, 99.0))
        if low >= -0.3 and high <= 2.0:
            why = f"scale {gain:g} and offset {offset:g} in the file"
            return reflectance("reflectance", why, gain=gain, offset=offset)
        return stretch(sample, "scale and offset in the file do not give reflectance, so 1-99 % of its values")
    if "float" in dtype:
        return _of_floats(facts, band, sample)
    return _of_numbers(facts, band, sample)


def _of_floats(facts: Facts, band: int, sample: Values) -> Scaling:
    low, high = percentiles(sample, (1.0, 99.0))
    if low >= -0.3 and high <= 2.0:
        return reflectance("reflectance", f"float values, 1-99 % lie in {low:.3g} .. {high:.3g}")
    if low >= 0.0 and float(sample.max()) <= 255.0:
        return as_is(f"float values within 0 .. 255 (highest {float(sample.max()):.4g})", 3)
    return _of_numbers(facts, band, sample)


def _of_numbers(facts: Facts, band: int, sample: Values) -> Scaling:
    if LANDSAT_2.search(facts.stem):
        why = "file name of Landsat collection 2, level 2"
        return reflectance("reflectance", why, gain=LANDSAT_GAIN, offset=LANDSAT_OFFSET)
    high = percentiles(sample, (99.0,))[0]
    evidence = _evidence(facts, band)
    if not evidence or not 100.0 < high <= TALLEST_REFLECTANCE_DN:
        seen = evidence or "nothing names the units"
        return stretch(
            sample, f"{facts.dtypes[band - 1]} values up to {high:.0f} (99 %), {seen}, so 1-99 % of its values"
        )
    offset = _offset_evidence(facts, sample)
    if offset:
        return _with_offset(f"{evidence}; {offset}")
    return reflectance("reflectance-10000", f"{evidence}; no offset seen", gain=SENTINEL_2_GAIN)


def _evidence(facts: Facts, band: int) -> str:
    """Why the numbers are taken for reflectance x 10000; empty if nothing says so."""
    named = [text for text in facts.descriptions if BAND_NAME.search(text.replace("_", " "))]
    if named:
        return f"bands named {', '.join(named[:3])}{', …' if len(named) > 3 else ''}"
    if SENTINEL_2.search(facts.stem) or any("MSIL" in value for value in facts.tags.values()):
        return "product name of Sentinel-2 or HLS"
    size = abs(facts.transform.a)
    if facts.crs and size == abs(facts.transform.e) and size in REFLECTANCE_STEPS_M:
        return f"{size:g} m pixels of {facts.dtypes[band - 1]}"
    return ""


def _offset_evidence(facts: Facts, sample: Values) -> str:
    """Why 1000 was added; empty if nothing says so. Values well below 1000 refute every tag."""
    darkest = [percentiles(band, (0.1,))[0] for band in sample]
    if min(darkest) < 900.0:
        return ""
    baseline = BASELINE.search(facts.stem) or BASELINE.search(" ".join(facts.tags.values()))
    if baseline and int(baseline[1]) >= 400:
        return f"processing baseline {baseline[1][:2]}.{baseline[1][2:]} adds 1000"
    for key, value in facts.tags.items():
        if "ADD_OFFSET" in key.upper() and value.strip().split(".")[0] == "-1000":
            return f"tag {key} = -1000"
    if min(darkest) >= 990.0 and min(darkest) <= 1800.0:
        return f"no value below {min(darkest):.0f}, as if 1000 had been added"
    return ""


def _with_offset(why: str) -> Scaling:
    return reflectance(
        "reflectance-10000-offset", why, gain=SENTINEL_2_GAIN, offset=SENTINEL_2_OFFSET_DN * SENTINEL_2_GAIN
    )
