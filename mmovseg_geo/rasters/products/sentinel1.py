"""Sentinel-1 as it is delivered: measurements of a SAFE folder or zip with what their annotation says."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmovseg_geo.errors import MissingBand, SceneError
from mmovseg_geo.rasters.calibration import Calibration, Noise, NoiseBlock, Vectors
from mmovseg_geo.rasters.facts import Meaning, Product
from mmovseg_geo.rasters.products.names import (
    RTC,
    polarizations,
    product_stem,
    relative_orbit,
    scene_name,
    told_by_name,
    told_by_tags,
)
from mmovseg_geo.rasters.source import probe

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from mmovseg_geo.rasters.facts import Facts
    from mmovseg_geo.rasters.products.delivery import Delivery

MEASUREMENT = re.compile(r"(?:^|/)measurement/[^/]+\.tiff?$", re.IGNORECASE)
POLARIZATION = re.compile(r"(?<![a-z])(vv|vh|hh|hv)(?![a-z])", re.IGNORECASE)
ORDER = ("VV", "HH", "VH", "HV")
MARKS = ("manifest.safe", "productInfo.json")
"""Files at the top of a product: of ESA's SAFE folders, of the copies on Amazon."""
COMPLEX = (
    "  Detect it first: deburst, calibrate, multilook and correct it for the terrain (SNAP, pyroSAR, OTB),\n"
    "  or order the same scene as GRD or RTC."
)


def is_sentinel_1(found: Delivery) -> bool:
    """Whether a folder or archive is a product of Sentinel-1."""
    return any(MEASUREMENT.search(name) for name in found.names) or (
        any(name.endswith("manifest.safe") for name in found.names)
        and product_stem(found.path).upper().startswith("S1")
    )


def measurements(found: Delivery) -> list[Facts]:
    """The measurements of a product, co-polarized first, with what its annotation says of them.

    Raises:
        SceneError: not a GRD, incomplete, or annotation that cannot be read.
    """
    name = product_stem(_root(found) or found.path)
    kind = re.search(r"_(SLC|OCN|RAW)_", name.upper())
    if kind:
        raise SceneError(_no_grd(found.path, kind[1]))
    names = [one for one in found.names if MEASUREMENT.search(one)]
    if not names:
        raise SceneError(
            f"{found.path} holds no measurement/*.tiff: the product is incomplete, or not a GRD. Download it again."
        )
    by_polarization = {match[1].upper(): one for one in names if (match := POLARIZATION.search(one.rpartition("/")[2]))}
    wanted = [by_polarization[one] for one in ORDER if one in by_polarization]
    if not wanted or len(wanted) > 2:
        raise MissingBand(
            f"{found.path} holds {len(names)} measurements, of which none or too many name VV, VH, HH, HV."
        )
    return [_annotated(found, one, name) for one in wanted]


def measurement(found: Delivery, path: str) -> Facts | None:
    """One measurement of a product, named by its own path; None for a file of it that is none."""
    real = os.path.realpath(path)
    for name in found.names:
        if MEASUREMENT.search(name) and os.path.realpath(found.gdal(name)) == real:
            return _annotated(found, name, product_stem(found.path))
    return None


def named(facts: Facts, told: dict[str, str]) -> Facts:
    """A raster of Sentinel-1 by itself, with what its name and tags tell."""
    told = told | _product_info(facts.path)
    own = POLARIZATION.findall(facts.stem)
    told |= {"polarization": own[0].upper()} if len(own) == 1 else {}
    grd = "GRD" in told.get("level", "") and facts.dtypes[0] == "uint16"
    meaning, why = _rtc_scale(facts.stem)
    product = Product(scene_name(facts.files), _ordered(told), meaning, why)
    return replace(facts, product=product, calibration=Calibration() if grd else None)


def _annotated(found: Delivery, name: str, product_name: str) -> Facts:
    facts = probe(found.gdal(name))
    stem = name.rpartition("/")[2].rpartition(".")[0]
    top = name.rpartition("measurement/")[0]
    annotation = _xml(found, f"{top}annotation/{stem}.xml")
    told = {**told_by_name(product_name), **told_by_tags(facts.tags), **_told_by_manifest(found, top)}
    match = POLARIZATION.search(stem)
    told["polarization"] = match[1].upper() if match else told.get("polarization", "")
    calibration, why = Calibration(), ""
    if annotation is not None:
        told |= _told_by_annotation(annotation)
        if annotation.findtext(".//productType", "GRD").strip().upper() != "GRD":
            raise SceneError(_no_grd(found.path, annotation.findtext(".//productType", "").strip()))
        calibration, why = _calibration(found, top, stem, annotation, facts)
    meaning: Meaning = "power" if calibration.sigma is not None else ""
    return replace(facts, product=Product(product_name, _ordered(told), meaning, why), calibration=calibration)


def _calibration(found: Delivery, top: str, stem: str, annotation: Element, facts: Facts) -> tuple[Calibration, str]:
    name = f"{top}annotation/calibration/calibration-{stem}.xml"
    tables = _xml(found, name)
    if tables is None:
        return Calibration(), ""
    vectors = [
        (_number(vector, "line", found.shown(name)), _numbers(vector, "pixel"), _numbers(vector, "sigmaNought"))
        for vector in tables.iter("calibrationVector")
    ]
    if not vectors or any(len(samples) != len(values) or not len(values) for _, samples, values in vectors):
        raise SceneError(f"{found.shown(name)}: no calibration vectors that can be used. Download the product again.")
    lines, samples = (
        float(annotation.findtext(f".//imageInformation/{tag}", "") or length)
        for tag, length in zip(("numberOfLines", "numberOfSamples"), facts.shape, strict=True)
    )
    scale = (lines / facts.shape[0], samples / facts.shape[1])
    noise_name = f"{top}annotation/calibration/noise-{stem}.xml"
    calibration = Calibration(Vectors.of(vectors), _noise(_xml(found, noise_name), found.shown(noise_name)), scale)
    return calibration, f"sigma nought, by calibration-{stem}.xml"


