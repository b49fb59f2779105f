"""Which band is red, and which is VV: from names, color interpretation and order, in words a user can check."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mmovseg_geo.errors import MissingBand
from mmovseg_geo.rasters.facts import Facts

COLORS = ("red", "green", "blue")
NUMBERED = ("B4", "B3", "B2")
"""Red, green, blue of Sentinel-2, Landsat 8/9 and HLS."""
SENTINEL_2_COUNTS = (12, 13)
POLARIZATION = re.compile(r"(?<![A-Za-z])(VV|VH|HH|HV)(?![A-Za-z])", re.IGNORECASE)
CROSS = ("VH", "HV")
WORDS = re.compile(r"[\s,;:()/_-]+")
"""What parts the words of a description."""


@dataclass(frozen=True)
class Choice:
    """The used bands (1-based), what each is taken for, why, and what the user should know."""

    bands: tuple[int, ...]
    names: tuple[str, ...]
    why: str
    warning: str = ""
    expand_palette: bool = False


def choose_optical(facts: Facts, wanted: Sequence[int | str] | None) -> Choice:
    """Red, green and blue of an optical file.

    Raises:
        MissingBand: fewer than three bands, or a band asked for that is not there.
    """
    if wanted is not None:
        if len(wanted) != 3:
            raise MissingBand(f"{len(wanted)} optical bands were asked for, three are needed: --bands RED,GREEN,BLUE.")
        return Choice(tuple(find_band(facts, band) for band in wanted), COLORS, "as asked for")
    if facts.colormap is not None:
        warning = f"{facts.name} is a palette image; its colors are used, which need not be those of the ground."
        return Choice((1,), ("palette",), "palette expanded to red, green, blue", warning, expand_palette=True)
    candidates = [band for band in range(1, facts.count + 1) if band != facts.alpha]
    radar = [name for band in candidates if (name := _named_in_band(facts, band))]
    if len(candidates) < 3 or len(radar) > 1:
        what = f", named {', '.join(radar)}" if radar else ""
        raise MissingBand(
            f"{facts.path} has {len(candidates)} band{'s' if len(candidates) > 1 else ''} of data{what}; red, green "
            "and blue are needed.\n  Give all three files, B04.tif,B03.tif,B02.tif, or --bands 1,1,1 to take its first "
            "band as gray, or give it as the SAR image: second, or with --sar-only."
        )
    by_name = _by_name(facts, candidates, COLORS) or _by_name(facts, candidates, NUMBERED)
    if by_name:
        named = ", ".join(facts.descriptions[band - 1] for band in by_name)
        return Choice(by_name, COLORS, f"band descriptions ({named})")
    if set(COLORS) <= set(facts.colors):
        return Choice(tuple(facts.colors.index(color) + 1 for color in COLORS), COLORS, "color interpretation")
    if facts.count in SENTINEL_2_COUNTS and not any(facts.descriptions):
        warning = (
            f"{facts.name} has {facts.count} unnamed bands; taken for Sentinel-2's, so red, green, blue = 4, 3, 2."
        )
        return Choice((4, 3, 2), COLORS, "order of Sentinel-2 bands", warning)
    first = (candidates[0], candidates[1], candidates[2])
    if facts.parts and len(candidates) == 3:
        return Choice(first, COLORS, "order of the files")
    warning = f"{facts.name} does not say which bands are red, green and blue; taking {', '.join(map(str, first))}."
    return Choice(first, COLORS, "first three bands", warning)


def choose_sar(facts: Facts, wanted: Sequence[int | str] | None) -> Choice:
    """One or two SAR bands, co-polarized first.

    Raises:
        MissingBand: a band asked for that is not there, or more than two.
    """
    if wanted is not None:
        if not 1 <= len(wanted) <= 2:
            raise MissingBand(f"{len(wanted)} SAR bands were asked for, one or two are used: --sar-bands VV,VH.")
        bands = tuple(find_band(facts, band) for band in wanted)
        known = [polarization(facts, band) for band in bands]
        return Choice(
            bands, tuple(name or default for name, default in zip(known, ("co", "cross"), strict=False)), "as asked for"
        )
    if facts.colormap is not None:
        warning = f"{facts.name} is a palette image; the brightness of its colors is taken for the SAR image."
        return Choice((1,), ("co",), "palette expanded", warning, expand_palette=True)
    candidates = [band for band in range(1, facts.count + 1) if band != facts.alpha]
    found = {name: band for band in reversed(candidates) if (name := _named_in_band(facts, band))}
    for pair in (("VV", "VH"), ("HH", "HV")):
        present = [name for name in pair if name in found]
        if present:
            return Choice(tuple(found[name] for name in present), tuple(present), "band names")
    if len(candidates) == 1 or set(COLORS) <= set(facts.colors):
        name = polarization(facts, candidates[0]) or "co"
        warning = "" if len(candidates) == 1 else f"{facts.name} is a color image; its first band is taken for SAR."
        return Choice((candidates[0],), (name,), "only band" if not warning else "first band", warning)
    warning = f"{facts.name} does not name its polarizations; bands 1 and 2 are taken for VV and VH."
    return Choice((candidates[0], candidates[1]), ("VV", "VH"), "first two bands", warning)


def is_cross(name: str) -> bool:
    """Whether a band of that name is cross-polarized."""
    return name in (*CROSS, "cross")


def polarization(facts: Facts, band: int) -> str:
    """VV, VH, HH or HV from the band's description and tags, else from the file name or tags; empty if unknown."""
    named = _named_in_band(facts, band)
    if named:
        return named
    found = {match.upper() for match in POLARIZATION.findall(facts.stem.replace("_", " "))}
    if not found:
        tags = [value for key, value in facts.tags.items() if "polari" in key.lower()]
        found = {match.upper() for match in POLARIZATION.findall(" ".join(tags))}
    return found.pop() if len(found) == 1 else ""


