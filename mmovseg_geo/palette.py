"""Pleasant, distinguishable colors for classes, close to what a map reader expects of water, forest or roads."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Collection, Iterator
from itertools import count

from mmovseg_geo.errors import VocabularyError

BACKGROUND_COLOR = "#e6e4df"

EXPECTED = {
    "#3f7fbf": "water lake sea river ocean flood floodwater reservoir pond canal coast",
    "#2f6b3a": "forest tree trees woodland wood jungle",
    "#c8453b": "building buildings house houses roof rooftop built settlement urban city",
    "#e6b84c": "crop crops cropland farmland field fields agriculture arable agricultureland",
    "#9ccb6b": "grass grassland meadow pasture rangeland lawn park",
    "#5b5b66": "road roads street highway asphalt pavement",
    "#c9a27a": "soil bare bareland barren ground dirt",
    "#7fae9e": "wetland marsh swamp bog mangrove",
    "#b5b04f": "shrub shrubs shrubland bush scrub vegetation",
    "#eadfb4": "sand beach dune desert",
    "#dff0f7": "snow ice glacier",
    "#f4f4f4": "cloud clouds",
    "#8d6f9e": "industrial industry factory commercial",
    "#a05a2c": "rail railway railroad",
    "#8e8e8e": "rock rocks quarry parking",
}
_COLOR_BY_WORD = {word: color for color, words in EXPECTED.items() for word in words.split()}

_GOLDEN_ANGLE = 0.381966


def color_of(words: tuple[str, ...], taken: Collection[str]) -> str:
    """A color `#rrggbb` that is not `taken`: the expected one for the words, else one far from the others."""
    for word in words:
        parts = re.findall(r"[^\W\d_]+", word.lower())
        # The last noun names the thing: a "forest road" is a road.
        for part in reversed(parts):
            if _COLOR_BY_WORD.get(part, "") not in ("", *taken):
                return _COLOR_BY_WORD[part]
    return next(color for color in _wheel() if color not in taken)


def _wheel() -> Iterator[str]:
    """Colors without end, each far in hue from the ones before."""
    for step in count(1):
        hue = (0.08 + step * _GOLDEN_ANGLE) % 1
        lightness, saturation = (0.52, 0.66, 0.42)[step % 3], 0.35 + 0.3 * (step % 2)
        red, green, blue = (round(255 * part) for part in colorsys.hls_to_rgb(hue, lightness, saturation))
        yield f"#{red:02x}{green:02x}{blue:02x}"


def normalized_color(text: str, name: str) -> str:
    """`#rrggbb` of `#abc`, `#aabbcc` or `170,187,204`; an empty text stays empty.

    Raises:
        VocabularyError: the text is not a color.
    """
    text = text.strip().lower()
    if not text:
        return ""
    if re.fullmatch(r"#[0-9a-f]{6}", text):
        return text
    if re.fullmatch(r"#[0-9a-f]{3}", text):
        return "#" + "".join(2 * digit for digit in text[1:])
    values = re.fullmatch(r"[\[(]?\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*[\])]?", text)
    if values and all(int(value) <= 255 for value in values.groups()):
        return "#" + "".join(f"{int(value):02x}" for value in values.groups())
    raise VocabularyError(f"The color {text!r} of class {name!r} is not one: write #rrggbb or 63,127,191.")
