"""A scene with its SAR image where it belongs: estimated, read from a file, or left alone; and told so."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmovseg_geo.errors import ConfigError, SceneError
from mmovseg_geo.grid import crs_name
from mmovseg_geo.rasters.displacement import Displacement
from mmovseg_geo.rasters.registration.scenes import register_scene

if TYPE_CHECKING:
    from mmovseg_geo.rasters.scene import Scene

logger = logging.getLogger(__name__)

SAME = 1e-3
"""Pixels by which the corners of one place may differ."""


def coregistered(scene: Scene, how: str) -> Scene:
    """The scene as `--coregister` says: `auto` estimates and applies what is sure; a file of `coregister` is applied.

    `off` and `"rows,cols"` change nothing: the shift is part of the scene already.

    Raises:
        ConfigError, SceneError: a file that is not a record of `coregister`, or of a scene of other size.
    """
    if scene.optical is None or not scene.sar or how == "off":
        return scene
    if how == "auto":
        found = register_scene(scene)
        told = {"how": "auto", **found.to_json()}
        moved = scene.moved(found.displacement) if found.applied else scene
        return replace(moved, coregistration=told)
    if _is_numbers(how):
        rows, cols = scene.shift
        verdict = f"moved by {rows:g} rows and {cols:g} columns, as asked for"
        return replace(
            scene, coregistration={"how": "given", "applied": not scene.displacement.still, "verdict": verdict}
        )
    displacement, record = read_record(Path(how), scene)
    verdict = f"{record.get('verdict', '')}, as {Path(how).name} says".strip(", ")
    told = {**record, "how": "file", "file": Path(how).name, "applied": not displacement.still, "verdict": verdict}
    return replace(scene.moved(displacement), coregistration=told)


def read_record(path: Path, scene: Scene) -> tuple[Displacement, dict[str, Any]]:
    """The displacement that a `_coregistration.json` tells for a scene, and the whole record.

    Raises:
        SceneError: no such file, or made for an image of another size or place. ConfigError: not such a record.
    """
    shape = scene.shape
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SceneError(f"{path}: cannot be read ({error.strerror}). Name a _coregistration.json.") from None
    except ValueError:
        raise ConfigError(
            f"{path} is not JSON; the _coregistration.json of `mmovseg coregister` is expected."
        ) from None
    if not isinstance(record, dict) or not isinstance(record.get("shift"), dict):
        raise ConfigError(
            f"{path} holds no shift; the _coregistration.json of `mmovseg coregister` is expected, or at least "
            '{"shift": {"rows": 1.5, "cols": -2}}.'
        )
    size = record.get("shape")
    if size is not None and list(size) != list(shape):
        raise SceneError(
            f"{path} was made for an optical image of {size[0]} x {size[1]} pixels (rows x columns); this one has "
            f"{shape[0]} x {shape[1]}. Run coregister on this image, or give --coregister ROWS,COLS."
        )
    _require_same_place(path, record, scene)
    if record.get("displacement") is not None:
        return Displacement.from_json(record["displacement"]), record
    if record.get("applied") is False:
        return Displacement(), record
    try:
        shift = (float(record["shift"]["rows"]), float(record["shift"]["cols"]))
    except (KeyError, TypeError, ValueError):
        raise ConfigError(f"{path}: its shift should hold the numbers rows and cols.") from None
    return Displacement(shift), record


def grid_of(scene: Scene) -> dict[str, Any]:
    """Where a scene lies, as records tell it."""
    return {"crs": crs_name(scene.grid.crs), "transform": [float(value) for value in scene.grid.transform[:6]]}


def _require_same_place(path: Path, record: dict[str, Any], scene: Scene) -> None:
    """Refuse a record of another scene; one that does not tell its place is believed."""
    told, here = record.get("grid"), grid_of(scene)
    if not isinstance(told, dict) or not {"crs", "transform"} <= told.keys():
        return
    pixel = max(abs(value) for value in (here["transform"][0], here["transform"][1]))
    if told["crs"] == here["crs"] and np.allclose(told["transform"], here["transform"], rtol=0, atol=SAME * pixel):
        return
    raise SceneError(
        f"{path} was made for {record.get('optical', 'another image')} in another place: {_place(told)}, this one "
        f"{_place(here)}.\n  Run coregister on this image, or give --coregister ROWS,COLS."
    )


def _place(grid: dict[str, Any]) -> str:
    transform = grid["transform"]
    return f"{grid['crs']} from {transform[2]:.10g}, {transform[5]:.10g}"


def _is_numbers(text: str) -> bool:
    try:
        return len([float(part) for part in text.split(",")]) == 2
    except ValueError:
        return False
