"""Images as they are delivered: a product's folder, zip or tar, band files, or a raster, with what all of them tell."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mmovseg_geo.errors import MissingBand, SceneError, a_few
from mmovseg_geo.rasters.facts import Product
from mmovseg_geo.rasters.products import landsat, planet, sentinel1, sentinel2
from mmovseg_geo.rasters.products.band_files import band_in_name, stacked
from mmovseg_geo.rasters.products.delivery import Delivery, around, beside, delivery, is_archive
from mmovseg_geo.rasters.products.names import (
    LANDSAT,
    listed,
    scene_name,
    told_by_name,
    told_by_tags,
)
from mmovseg_geo.rasters.source import probe

if TYPE_CHECKING:
    from mmovseg_geo.rasters.facts import Facts

    PathLike = str | os.PathLike[str]

RASTERS = (".tif", ".tiff", ".jp2", ".vrt", ".img", ".png")
METADATA = re.compile(r"manifest\.safe|MTD_MSI(L1C|L2A)\.xml|L\w+_MTL\.(txt|xml|json)")
"""Files by which a product may be named."""
TRUE_COLOR = (("red", "green", "blue"), ("B4", "B3", "B2"))
KNOWN = "Sentinel-1 or 2 SAFE, Landsat, PlanetScope, or band files such as B04, B03 and B02"


def image_facts(path: PathLike | Sequence[PathLike], wanted: Sequence[int | str] | None = None) -> Facts:
    """What is told of an optical image: a raster, a product, or band files (several paths, or one text with commas).

    Args:
        wanted: bands that will be asked for, which decide the pixel size of Sentinel-2.

    Raises:
        SceneError: what cannot be read, or is no image. MissingBand: an image of another sensor, or without a band.
    """
    paths = listed(path)
    if len(paths) > 1:
        return _band_files(paths)
    found = _product(paths[0])
    if found is None:
        if planet.is_planet(paths[0]):
            return planet.image(*planet.around(paths[0]))
        return _named(probe(paths[0]))
    if sentinel1.is_sentinel_1(found):
        raise MissingBand(
            f"{found.path} is a radar image of Sentinel-1, red, green and blue are needed.\n"
            "  Give it as the SAR image: second, or with --sar-only."
        )
    if sentinel2.is_sentinel_2(found):
        return sentinel2.image(found, wanted)
    if landsat.is_landsat(found):
        return landsat.image(found)
    images = planet.images(found)
    if images:
        scenes = {scene_name(name).partition("_3B")[0] for name in images}
        if len(scenes) > 1:
            raise SceneError(f"{found.path} holds {len(scenes)} images of PlanetScope; name one: {a_few(images, 3)}.")
        return planet.image(found, images[0])
    return _loose_bands(found)


def radar_facts(path: PathLike | Sequence[PathLike]) -> list[Facts]:
    """What is told of a SAR image: one or two rasters, or a product.

    Raises:
        SceneError: what cannot be read, or is no image of backscatter. MissingBand: a product of another sensor.
    """
    files: list[Facts] = []
    for one in listed(path):
        found = _product(one)
        if found is not None:
            files += _radar_product(found)
            continue
        root = around(one, sentinel1.MARKS, 2) if "measurement" in one else None
        facts = sentinel1.measurement(delivery(root), one) if root else None
        files.append(facts or _named(probe(one)))
    return files


def _radar_product(found: Delivery) -> list[Facts]:
    if sentinel1.is_sentinel_1(found):
        return sentinel1.measurements(found)
    if sentinel2.is_sentinel_2(found) or landsat.is_landsat(found) or planet.images(found):
        raise MissingBand(f"{found.path} is an optical image, a radar image was expected. Give it first, alone.")
    by_polarization: dict[str, list[str]] = {}
    for name in found.listing(RASTERS):
        match = sentinel1.POLARIZATION.search(name.rpartition("/")[2].replace("_", " "))
        if match:
            by_polarization.setdefault(match[1].upper(), []).append(name)
    once = {key: names[0] for key, names in by_polarization.items() if len(names) == 1}
    wanted = [once[key] for key in sentinel1.ORDER if key in once]
    if not wanted or len(wanted) < len(by_polarization):
        raise SceneError(_unknown(found))
    return [_named(probe(found.gdal(name))) for name in wanted[:2]]


def _product(path: str) -> Delivery | None:
    """The folder or archive that a path names, itself or by its metadata; None for any other path."""
    if METADATA.fullmatch(os.path.basename(path)) and os.path.isfile(path):
        path = str(Path(path).parent)
    if os.path.isdir(path):
        root = around(os.path.join(path, "file"), sentinel2.MARKS)
        found = delivery(path)
        if root is None or os.path.abspath(path) == root:
            return found
        # a folder inside a SAFE folder: its bands alone, with the metadata above
        place = os.path.relpath(os.path.abspath(path), root).replace(os.sep, "/")
        whole = delivery(root)
        kept = [
            name
            for name in whole.names
            if name.startswith(f"{place}/")
            or name in sentinel2.MARKS
            or sentinel2.SCENE_CLASSES.search(name)
            or sentinel2.CLOUD_CLASSES.search(name)
        ]
        return Delivery(root, tuple(kept))
    return delivery(path) if is_archive(path) else None


def _named(facts: Facts) -> Facts:
    """A raster with what its name and tags tell of the product that it is, or was cut out of."""
    told = {**told_by_name(facts.stem), **told_by_tags(facts.tags)}
    if told.get("mission", "").startswith("Sentinel-1"):
        return sentinel1.named(facts, told)
    return replace(facts, product=Product(scene_name(facts.files), told)) if told else facts


def _band_files(paths: Sequence[str]) -> Facts:
    """Band files that were listed, with the metadata of their product where these lie near."""
    facts = stacked(paths, ",".join(paths))
    bands = {name.split(" ")[-1] for name in facts.descriptions}
    root = around(paths[0], sentinel2.MARKS)
    if root and bands <= set(sentinel2.BANDS):
        facts = sentinel2.with_metadata(facts, delivery(root))
    elif match := LANDSAT.search(os.path.basename(paths[0])):
        facts = landsat.with_metadata(facts, beside(paths[0], match[0]))
    else:
        facts = _named(facts)
    # of files that were listed, numbers are places in the list
    return replace(facts, product=replace(facts.product, numbered=False)) if facts.product else facts


def _loose_bands(found: Delivery) -> Facts:
    """Red, green and blue of a folder or archive of band files, at the finest pixel size that their names tell."""
    sizes: dict[str, dict[str, list[str]]] = {}
    for name in found.listing(RASTERS):
        stem = name.rpartition("/")[2].rpartition(".")[0]
        band = band_in_name(stem)
        if band:
            size = re.search(r"_(\d\dm)$", stem)
            sizes.setdefault(size[1] if size else "", {}).setdefault(band.split(" ")[0], []).append(name)
    for _, bands in sorted(sizes.items()):
        for colors in TRUE_COLOR:
            if all(color in bands for color in colors):
                twice = [name for color in colors for name in bands[color] if len(bands[color]) > 1]
                if twice:
                    raise SceneError(
                        f"{found.path} holds more than one file of a band: {a_few(twice, 4)}.\n"
                        "  List the three that are meant: B04.tif,B03.tif,B02.tif."
                    )
                facts = stacked([found.gdal(bands[color][0]) for color in colors], found.path)
                return _named(facts)
    raise SceneError(_unknown(found))


def _unknown(found: Delivery) -> str:
    folder = os.path.isdir(found.path)
    what = "a folder" if folder else "an archive"
    rasters = found.listing(RASTERS)
    if not rasters:
        advice = "It holds no rasters."
    elif folder:
        advice = f"Name the raster in it: {a_few([found.gdal(name) for name in rasters], 3)}."
    else:
        advice = f"Unpack it, or name the raster in it: {a_few([found.gdal(name) for name in rasters], 3)}."
    return f"{found.path} is {what}, but holds no product that is known here ({KNOWN}).\n  {advice}"