def find_band(facts: Facts, wanted: int | str) -> int:
    """The 1-based number of a band given by number, description or color.

    Raises:
        MissingBand: no such band; the message lists what there is.
    """
    if str(wanted).strip().lstrip("+-").isdigit():
        number = int(wanted)
        if facts.product is not None and facts.product.numbered:
            return find_band(facts, f"B{number}")
        if not 1 <= number <= facts.count:
            raise MissingBand(f"{facts.path} has no band {number}; it has {facts.count}: {_listing(facts)}.")
        if number == facts.alpha:
            raise MissingBand(f"Band {number} of {facts.path} is its alpha band (validity), not data.")
        return number
    name = _plain(str(wanted))
    for words in (facts.descriptions, facts.colors):
        for band, word in enumerate(words, 1):
            if band != facts.alpha and _plain(word) == name and word:
                return band
    for band in range(1, facts.count + 1):
        if band != facts.alpha and name in map(_plain, WORDS.split(facts.descriptions[band - 1])):
            return band
    numbered = dict(zip(COLORS, NUMBERED, strict=True)).get(str(wanted).strip().lower())
    if numbered:
        return find_band(facts, numbered)
    for band in range(1, facts.count + 1):
        if str(wanted).strip().upper() in POLARIZATION.findall(facts.words_of(band).replace("_", " ").upper()):
            return band
    raise MissingBand(f"{facts.path} has no band named {wanted!r}; it has {_listing(facts)}.")


def _named_in_band(facts: Facts, band: int) -> str:
    match = POLARIZATION.search(facts.words_of(band).replace("_", " "))
    return match[1].upper() if match else ""


def _by_name(facts: Facts, candidates: Sequence[int], names: Sequence[str]) -> tuple[int, ...] | None:
    found = {}
    for band in reversed(candidates):
        for word in WORDS.split(facts.descriptions[band - 1]):
            found[_plain(word)] = band
    for band in reversed(candidates):  # a whole name before a part of one: green is not green_i
        found[_plain(facts.descriptions[band - 1])] = band
    if all(_plain(name) in found for name in names):
        return tuple(found[_plain(name)] for name in names)
    return None


def _plain(word: str) -> str:
    """Lower case, and B04 as b4."""
    return re.sub(r"^b0*(?=\d)", "b", word.strip().lower())


def _listing(facts: Facts) -> str:
    names = []
    for band in range(1, min(facts.count, 16) + 1):
        word = facts.descriptions[band - 1] or facts.colors[band - 1]
        names.append(f"{band} {word}" if word not in ("undefined", "") else str(band))
    return ", ".join(names) + (", …" if facts.count > 16 else "")
