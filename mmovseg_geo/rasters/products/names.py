"""What the names of products tell: what a scene is called, and mission, date, orbit and polarization of its files."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path, PurePosixPath

from mmovseg_geo.rasters.products.delivery import ARCHIVES

SENTINEL_1 = re.compile(
    r"(?P<mission>S1[A-D])[_-](?P<mode>IW|EW|WV|S[1-6]|EN|N[1-6])[_-]"
    r"(?:(?P<type>GRD|SLC|OCN|RAW)(?P<resolution>[FHM_])?[_-])?"
    r"(?:[012][SA](?P<pols>[SD][VH])[_-]|(?P<pol>VV|VH|HH|HV)[_-])?(?P<start>\d{8}T\d{6})"
    r"(?:[_-]\d{8}T\d{6}[_-](?P<orbit>\d{6}))?",
    re.IGNORECASE,
)
"""Products, files of SAFE folders, and what is cut out of them: S1A_IW_GRDH_1SDV_20180716T004042_…"""
RTC = re.compile(r"S1[A-D]_IW_\d{8}T\d{6}_[SD][VH][POR]_RTC(?P<spacing>\d{2})_[GS]_[gs](?P<scale>[pda])", re.IGNORECASE)
"""Radiometrically terrain corrected by HyP3; the scale is power, decibel or amplitude."""
OPERA = re.compile(r"OPERA_L2_RTC-S1_(?P<burst>T\d{3}-\d{6}-IW\d)_(?P<start>\d{8}T\d{6})Z_.*?_(?P<mission>S1[A-D])_")
SENTINEL_2 = re.compile(
    r"(?P<mission>S2[A-D])_(?:OPER_PRD_)?MSI(?P<level>L1C|L2A)_(?P<start>\d{8}T\d{6})"
    r"(?:_N(?P<baseline>\d{4})_R(?P<orbit>\d{3})_T(?P<tile>\w{5}))?"
)
SENTINEL_2_FILE = re.compile(r"(?<![A-Z0-9])T(?P<tile>\d{2}[A-Z]{3})_(?P<start>\d{8}T\d{6})")
LANDSAT = re.compile(
    r"L(?P<sensor>[COTEM])(?P<number>0[4-9])_(?P<level>L[12]\w{2})_(?P<path>\d{3})(?P<row>\d{3})_(?P<day>\d{8})_\d{8}_(?P<collection>\d{2})"
)
PLANET = re.compile(
    r"(?P<day>\d{8})_(?P<time>\d{6})(?:_\d{2})?_(?P<satellite>\w{4})_(?P<level>3B|3A|1B)_"
    r"(?P<asset>AnalyticMS|Visual|Analytic)",
    re.IGNORECASE,
)
REPEAT = {"S1A": (73, 175), "S1B": (27, 175)}
"""Relative orbit = (absolute orbit - first) modulo second + 1."""
SHORTEST = 3
"""Letters that the common beginning or end of band files must have to be a name."""


def scene_name(path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> str:
    """What a scene, and the files made from it, are called: its product, or the stem of its first file.

    Band files are called by what they have in common: how their names begin (`T32TNS_20210601T101559_B04.jp2,…`) or end
    (`red_tile7.tif,…`), or else the folder that they lie in (`tile7/B04.tif,…`).
    """
    parts = listed(path)
    stems = [product_stem(part) for part in parts]
    if len(parts) == 1:
        return stems[0]
    beginning = _alike([re.split(r"(?<=[_-])", stem) for stem in stems])
    end = _alike([re.split(r"(?=[_-])", stem)[::-1] for stem in stems], backward=True)
    folders = {_folder(part) for part in parts}
    for shared in (beginning, end):
        if len(shared) >= SHORTEST:
            return shared
    return (len(folders) == 1 and folders.pop().rpartition("/")[2]) or stems[0]


def _alike(words: Sequence[Sequence[str]], *, backward: bool = False) -> str:
    """The first words of all, as far as they are the same, without what parts them from the others."""
    shared = [one[0] for one in takewhile(lambda group: len(set(group)) == 1, zip(*words, strict=False))]
    return "".join(shared[::-1] if backward else shared).strip("_-")


def _folder(path: str) -> str:
    """The folder of a file, whole, so that it does not depend on how the path is written."""
    if "://" in path or path.startswith("/vsi"):
        return str(PurePosixPath(path.split("?")[0]).parent)
    return Path(path).absolute().parent.as_posix()


def listed(path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[str]:
    """The paths that were given: one, several, or several in one text parted by commas."""
    if not isinstance(path, (str, os.PathLike)):
        return [os.fspath(part) for part in path]
    text = os.fspath(path)
    return [text] if "," not in text or os.path.exists(text) else [part.strip() for part in text.split(",")]


def product_stem(path: str) -> str:
    """File name without folders, suffix and URL query; of a product its name, whichever of its files was given."""
    place = PurePosixPath(path.replace("\\", "/").split("?")[0].rstrip("/"))
    name = place.name
    if name == "manifest.safe" or re.fullmatch(r"MTD_MSIL(1C|2A)\.xml", name):
        name = Path(path).absolute().parent.name
    name = re.sub(r"_MTL\.(txt|xml|json)$", "", name)
    for suffix in ARCHIVES:
        name = name[: -len(suffix)] if name.lower().endswith(suffix) else name
    return name[:-5] if name.upper().endswith(".SAFE") else PurePosixPath(name).stem if "." in name else name


def told_by_name(stem: str) -> dict[str, str]:
    """What a name tells: mission, level, acquired, … in words; empty for a name that is none of a product's."""
    for tell in (_sentinel_1, _opera, _sentinel_2, _landsat, _planet):
        told = tell(stem)
        if told:
            return {key: text for key, text in told.items() if text}
    return {}


