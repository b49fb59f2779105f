"""Landsat Collection 2 as it is delivered: bands of a folder or tar, with scale and offset from its metadata."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from mmovseg_geo.errors import MissingBand, SceneError
from mmovseg_geo.rasters.facts import Meaning, Product
from mmovseg_geo.rasters.products.band_files import band_in_name, stacked
from mmovseg_geo.rasters.products.names import LANDSAT, scene_name, told_by_name
from mmovseg_geo.rasters.radiometry import LANDSAT_GAIN, LANDSAT_OFFSET

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mmovseg_geo.rasters.facts import Facts
    from mmovseg_geo.rasters.products.delivery import Delivery

FILE = re.compile(r"_(?:SR_)?B(?P<number>\d{1,2})\.TIF$", re.IGNORECASE)
METADATA = re.compile(r"_MTL\.txt$", re.IGNORECASE)
QUALITY = re.compile(r"_QA_PIXEL\.TIF$", re.IGNORECASE)
COLORS = ("blue", "green", "red", "nir", "swir1", "swir2")
NODATA = 0.0


def is_landsat(found: Delivery) -> bool:
    """Whether a folder or archive is a product of Landsat, level 1 or 2."""
    return any(LANDSAT.search(name) and (FILE.search(name) or METADATA.search(name)) for name in found.names)


def image(found: Delivery) -> Facts:
    """Blue, green, red, near and shortwave infrared of a product.

    Raises:
        MissingBand: red, green or blue is not in the product.
        SceneError: more than one scene, or metadata that cannot be read.
    """
    bands: dict[str, list[str]] = {}
    for name in found.names:
        if LANDSAT.search(name) and FILE.search(name):
            color = band_in_name(name.rpartition("/")[2].rpartition(".")[0])
            if color.split(" ")[0] in COLORS:
                bands.setdefault(color, []).append(name)
    scenes = {
        match[0] for names in bands.values() for name in names if (match := LANDSAT.search(name.rpartition("/")[2]))
    }
    if len(scenes) > 1:
        raise SceneError(
            f"{found.path} holds {len(scenes)} scenes of Landsat, one was expected. Give the folder of one."
        )
    absent = [color for color in ("red", "green", "blue") if color not in {band.split(" ")[0] for band in bands}]
    if absent:
        raise MissingBand(
            f"{found.path} lacks the {' and '.join(absent)} band of Landsat (files …_SR_B4.TIF and the like).\n"
            "  Download the surface reflectance bands too."
        )
    order = sorted(bands, key=lambda band: COLORS.index(band.split(" ")[0]))
    return with_metadata(stacked([found.gdal(bands[band][0]) for band in order], found.path, order), found)


def with_metadata(facts: Facts, found: Delivery) -> Facts:
    """Band files, named by colors and numbers, with scale, offset and facts from the metadata of their product."""
    match = LANDSAT.search(facts.files[0].rpartition("/")[2])
    assert match is not None, "asked only of Landsat"
    metadata = _metadata(found)
    quality = next((name for name in found.names if QUALITY.search(name) and match[0] in name), None)
    gains, offsets, meaning, why = _scales(found, facts.descriptions, metadata, level_1=match["level"].startswith("L1"))
    product = Product(
        metadata.get("LANDSAT_PRODUCT_ID", scene_name(facts.files)),
        {**told_by_name(match[0]), **_told(metadata)},
        meaning,
        why,
        (found.gdal(quality), "qa_pixel") if quality else None,
        numbered=True,
    )
    return replace(facts, nodata=(NODATA,) * facts.count, scales=gains, offsets=offsets, product=product)


def _metadata(found: Delivery) -> dict[str, str]:
    """`GROUP.KEY` and plain `KEY` of the MTL text; of a key that groups repeat, the plain one is the last's."""
    name = next((one for one in found.names if METADATA.search(one)), None)
    if name is None:
        return {}
    values: dict[str, str] = {}
    groups: list[str] = []
    for line in found.text(name).decode("utf-8", "replace").splitlines():
        key, sign, value = (part.strip() for part in line.partition("="))
        if not sign:
            continue
        if key == "GROUP":
            groups.append(value)
        elif key == "END_GROUP":
            groups = groups[:-1]
        else:
            values[f"{groups[-1] if groups else ''}.{key}"] = values[key] = value.strip('"')
    return values


def _scales(
    found: Delivery, order: Sequence[str], metadata: Mapping[str, str], *, level_1: bool
) -> tuple[tuple[float, ...], tuple[float, ...], Meaning, str]:
    """Gain and offset of each band, what comes of them, and where they stand."""
    group = "LEVEL1_RADIOMETRIC_RESCALING" if level_1 else "LEVEL2_SURFACE_REFLECTANCE_PARAMETERS"
    gains, offsets = [], []
    for band in order:
        number = band.rpartition("B")[2]
        try:
            gains.append(float(metadata[f"{group}.REFLECTANCE_MULT_BAND_{number}"]))
            offsets.append(float(metadata[f"{group}.REFLECTANCE_ADD_BAND_{number}"]))
        except (KeyError, ValueError):
            break
    if len(gains) < len(order):
        if level_1:
            return (1.0,) * len(order), (0.0,) * len(order), "", ""
        gains, offsets = [LANDSAT_GAIN] * len(order), [LANDSAT_OFFSET] * len(order)
        return tuple(gains), tuple(offsets), "reflectance", "level 2 of collection 2"
    why = f"{gains[0]:g} and offset {offsets[0]:g} in the MTL file"
    if level_1:
        try:
            sine = math.sin(math.radians(float(metadata["SUN_ELEVATION"])))
        except (KeyError, ValueError):
            return tuple(gains), tuple(offsets), "reflectance", f"{why}, the sun's height unknown"
        if sine <= 0:
            raise SceneError(f"{found.path} was taken with the sun below the horizon; it shows no reflectance.")
        gains, offsets = [gain / sine for gain in gains], [offset / sine for offset in offsets]
        why = f"{why}, over the sine of the sun's height"
    return tuple(gains), tuple(offsets), "reflectance", why


def _told(metadata: Mapping[str, str]) -> dict[str, str]:
    day, clock = metadata.get("DATE_ACQUIRED", ""), metadata.get("SCENE_CENTER_TIME", "")
    told = {
        "acquired": f"{day}T{clock[:8]}Z" if day and clock else day,
        "sun elevation": _degrees(metadata.get("SUN_ELEVATION", "")),
        "cloud cover": f"{metadata['CLOUD_COVER']} %" if "CLOUD_COVER" in metadata else "",
    }
    return {key: text for key, text in told.items() if text}


def _degrees(text: str) -> str:
    try:
        return f"{float(text):.1f}°"
    except ValueError:
        return ""
