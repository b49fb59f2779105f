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
_FEW = 300
"""So many colors keep to pleasant lightness and saturation; more of them need all there is."""


def expected_color(words: tuple[str, ...], taken: Collection[str]) -> str:
    """The color `#rrggbb` that a map reader expects of the words, unless it is `taken` or there is none: then empty."""
    for word in words:
        parts = re.findall(r"[^\W\d_]+", word.lower())
        # The last noun names the thing: a "forest road" is a road.
        for part in reversed(parts):
            if _COLOR_BY_WORD.get(part, "") not in ("", *taken):
                return _COLOR_BY_WORD[part]
    return ""


def color_wheel() -> Iterator[str]:
    """Colors without end, each far in hue from the ones before."""
    for step in count(1):
        hue = (0.08 + step * _GOLDEN_ANGLE) % 1
        if step <= _FEW:
            lightness, saturation = (0.52, 0.66, 0.42)[step % 3], 0.35 + 0.3 * (step % 2)
        else:
            lightness, saturation = 0.3 + 0.5 * (step * 0.7549 % 1), 0.2 + 0.7 * (step * 0.5698 % 1)
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