def told_by_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Date, pass, orbit and processor from the tags of a file, whatever program wrote them."""
    told = {}
    for key, (name, value) in TAGS.items():
        for tag, text in tags.items():
            if re.fullmatch(name, tag, re.IGNORECASE) and re.match(value, text.strip(), re.IGNORECASE):
                told[key] = text.strip()
                break
    if "pass" in told:
        told["pass"] = "ascending" if told["pass"][0].lower() == "a" else "descending"
    description = tags.get("TIFFTAG_IMAGEDESCRIPTION", "")
    match = re.match(r"Sentinel-1([A-D]) (\w\w) (GRD|SLC) ?(\w\w)?", description)
    if match:
        told["mission"], told["level"] = f"Sentinel-1{match[1]}", " ".join(part for part in match.groups()[1:] if part)
    software = tags.get("TIFFTAG_SOFTWARE", "")
    if software.startswith("Sentinel-1 IPF"):
        told["processor"] = software.removeprefix("Sentinel-1 ")
    return told


TAGS = {
    "acquired": (
        r"(acquisition|sensing|zero_doppler|first_line)_?(start)?_?(date|time|datetime)(_utc)?|date_acquired|acquired",
        r"\d{4}-?\d{2}-?\d{2}",
    ),
    "pass": (r"(.*_)?(orbit|pass)(_?pass)?(_?direction)?", r"(asc|desc)|[ad]$"),
    "relative orbit": (r"(.*_)?(relative_?orbit|track)(_?number)?", r"\d+$"),
    "cloud cover": (r"(.*_)?cloud_?cover(age)?(_.*)?", r"\d+(\.\d+)?"),
}
"""Pattern of the tag's name and of its value, by what it tells; TIFFTAG_DATETIME is when a file was written."""


def moment(start: str) -> str:
    """`20180716T004042` as 2018-07-16T00:40:42Z."""
    return f"{start[:4]}-{start[4:6]}-{start[6:8]}T{start[9:11]}:{start[11:13]}:{start[13:15]}Z"


def relative_orbit(mission: str, absolute: int) -> str:
    """The relative orbit of Sentinel-1A and B; empty for others, whose rule may still change."""
    if mission.upper() not in REPEAT:
        return ""
    first, repeat = REPEAT[mission.upper()]
    return str((absolute - first) % repeat + 1)


def polarizations(code: str) -> str:
    """`DV` as VV VH."""
    return {"SV": "VV", "SH": "HH", "DV": "VV VH", "DH": "HH HV"}.get(code.upper(), "")


def _sentinel_1(stem: str) -> dict[str, str]:
    match = SENTINEL_1.search(stem)
    if not match:
        return {}
    mission, orbit = match["mission"].upper(), match["orbit"]
    kind = "RTC" if RTC.search(stem) else f"{match['type'] or ''}{(match['resolution'] or '').strip('_')}"
    level = f"{match['mode']} {kind}".upper().strip()
    return {
        "mission": f"Sentinel-{mission[1:]}",
        "level": level,
        "acquired": moment(match["start"].upper()),
        "relative orbit": relative_orbit(mission, int(orbit)) if orbit else "",
        "absolute orbit": str(int(orbit)) if orbit else "",
        "polarization": polarizations(match["pols"] or "") or (match["pol"] or "").upper(),
    }


def _opera(stem: str) -> dict[str, str]:
    match = OPERA.search(stem)
    if not match:
        return {}
    track = str(int(match["burst"][1:4]))
    return {
        "mission": f"Sentinel-{match['mission'][1:]}",
        "level": "OPERA RTC",
        "acquired": moment(match["start"]),
        "relative orbit": track,
    }


def _sentinel_2(stem: str) -> dict[str, str]:
    match = SENTINEL_2.search(stem)
    if not match:
        file = SENTINEL_2_FILE.search(stem)
        if not file:
            return {}
        return {"mission": "Sentinel-2", "acquired": moment(file["start"]), "tile": file["tile"]}
    baseline = match["baseline"]
    return {
        "mission": f"Sentinel-{match['mission'][1:]}",
        "level": match["level"],
        "acquired": moment(match["start"]),
        "relative orbit": str(int(match["orbit"])) if match["orbit"] else "",
        "tile": match["tile"] or "",
        "baseline": f"{baseline[:2]}.{baseline[2:]}" if baseline else "",
    }


def _landsat(stem: str) -> dict[str, str]:
    match = LANDSAT.search(stem)
    if not match:
        return {}
    day = match["day"]
    return {
        "mission": f"Landsat {int(match['number'])}",
        "level": f"{match['level']} collection {int(match['collection'])}",
        "acquired": f"{day[:4]}-{day[4:6]}-{day[6:]}",
        "path": str(int(match["path"])),
        "row": str(int(match["row"])),
    }


def _planet(stem: str) -> dict[str, str]:
    match = PLANET.search(stem)
    if not match:
        return {}
    return {
        "mission": "PlanetScope",
        "level": f"{match['level'].upper()} {match['asset']}",
        "acquired": moment(f"{match['day']}T{match['time']}"),
        "satellite": match["satellite"],
    }
