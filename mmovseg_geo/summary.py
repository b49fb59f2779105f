"""What was understood of a scene, as a few short lines of text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

SPEAKING = frozenset({"mission", "level", "acquired", "pass", "polarization", "instrument"})
"""Facts of a product that need no name before them."""


def summary(description: Mapping[str, Any]) -> list[str]:
    """Short lines of what `Scene.describe()` returns: for each file its bands and scaling, then grid and overlap."""
    lines = []
    if description["optical"]:
        lines.append(_line("optical", description["optical"]))
    lines += [_line("sar", part) for part in description["sar"]]
    grid = description["grid"]
    height, width = grid["shape"]
    lines.append(f"grid     {width} x {height} pixels of {_meters(description['gsd_m'], grid)}, {grid['footprint']}")
    clouds = description["clouds"]
    if clouds is not None:
        use = ", taken for missing" if clouds["masked"] else ""
        look = "" if clouds["sure"] else " look like clouds"
        lines.append(f"clouds   {_share(clouds['share'])} of the optical image{look}{use} ({clouds['why']})")
    if description["overlap"] is not None:
        shift = description["sar_shift"]
        moved = f", moved by {shift['rows']:g} rows and {shift['cols']:g} columns" if any(shift.values()) else ""
        lines.append(f"overlap  SAR covers {_share(description['overlap'])} of the optical image{moved}")
        found = description.get("coregistration")
        if found:
            sure = f" (confidence {found['shift']['confidence']:.2f})" if found["how"] == "auto" else ""
            lines.append(f"aligned  {found['verdict']}{sure}")
    return lines


def details(description: Mapping[str, Any]) -> list[str]:
    """All that a reader of `mmovseg info` wants to know, one fact a line."""
    lines = []
    for name, part in [("optical", description["optical"]), *(("sar", part) for part in description["sar"])]:
        if part:
            lines += _facts(name, part)
    return [*lines, *summary(description)[len(description["sar"]) + bool(description["optical"]) :]]


def _line(name: str, part: Mapping[str, Any]) -> str:
    several = len(part["files"]) > 1 and "," in part["path"]
    files = ", ".join(PurePath(path).name for path in (part["files"] if several else [part["path"]]))
    return f"{name:<8} {files}: {_bands(part)}; {part['scaling']['words']}"


def _facts(name: str, part: Mapping[str, Any]) -> list[str]:
    height, width = part["shape"]
    nodata = ", ".join(f"{float(value):g}" for value in part["nodata"]) or "none declared"
    facts = {
        "size": f"{width} x {height} pixels, {part['driver']}, {part['dtype']}",
        "CRS": f"{part['crs'] or 'none'}, pixel {_pixel(part['transform'])}",
        "bands": f"{_bands(part)}, by {part['bands_why']}",
        "values": "; ".join(f"{low:g} .. {high:g}" for low, high in part["range"]) + " (sampled)",
        "nodata": f"{nodata}; valid are {_share(part['valid_share'])}, by {part['validity']}",
        "scaling": part["scaling"]["words"],
    }
    if part["product"]:
        named = {key: text for key, text in part["product"].items() if key != "name"}
        facts = {"product": part["product"]["name"], "about": _told(named), **facts}
    for key, label in (("calibration", "numbers"), ("speckle", "speckle")):
        if part[key]:
            facts[label] = part[key]
    if "gcps" in part:
        points = part["gcps"]
        missed = f"{points['left_out_rms_px']:g} of its pixels, at worst {points['left_out_worst_px']:g}"
        facts["points"] = f"{points['count']} control points; a point left out is missed by {missed}"
    return [f"{name:<8} {part['path']}", *(f"  {key:<8} {text}" for key, text in facts.items())]


def _told(facts: Mapping[str, str]) -> str:
    """Mission, date and the like; those that would not be understood alone with their names."""
    return ", ".join(text if key in SPEAKING else f"{key} {text}" for key, text in facts.items())


def _bands(part: Mapping[str, Any]) -> str:
    return ", ".join(f"{band['as']} = band {band['band']}" for band in part["bands"])


def _share(value: float) -> str:
    """A percentage that says 100 % only where all is meant."""
    text = f"{100 * value:.1f} %"
    return "100 %" if value == 1 else "almost 100 %" if text == "100.0 %" else text


def _meters(gsd_m: float, grid: Mapping[str, Any]) -> str:
    return f"{gsd_m:.4g} m" if grid["crs"] else "unknown size"


def _pixel(transform: list[float]) -> str:
    a, b, _, d, e, _ = transform
    text = f"{a:.6g} x {e:.6g}"
    return f"{text}, rotated" if b or d else text
