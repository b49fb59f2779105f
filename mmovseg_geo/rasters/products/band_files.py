"""One image of several band files: their bands side by side, as if one file held them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mmovseg_geo.errors import SceneError
from mmovseg_geo.grid import crs_name
from mmovseg_geo.rasters.georeference import footprint
from mmovseg_geo.rasters.products.names import LANDSAT, SENTINEL_2_FILE
from mmovseg_geo.rasters.source import probe

if TYPE_CHECKING:
    from mmovseg_geo.rasters.facts import Facts

BAND = re.compile(
    r"(?<![A-Za-z0-9])(B(?:8A|0?\d|1[0-2])|red|green|blue|nir|coastal|swir_?[12]|rededge\d?)(?=_?\d\dm$|[_.\-]|$)",
    re.IGNORECASE,
)
"""A band's name within a file's: T32TNS_20210601T101559_B04_10m, LC08_…_SR_B4, scene_red."""
SAME = 1e-3
"""Pixels by which the corners of band files may lie apart."""
LANDSAT_COLORS = {
    **{
        number: {"B2": "blue", "B3": "green", "B4": "red", "B5": "nir", "B6": "swir1", "B7": "swir2"}
        for number in (8, 9)
    },
    **{
        number: {"B1": "blue", "B2": "green", "B3": "red", "B4": "nir", "B5": "swir1", "B7": "swir2"}
        for number in (4, 5, 7)
    },
}
"""What the numbered bands of each Landsat are."""


def band_in_name(stem: str) -> str:
    """`B4` or `red`, as a file's name says which band it holds; empty where it does not. B04 and B4 are one."""
    found = BAND.findall(stem)
    if not found:
        return ""
    name = (
        re.sub(r"^B0", "B", found[-1].upper()) if found[-1][0] in "Bb" and found[-1][1].isdigit() else found[-1].lower()
    )
    landsat = LANDSAT.search(stem)
    color = LANDSAT_COLORS.get(int(landsat["number"]), {}).get(name) if landsat else None
    return f"{color} {name}" if color else name


def stacked(paths: Sequence[str], path: str, names: Sequence[str] | None = None) -> Facts:
    """The bands of several files as those of one image, called `path`.

    Args:
        names: of the bands, one for each file; by default what the files themselves or their names say.

    Raises:
        SceneError: files of different places, pixel sizes or shapes.
    """
    files = [probe(one) for one in paths]
    first = files[0]
    for other in files[1:]:
        _require_same_grid(first, other)
    parts, descriptions = [], []
    for number, facts in enumerate(files):
        bands = [band for band in range(1, facts.count + 1) if band != facts.alpha]
        parts += [(facts.path, band) for band in bands]
        told = names[number] if names else band_in_name(facts.stem)
        descriptions += [told if len(bands) == 1 and told else facts.descriptions[band - 1] for band in bands]
    owner = {facts.path: facts for facts in files}
    kept = [(owner[file], band - 1) for file, band in parts]
    return replace(
        first,
        path=path,
        count=len(parts),
        dtypes=tuple(facts.dtypes[band] for facts, band in kept),
        descriptions=tuple(descriptions),
        colors=("undefined",) * len(parts),
        nodata=tuple(facts.nodata[band] for facts, band in kept),
        alpha=None,
        has_mask=any(facts.has_mask or facts.alpha is not None for facts in files),
        colormap=None,
        scales=tuple(facts.scales[band] for facts, band in kept),
        offsets=tuple(facts.offsets[band] for facts, band in kept),
        units=tuple(facts.units[band] for facts, band in kept),
        band_tags=tuple(facts.band_tags[band] for facts, band in kept),
        parts=tuple(parts),
    )


def _require_same_grid(first: Facts, other: Facts) -> None:
    if first.shape == other.shape and first.crs == other.crs and _corners_apart(first, other) <= SAME:
        return
    tiles = [match["tile"] if (match := SENTINEL_2_FILE.search(facts.stem)) else "" for facts in (first, other)]
    width = max(len(first.name), len(other.name))
    listing = "\n".join(
        f"  {facts.name:<{width}}  {_tile(tile)}{facts.shape[1]} x {facts.shape[0]} pixels, "
        f"{footprint(facts.grid) if facts.crs else crs_name(None)}"
        for facts, tile in zip((first, other), tiles, strict=True)
    )
    advice = "Mosaic the tiles first, or map them one by one with `mmovseg batch`."
    if first.shape != other.shape and first.crs == other.crs:
        advice = "Give band files of one pixel size, such as B04, B03 and B02 of Sentinel-2 at 10 m."
    raise SceneError(f"Band files do not lie on one pixel grid.\n{listing}\n  {advice}")


def _tile(name: str) -> str:
    return f"tile {name}, " if name else ""


def _corners_apart(first: Facts, other: Facts) -> float:
    """The largest distance between corners, in pixels."""
    there = ~first.transform @ other.transform
    height, width = first.shape
    apart = 0.0
    for row, col in ((0, 0), (0, width), (height, 0), (height, width)):
        x, y = there @ (col, row)
        apart = max(apart, abs(x - col), abs(y - row))
    return apart
