"""Sentinel-2 as it is delivered: bands of a SAFE folder or zip, with scale and offset from its metadata."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mmovseg_geo.errors import MissingBand, SceneError, a_few
from mmovseg_geo.rasters.facts import Product
from mmovseg_geo.rasters.products.band_files import stacked
from mmovseg_geo.rasters.products.names import product_stem, told_by_name

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from mmovseg_geo.rasters.facts import Facts
    from mmovseg_geo.rasters.products.delivery import Delivery

MARKS = ("MTD_MSIL2A.xml", "MTD_MSIL1C.xml")
BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B10", "B11", "B12")
"""In the order of `band_id` in the metadata."""
FILE = re.compile(
    r"(?:^|/)IMG_DATA/(?:R(?P<folder>\d\d)m/)?(?P<tile>T\d{2}[A-Z]{3})?[^/]*_(?P<band>B\d\d|B8A)(?:_(?P<meters>\d\d)m)?\.(?:jp2|tiff?)$",
    re.IGNORECASE,
)
SCENE_CLASSES = re.compile(r"(?:^|/)(?:[^/]*_)?SCL(?:_\d\dm)?\.(?:jp2|tiff?)$", re.IGNORECASE)
CLOUD_CLASSES = re.compile(r"(?:^|/)QI_DATA/MSK_CLASSI_B00\.jp2$", re.IGNORECASE)
"""Opaque clouds, cirrus and snow of L1C since processing baseline 04.00."""
NATIVE_M = {"B2": 10, "B3": 10, "B4": 10, "B8": 10, "B1": 60, "B9": 60, "B10": 60}
"""Pixel sizes of L1C; the other bands have 20 m."""
TRUE_COLOR = ("B4", "B3", "B2")
NODATA = 0.0


def is_sentinel_2(found: Delivery) -> bool:
    """Whether a folder or archive is a product of Sentinel-2."""
    return any(name.rpartition("/")[2] in MARKS or FILE.search(name) for name in found.names)


def image(found: Delivery, wanted: Sequence[int | str] | None = None) -> Facts:
    """The bands of one pixel size, the finest at which all `wanted` bands are there, red, green and blue by default.

    Raises:
        MissingBand: a band is not in the product, or not at one pixel size with the others.
        SceneError: more than one tile, or metadata that cannot be read.
    """
    sizes = _band_files(found)
    names = [_plain(band) for band in wanted or () if not str(band).strip().lstrip("+-").isdigit()]
    needed = [dict(zip(("RED", "GREEN", "BLUE"), TRUE_COLOR, strict=True)).get(name, name) for name in names]
    needed = needed or list(TRUE_COLOR)
    fitting = [meters for meters in sorted(sizes) if set(needed) <= sizes[meters].keys()]
    if not fitting:
        raise MissingBand(_missing(found.path, needed, sizes))
    files = sizes[fitting[0]]
    order = [band for band in BANDS if band in files]
    return with_metadata(stacked([found.gdal(files[band]) for band in order], found.path, order), found)


def with_metadata(facts: Facts, found: Delivery) -> Facts:
    """Band files, named by their bands, with scale, offset and facts from the metadata of their product.

    Raises:
        SceneError: metadata that are missing or cannot be read.
    """
    told, gain, offsets, why = _metadata(found)
    product = Product(
        told.pop("product"),
        told,
        "reflectance",
        why,
        _cloud_file(found),
        numbered=True,
    )
    return replace(
        facts,
        nodata=(NODATA,) * facts.count,
        scales=(gain,) * facts.count,
        offsets=tuple(offsets.get(band, 0.0) * gain for band in facts.descriptions),
        product=product,
    )


def _cloud_file(found: Delivery) -> tuple[str, str] | None:
    """What marks clouds, and the kind of its values: the scene classification, at 20 m if there is a choice."""
    classes = [name for name in found.names if SCENE_CLASSES.search(name)]
    if classes:
        return found.gdal(max(classes, key=lambda name: ("_20m" in name, name))), "scl"
    masks = [name for name in found.names if CLOUD_CLASSES.search(name)]
    return (found.gdal(masks[0]), "classi") if masks else None


def _band_files(found: Delivery) -> dict[int, dict[str, str]]:
    """File of each band by pixel size in meters."""
    sizes: dict[int, dict[str, str]] = {}
    tiles = set()
    for name in found.names:
        match = FILE.search(name)
        if not match:
            continue
        band = _plain(match["band"])
        meters = int(match["folder"] or match["meters"] or NATIVE_M.get(band, 20))
        tiles.add(match["tile"] or "")
        sizes.setdefault(meters, {})[band] = name
    if len(tiles) > 1:
        raise SceneError(
            f"{found.path} holds the tiles {a_few(sorted(tiles))}, one was expected. Give the bands of one tile: "
            "B04.jp2,B03.jp2,B02.jp2."
        )
    return sizes


def _metadata(found: Delivery) -> tuple[dict[str, str], float, dict[str, float], str]:
    """What is told, gain of the numbers, offset of each band in numbers, and where these stand."""
    name = next((one for one in found.names if one.rpartition("/")[2] in MARKS), None)
    if name is None:
        raise SceneError(
            f"{found.path} has no MTD_MSIL1C.xml or MTD_MSIL2A.xml, which holds scale and offset of its numbers.\n"
            "  Download the product again, or give its band files: B04.jp2,B03.jp2,B02.jp2."
        )
    root = found.xml(name)
    level = "L2A" if "L2A" in name.rpartition("/")[2] else "L1C"
    prefix, list_tag = ("BOA_", "BOA_ADD_OFFSET") if level == "L2A" else ("", "RADIO_ADD_OFFSET")
    quantification = _text(root, f"{prefix}QUANTIFICATION_VALUE") or _text(root, "L2A_BOA_QUANTIFICATION_VALUE")
    try:
        gain = 1.0 / float(quantification)
        offsets = {BANDS[int(one.get("band_id", ""))]: float(one.text or "") for one in root.iter(list_tag)}
    except (ValueError, ZeroDivisionError, IndexError):
        raise SceneError(
            f"{found.shown(name)}: {prefix}QUANTIFICATION_VALUE or {list_tag} is no number. Download the product again."
        ) from None
    product = product_stem(_text(root, "PRODUCT_URI") or found.path)
    told = {
        "product": product,
        "mission": _text(root, "SPACECRAFT_NAME") or "Sentinel-2",
        "level": level,
        "acquired": (_text(root, "DATATAKE_SENSING_START") or _text(root, "PRODUCT_START_TIME"))[:19],
        "pass": _text(root, "SENSING_ORBIT_DIRECTION").lower(),
        "relative orbit": _text(root, "SENSING_ORBIT_NUMBER"),
        "baseline": _text(root, "PROCESSING_BASELINE"),
        "cloud cover": _text(root, "Cloud_Coverage_Assessment"),
    }
    told["acquired"] += "Z" if told["acquired"] else ""
    told["cloud cover"] = f"{float(told['cloud cover']):.1f} %" if told["cloud cover"] else ""
    merged = {**told_by_name(product), **{key: text for key, text in told.items() if text}}
    added = ", ".join(sorted({f"{value:g}" for value in offsets.values()} - {"0"}))
    offset = f"and offset {added}" if added else "and no offset"
    why = f"1/{float(quantification):g} {offset} in {name.rpartition('/')[2]}"
    return merged, gain, offsets, why


def _text(root: Element, tag: str) -> str:
    return (root.findtext(f".//{tag}") or "").strip()


def _plain(band: int | str) -> str:
    """B04 as B4, in capitals."""
    return re.sub(r"^B0", "B", str(band).strip().upper())


def _missing(path: str, needed: Sequence[str], sizes: dict[int, dict[str, str]]) -> str:
    there = {band for files in sizes.values() for band in files}
    absent = [band for band in needed if band not in there]
    if not sizes:
        return (
            f"{path} holds no band files (GRANULE/*/IMG_DATA/*_B04.jp2): the product is incomplete. Download it again."
        )
    listing = "; ".join(
        f"{meters} m: {', '.join(band for band in BANDS if band in sizes[meters])}" for meters in sorted(sizes)
    )
    what = f"lacks {', '.join(absent)}" if absent else f"has {', '.join(needed)} at no common pixel size"
    return f"{path} {what}; it holds {listing}.\n  Download the product again, or choose others with --bands."