def _noise(tables: Element | None, where: str) -> Noise | None:
    """Thermal noise; products before March 2018 have it along range alone."""
    if tables is None:
        return None
    new = next(tables.iter("noiseRangeVector"), None) is not None
    names = ("noiseRangeVector", "noiseRangeLut") if new else ("noiseVector", "noiseLut")
    vectors = [
        (_number(vector, "line", where), _numbers(vector, "pixel"), _numbers(vector, names[1]))
        for vector in tables.iter(names[0])
    ]
    vectors = [vector for vector in vectors if len(vector[1]) == len(vector[2]) > 0]
    if not vectors:
        return None
    blocks = []
    for block in tables.iter("noiseAzimuthVector"):
        lines, factors = _numbers(block, "line"), _numbers(block, "noiseAzimuthLut")
        if len(lines) != len(factors) or not len(lines):
            continue
        first_row, last_row, first_col, last_col = (
            int(_number(block, tag, where))
            for tag in ("firstAzimuthLine", "lastAzimuthLine", "firstRangeSample", "lastRangeSample")
        )
        blocks.append(NoiseBlock((first_row, last_row), (first_col, last_col), lines, factors))
    return Noise(Vectors.of(vectors), tuple(blocks))


def _told_by_annotation(annotation: Element) -> dict[str, str]:
    mission = annotation.findtext(".//missionId", "").strip()
    absolute = annotation.findtext(".//absoluteOrbitNumber", "").strip()
    start = annotation.findtext(".//startTime", "").strip()
    told = {
        "mission": f"Sentinel-{mission[1:]}" if mission else "",
        "acquired": f"{start[:19]}Z" if start else "",
        "pass": annotation.findtext(".//productInformation/pass", "").strip().lower(),
        "absolute orbit": absolute,
        "relative orbit": relative_orbit(mission, int(absolute)) if absolute.isdigit() else "",
    }
    return {key: text for key, text in told.items() if text}


def _told_by_manifest(found: Delivery, top: str) -> dict[str, str]:
    manifest = _xml(found, f"{top}manifest.safe")
    if manifest is None:
        return _info(found.text(f"{top}productInfo.json")) if f"{top}productInfo.json" in found.names else {}
    told = {
        "pass": manifest.findtext(".//pass", "").strip().lower(),
        "relative orbit": manifest.findtext(".//relativeOrbitNumber", "").strip(),
    }
    return {key: text for key, text in told.items() if text}


def _product_info(path: str) -> dict[str, str]:
    """Of the JSON beside or above a measurement that was copied out of a product on Amazon."""
    file = Path(path)
    for folder in (file.parent, file.parent.parent):
        for beside in sorted(folder.glob("*productInfo.json")):
            prefix = beside.name.removesuffix("productInfo.json")
            if file.name.startswith(prefix) and (prefix or file.parent.name == "measurement"):
                return _info(beside.read_bytes())
    return {}


def _info(content: bytes) -> dict[str, str]:
    try:
        info = json.loads(content)
        mission, absolute = str(info["missionId"]), int(info["absoluteOrbitNumber"])
        told = {
            "mission": f"Sentinel-{mission[1:]}",
            "acquired": f"{str(info['startTime'])[:19]}Z",
            "relative orbit": relative_orbit(mission, absolute),
            "absolute orbit": str(absolute),
            "polarization": polarizations(str(info["polarization"])),
        }
    except (ValueError, KeyError, TypeError):
        return {}
    return {key: text for key, text in told.items() if text}


def _rtc_scale(stem: str) -> tuple[Meaning, str]:
    match = RTC.search(stem)
    meanings: dict[str, Meaning] = {"p": "power", "d": "db", "a": "amplitude"}
    return (meanings[match["scale"].lower()], "product name of HyP3") if match else ("", "")


def _ordered(told: Mapping[str, str]) -> dict[str, str]:
    known = ("mission", "level", "acquired", "pass", "relative orbit", "absolute orbit", "polarization", "processor")
    return {key: told[key] for key in (*known, *(key for key in told if key not in known)) if told.get(key)}


def _root(found: Delivery) -> str:
    """The folder of the product in an archive, which may itself have another name."""
    tops = {name.split("/")[0] for name in found.names if "/" in name}
    named = [top for top in tops if top.upper().endswith(".SAFE")]
    return named[0] if len(named) == 1 else ""


def _xml(found: Delivery, name: str) -> Element | None:
    return found.xml(name) if name in found.names else None


def _numbers(element: Element, tag: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    try:
        return np.array(element.findtext(tag, "").split(), np.float64)
    except ValueError:
        return np.zeros(0)


def _number(element: Element, tag: str, where: str) -> float:
    try:
        return float(element.findtext(tag, ""))
    except ValueError:
        raise SceneError(f"{where}: a vector has no {tag} that is a number. Download the product again.") from None


def _no_grd(path: str, kind: str) -> str:
    if kind == "SLC":
        return (
            f"{path} is a single-look complex product (SLC), detected backscatter (GRD, RTC) was expected.\n{COMPLEX}"
        )
    return (
        f"{path} is a product of type {kind}, which holds no backscatter image; give the GRD or RTC of the same scene."
    )
