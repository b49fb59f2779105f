"""What is installed, what it can do on this machine, and what is missing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mmovseg_geo
from mmovseg_geo import machine

DISTRIBUTION = "mmovseg-geo"
EXTRAS = {
    "dask": "one archive on many machines",
    "xlsx": "tables of scores for spreadsheets (mmovseg eval --xlsx)",
    "train": "training from the recipes in configs/train",
    "bench": "mmovseg benchmark --vs monai",
    "test": "the tests",
    "dev": "working on mmovseg itself",
}
"""What each optional group of packages is for."""
_REQUIREMENT = re.compile(
    r"""^(?P<name>[\w.-]+)(?:\[.*?\])?(?P<wanted>[^;]*)(?:;.*extra\s*==\s*["'](?P<extra>\w+)["'])?"""
)
_SECRET = re.compile("AUTH|PWD|PASS|TOKEN|SECRET|KEY|BEARER|HEADER|COOKIE")
"""In names of settings that may hold passwords; GDAL has GDAL_HTTP_USERPWD, GDAL_HTTP_BEARER and more."""


def examine() -> dict[str, Any]:
    """Facts by subject, and under `problems` what stands in the way, with advice. A broken library ends nothing.

    >>> sorted(examine())[:3]
    ['cache', 'compute', 'extras']
    """
    settings = _settings()  # before rasterio adds its own
    packages, extras = _packages()
    facts: dict[str, Any] = {
        "mmovseg": mmovseg_geo.__version__,
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
        "packages": packages,
        "extras": extras,
        "rasters": _asked(_rasters),
        "vectors": _asked(_vectors),
        "compute": _asked(_compute),
        "memory": _memory(),
        "cache": _asked(_cache),
        "settings": settings,
    }
    return {**facts, "problems": list(_problems(facts))}


def lines(facts: Mapping[str, Any]) -> list[str]:
    """The facts as short lines of text, problems last."""
    there = [f"{name} {version}" for name, version in facts["packages"].items() if version]
    memory = facts["memory"]
    extras = [
        f"{name}: {'without ' + ', '.join(missing) if missing else 'complete'} ({EXTRAS.get(name, 'of this version')})"
        for name, missing in facts["extras"].items()
    ]
    told = {
        "mmovseg": [f"{facts['mmovseg']} with Python {facts['python']} on {facts['system']}"],
        "packages": [", ".join(there) or "unknown: this is a folder of source code that was not installed"],
        "rasters": _told(facts["rasters"], _said_of_gdal),
        "polygons": _told(facts["vectors"], _said_of_gdal),
        "compute": _told(facts["compute"], _said_of_compute),
        "memory": [f"{_mb(memory['free_mb'])} free of {_mb(memory['total_mb'])}"],
        "cache": _told(facts["cache"], _said_of_cache),
        "settings": [f"{name}={value}" for name, value in facts["settings"].items()],
        "extras": extras,
        "PROBLEM": facts["problems"],
    }
    width = max(map(len, told)) + 2
    found = [
        f"{subject if number == 0 or subject == 'PROBLEM' else '':<{width}}{text}"
        for subject, texts in told.items()
        for number, text in enumerate(texts)
    ]
    return [*found, *([] if facts["problems"] else ["All that mmovseg needs is there."])]


def _settings() -> dict[str, str]:
    """Variables of the environment that mmovseg and its libraries honor."""
    honored = (
        "GDAL_",
        "CPL_",
        "VSI_",
        "PROJ_",
        "OMP_",
        "MKL_",
        "CUDA_VISIBLE",
        "HF_HOME",
        "HF_HUB",
        "XDG_CACHE",
        "CXX",
    )
    return {name: _shown(name, value) for name, value in sorted(os.environ.items()) if name.startswith(honored)}


def _shown(name: str, value: str) -> str:
    """A setting without the secrets that it may hold."""
    return "set, not shown" if _SECRET.search(name) else re.sub(r"//[^/@\s]*@", "//***@", value)


def _packages() -> tuple[dict[str, str | None], dict[str, list[str]]]:
    """Versions of what is needed (None where absent), and what is absent of each extra."""
    needed: dict[str, str | None] = {}
    extras: dict[str, list[str]] = {}
    for text in _requirements():
        found = _REQUIREMENT.match(text)
        if found is None:
            continue
        name, extra = found["name"], found["extra"]
        if extra is None:
            needed[name] = _version(name)
        elif name != DISTRIBUTION:
            missing = extras.setdefault(extra, [])
            if _version(name) is None:
                missing.append(name)
    return needed, extras


def _requirements() -> list[str]:
    try:
        return importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return []


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _asked(room: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a room says, or under `failed` why it cannot be entered: broken libraries fail in every way."""
    try:
        return room()
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}"}


def _rasters() -> dict[str, Any]:
    from mmovseg_geo.rasters.drivers import NEEDED, gdal_facts

    facts = gdal_facts()
    return {**facts, "lacks": [name for name in NEEDED if not facts["drivers"][name]]}


def _vectors() -> dict[str, Any]:
    from mmovseg_geo.polygons.formats import NEEDED, vector_facts

    facts = vector_facts()
    return {**facts, "lacks": [name for name in NEEDED if not facts["drivers"][name]]}


def _compute() -> dict[str, Any]:
    from mmovseg_geo.models.machine import compute_facts

    return compute_facts()


def _cache() -> dict[str, Any]:
    from mmovseg_geo.models import hub, registry
    from mmovseg_geo.models.weights import bundled_weights

    folder = hub.cache_folder()
    there = folder
    while not there.exists():
        there = there.parent
    weights = {name: registry.cached(name) for name in registry.names()}
    return {
        "folder": str(folder),
        "free_mb": round(shutil.disk_usage(there).free / 2**20),
        "offline": hub.offline(),
        "bundled": str(bundled_weights().path),  # raises where it is damaged
        "weights": {name: _size_mb(path) for name, path in weights.items() if path is not None},
    }


def _size_mb(path: Path) -> float:
    return round(path.stat().st_size / 2**20, 1)


def _memory() -> dict[str, int | None]:
    """Megabytes of this machine or of the container that this process lives in; None where nobody tells."""
    known = {"total_mb": machine.total_bytes(), "free_mb": machine.available_bytes()}
    return {name: None if count is None else count // 2**20 for name, count in known.items()}


def _problems(facts: Mapping[str, Any]) -> list[str]:
    again = f"Install again: pip install {DISTRIBUTION}"
    absent = [name for name, version in facts["packages"].items() if version is None]
    found = [f"{name} is not installed. {again}" for name in absent]
    for subject, use in (
        ("rasters", "read or write rasters"),
        ("vectors", "write polygons"),
        ("compute", "run models"),
        ("cache", "find weights"),
    ):
        if "failed" in facts[subject]:
            found.append(f"mmovseg cannot {use}: {facts[subject]['failed']}. {again}")
    for subject in ("rasters", "vectors"):
        found += [f"The GDAL of {subject} lacks the driver {name}. {again}" for name in facts[subject].get("lacks", ())]
    if not facts["rasters"].get("transforms", True):
        found.append("PROJ finds no data base of coordinate systems. Unset PROJ_DATA and PROJ_LIB, and try again.")
    return found


def _told(facts: Mapping[str, Any], text: Callable[[Mapping[str, Any]], list[str]]) -> list[str]:
    return [f"cannot be used: {facts['failed']}"] if "failed" in facts else text(facts)


def _said_of_gdal(facts: Mapping[str, Any]) -> list[str]:
    there = [name for name, present in facts["drivers"].items() if present]
    absent = [name for name, present in facts["drivers"].items() if not present]
    proj = f", PROJ {facts['proj']}" if "proj" in facts else ""
    without = f"; without {', '.join(absent)}" if absent else ""
    return [f"GDAL {facts['version']}{proj}: {', '.join(there)}{without}"]


def _said_of_compute(facts: Mapping[str, Any]) -> list[str]:
    gpus = [f"{gpu['name']}, {_mb(gpu['memory_mb'])}" for gpu in facts["gpus"]]
    if not gpus:
        built = (
            f"torch is built for CUDA {facts['cuda_build']}" if facts["cuda_build"] else "torch is built without CUDA"
        )
        gpus = [f"no GPU found; {built}"]
    compiler = facts["compiler"] or "no C++ compiler (model option compile=true has no effect)"
    return [
        f"torch {facts['torch']} on {facts['device']} in {facts['precision']}",
        *gpus,
        f"{facts['threads']} threads of {facts['processors']} processors, {facts['instructions']}; {compiler}",
    ]


def _said_of_cache(facts: Mapping[str, Any]) -> list[str]:
    offline = ", HF_HUB_OFFLINE is set" if facts["offline"] else ""
    names = ", ".join(f"{name} ({size:g} MB)" for name, size in facts["weights"].items())
    return [f"{facts['folder']}, {_mb(facts['free_mb'])} free{offline}", f"weights here: {names}"]


def _mb(megabytes: int | None) -> str:
    return "an unknown amount" if megabytes is None else f"{megabytes / 2**10:.1f} GB"
