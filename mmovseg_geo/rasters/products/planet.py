"""PlanetScope as it is delivered: 4 or 8 bands in one file, its metadata and its mask beside it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mmovseg_geo.errors import SceneError
from mmovseg_geo.rasters.facts import Meaning, Product
from mmovseg_geo.rasters.products.delivery import Delivery, beside, delivery
from mmovseg_geo.rasters.products.names import PLANET, told_by_name
from mmovseg_geo.rasters.radiometry import SENTINEL_2_GAIN
from mmovseg_geo.rasters.source import probe

if TYPE_CHECKING:
    from mmovseg_geo.rasters.facts import Facts

BANDS = {
    3: ("red", "green", "blue"),
    4: ("blue", "green", "red", "nir"),
    5: ("blue", "green", "red", "rededge", "nir"),
    8: ("coastal", "blue", "green1", "green", "yellow", "red", "rededge", "nir"),
}
"""Order of the bands by their number."""
INSIDE = re.compile(r"/vsi(?:zip|tar)/(?P<archive>.+?\.(?:zip|tar|tar\.gz|tgz))/(?P<name>.+)", re.IGNORECASE)
"""How GDAL names a file in an archive."""
REFLECTANCE_GAIN = SENTINEL_2_GAIN
"""Surface reflectance is stored times 10000."""


def is_planet(path: str) -> bool:
    """Whether a path names an image of PlanetScope."""
    return bool(PLANET.search(path.rpartition("/")[2])) and path.lower().endswith((".tif", ".tiff"))


def images(found: Delivery) -> list[str]:
    """The images of a delivered folder or zip, surface reflectance first, pictures last."""
    names = [name for name in found.listing((".tif", ".tiff")) if is_planet(name) and "udm" not in name.lower()]
    return sorted(names, key=lambda name: ("_Visual" in name, "_SR" not in name, name))


def around(path: str) -> tuple[Delivery, str]:
    """What lies beside an image or in its archive, and the image's name there; of an address the image alone."""
    inside = INSIDE.fullmatch(path)
    if inside and os.path.isfile(inside["archive"]):
        return delivery(inside["archive"]), inside["name"]
    if not os.path.isfile(path):
        return Delivery("", (path,)), path
    name = os.path.basename(path)
    match = PLANET.search(name)
    return beside(path, match["day"] if match else name), name


def image(found: Delivery, name: str) -> Facts:
    """An image of PlanetScope with its bands named, and scaled as the metadata beside it say.

    Raises:
        SceneError: an image or metadata that cannot be read.
    """
    facts = probe(found.gdal(name))
    match = PLANET.search(facts.stem)
    assert match is not None, "asked only of PlanetScope"
    scene = facts.stem[: match.start("level") - 1]
    own = [one for one in found.names if one.rpartition("/")[2].startswith(scene)]
    told = {**told_by_name(facts.stem), **_told(found, own)}
    mask = next((one for one in own if "_udm2" in one), None)
    product = Product(facts.stem, told, cloud_file=(found.gdal(mask), "udm2") if mask else None)
    count = facts.count - (facts.alpha is not None)
    if match["asset"].lower() == "visual" or facts.dtypes[0] == "uint8" or count not in BANDS:
        return replace(facts, product=product)
    gains, meaning, why = _scales(found, own, facts)
    return replace(
        facts,
        descriptions=(*BANDS[count], *("",) * (facts.count - count)),
        scales=gains,
        offsets=(0.0,) * facts.count,
        nodata=tuple(0.0 if value is None else value for value in facts.nodata),
        product=replace(product, meaning=meaning, why=why),
    )


def _scales(found: Delivery, own: Sequence[str], facts: Facts) -> tuple[tuple[float, ...], Meaning, str]:
    """Gain of each band to reflectance, and where it stands: fixed for surface reflectance, else in the XML."""
    if "_SR" in facts.stem:
        return (REFLECTANCE_GAIN,) * facts.count, "reflectance", "surface reflectance of PlanetScope"
    name = next((one for one in own if one.lower().endswith("_metadata.xml")), None)
    if name is None:
        return (1.0,) * facts.count, "", ""
    gains: dict[int, float] = {}
    try:
        for element in found.xml(name).iter("bandSpecificMetadata"):
            gains[int(element.findtext("bandNumber", ""))] = float(element.findtext("reflectanceCoefficient", ""))
        scales = tuple(1.0 if band == facts.alpha else gains[band] for band in range(1, facts.count + 1))
    except (KeyError, ValueError) as error:
        raise SceneError(
            f"{found.shown(name)}: no reflectance coefficient of every band ({error}). Download the metadata again, or "
            "remove it to have the values stretched."
        ) from error
    return scales, "reflectance", f"coefficients in {name.rpartition('/')[2]}"


def _told(found: Delivery, own: Sequence[str]) -> dict[str, str]:
    """Date and clouds from the JSON of the scene."""
    for name in own:
        if not name.lower().endswith("metadata.json"):
            continue
        try:
            facts = json.loads(found.text(name))["properties"]
            told = {
                "acquired": f"{facts['acquired'][:19]}Z" if facts.get("acquired") else "",
                "instrument": str(facts.get("instrument", "")),
                "cloud cover": f"{100 * float(facts['cloud_cover']):.1f} %" if "cloud_cover" in facts else "",
            }
        except (ValueError, KeyError, TypeError):
            continue
        return {key: text for key, text in told.items() if text}
    return {}
