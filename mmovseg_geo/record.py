"""The record of a run: what it was asked for, which decides its result, and the files it wrote."""

from __future__ import annotations

import hashlib
import http.client
import json
import urllib.request
from collections.abc import Collection, Mapping
from dataclasses import fields
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import mmovseg_geo
from mmovseg_geo.config import SegmentConfig
from mmovseg_geo.errors import OutputError, SceneError
from mmovseg_geo.grid import Size

if TYPE_CHECKING:
    from mmovseg_geo.models.segmenter import Segmenter
    from mmovseg_geo.rasters.scene import Scene

WITHOUT_EFFECT = frozenset({"overwrite", "resume", "device", "batch_size", "memory"})
"""Settings that do not change what a run writes."""

AFTER_STRIPS = frozenset({"polygons", "preview", "min_area", "fill_holes", "simplify", "co", "lco"})
"""Settings that are applied to the whole map, when all of its strips are finished."""

PATIENCE_S = 20
"""How long a server may take to tell of a file."""

LONGEST_TOLD = 40
"""Longer values of a setting are not put into messages."""


def request(scene: Scene, segmenter: Segmenter, config: SegmentConfig) -> dict[str, Any]:
    """What decides the result of a run: inputs, settings, model, software. Equal requests give equal files."""
    settings = {
        entry.name: _plain(getattr(config, entry.name)) for entry in fields(config) if entry.name not in WITHOUT_EFFECT
    }
    aligned_by = [_identity(config.coregister)] if config.coregister.lower().endswith(".json") else []
    return {
        "software": f"mmovseg-geo {mmovseg_geo.__version__}",
        "inputs": [*map(_identity, _files(scene)), *aligned_by],
        "settings": settings,
        "model": segmenter.provenance,
        "classes": json.loads(segmenter.vocabulary.to_json()),
    }


def described(path: Path) -> dict[str, Any]:
    """Name, size and checksum of a file, as `_run.json` keeps them."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def require_unchanged(scene: Scene, asked: Mapping[str, Any]) -> None:
    """Refuse what was read from files that are no longer those of the request.

    Raises:
        SceneError: one was replaced meanwhile.
    """
    now = {entry["path"]: entry for entry in map(_identity, _files(scene))}
    changed = [entry["path"] for entry in asked["inputs"] if now.get(entry["path"], entry) != entry]
    if changed:
        raise SceneError(
            f"{', '.join(changed)} changed while it was read, so that parts of the map would show another image.\n"
            "  Run again when nothing writes to it any more."
        )


def finished_before(record: Path, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The report of a finished run, whose files are all there unaltered, of the same inputs, settings and model.

    Raises:
        OutputError: there is none.
    """
    advice = "Add --overwrite to map it again, or choose another folder with -o."
    try:
        report: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
        files, kept = list(report["outputs"].values()), report["request"]
    except FileNotFoundError:
        raise OutputError(f"{record.parent} holds files, but {record.name} is not among them. {advice}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise OutputError(f"{record} cannot be read as the record of a run. {advice}") from None
    for entry in files:
        path = record.parent / entry["file"]
        if not path.is_file() or described(path) != entry:
            what = "is not what the run wrote" if path.is_file() else "is missing"
            raise OutputError(f"{path} {what}. {advice}")
    changed = differences(kept, wanted)
    if changed:
        raise OutputError(f"{record.parent} was made with other {', '.join(changed)}. {advice}")
    return report


def differences(kept: Mapping[str, Any], wanted: Mapping[str, Any], *, but: Collection[str] = frozenset()) -> list[str]:
    """What of a request changed: settings by their names with both values, inputs by theirs; settings `but` some.

    A file counts as the same by its name, size and time, so that a moved folder is no change.
    """
    kept, wanted = _placeless(kept), _placeless(json.loads(json.dumps(wanted)))
    found = []
    for key in wanted:
        old, new = kept.get(key), wanted[key]
        if key != "settings" and old != new:
            found.append(key + _told(key, old, new))
    old, new = kept.get("settings", {}), wanted["settings"]
    # The classes of the vocabulary tell more than the words they were made of.
    for name in new:
        if name not in ("classes", "classes_file", *but) and old.get(name) != new[name]:
            values = f" ({old.get(name)}, now {new[name]})"
            found.append(name.replace("_", "-") + (values if len(values) <= LONGEST_TOLD else ""))
    return found


def _told(key: str, old: Any, new: Any) -> str:
    """In parentheses, which part of a request's value changed."""
    parts: list[str] = []
    if key == "inputs" and isinstance(old, list):
        parts = [entry["path"] for entry in new if entry not in old] or [entry["path"] for entry in old]
    elif key == "model" and isinstance(old, dict):
        parts = [part.replace("_", " ") for part in new if old.get(part) != new[part]]
    elif key == "software":
        parts = [f"{old}, now {new}"]
    return f" ({', '.join(parts)})" if parts else ""


def _placeless(run: Mapping[str, Any]) -> dict[str, Any]:
    """A request whose inputs are told by name, size and time, so that a moved folder is still the same."""
    inputs = [{**entry, "path": PurePath(entry["path"].partition("?")[0]).name} for entry in run["inputs"]]
    return {**run, "inputs": inputs}


def _files(scene: Scene) -> list[str]:
    """The files that a map is made of: images, and what masks them."""
    description = scene.describe()
    parts = [part for part in (description["optical"], *description["sar"]) if part]
    clouds = description["clouds"]
    mask = [clouds["file"]] if clouds and clouds["masked"] and clouds["file"] else []
    return [*(path for part in parts for path in part["files"]), *mask]


def _identity(path: str) -> dict[str, Any]:
    """What changes when a file does: size and time of change, and of a file on a server what that tells of it."""
    address = path.removeprefix("/vsicurl/")
    if address.startswith(("http://", "https://")):
        return {"path": path, **_told_by_server(address)}
    place = Path(path.removeprefix("/vsizip/").removeprefix("/vsitar/"))
    for file in (place, *place.parents):  # what lies in an archive changes with it
        if file.is_file():
            status = file.stat()
            return {"path": path, "bytes": status.st_size, "changed_ns": status.st_mtime_ns}
    return {"path": path}


def _told_by_server(address: str) -> dict[str, Any]:
    """Size, version and time of change; nothing where the server does not say, as for some signed addresses."""
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=PATIENCE_S) as answer:
            headers = {name: answer.headers.get(name) for name in ("Content-Length", "ETag", "Last-Modified")}
    except (OSError, ValueError, http.client.HTTPException):
        return {}
    return {name.lower().replace("-", "_"): value for name, value in headers.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, Size):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
