"""Align a SAR image to an optical one by what they show, and say how sure that is: images, record and picture."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mmovseg_geo
from mmovseg_geo.errors import MissingBand, OutputError, SceneError
from mmovseg_geo.rasters.products import image_facts, radar_facts
from mmovseg_geo.rasters.registration import Registration, register_scene
from mmovseg_geo.rasters.registration.apply import grid_of
from mmovseg_geo.rasters.scene import open_scene
from mmovseg_geo.staging import staged

if TYPE_CHECKING:
    from typing import Literal

    from mmovseg_geo.config import SegmentConfig
    from mmovseg_geo.rasters.facts import Facts
    from mmovseg_geo.rasters.scene import Scene

    Model = Literal["shift", "affine", "field"]

logger = logging.getLogger(__name__)

SUFFIX = "_coregistration"
MOST_UNLIKE = 2.0
"""Images without CRS whose sides differ by more than this factor are not of one pixel grid."""


@dataclass(frozen=True)
class Aligned:
    """What was found, the record of it, and the files written by kind (none where only measured)."""

    registration: Registration
    record: dict[str, Any]
    outputs: dict[str, Path]


def coregister(
    optical: str | Path,
    sar: str | Path,
    out: str | Path | None = None,
    *,
    config: SegmentConfig,
    model: Model = "shift",
    check: bool = False,
) -> Aligned:
    """Measure how SAR content lies against optical content; write SAR on the optical grid, moved where that is sure.

    Args:
        out: the folder; by default `<optical stem>_coregistered` in the current directory.
        config: how the files are read.
        model: the most that may be fitted: a shift, an affine motion, or a smooth field.
        check: only measure, write nothing.

    Raises:
        MmovsegError: files that cannot be read or cover different places, outputs that exist.

    >>> coregister("s2.tif", "s1.tif", "aligned", config=SegmentConfig()).record["verdict"]  # doctest: +SKIP
    '49 windows together say: SAR content must move by +1.0 rows and +2.7 columns'
    """
    outputs: dict[str, Path] = {}
    folder = Path(out) if out is not None else None
    with _opened(str(optical), str(sar), config) as scene:
        if not check:
            folder = folder or Path(f"{scene.name}_coregistered")
            outputs = _planned(scene, folder)
            _refuse_existing(outputs, overwrite=config.overwrite)
        found = register_scene(scene, model=model)
        record = _record(scene, found)
        for line in scene.warnings:
            logger.warning(line)
        if not check and folder is not None:
            _write(scene, found, record, outputs, folder)
    return Aligned(found, record, outputs)


def _opened(optical: str, sar: str, config: SegmentConfig) -> Scene:
    files = [image_facts(optical, config.bands), *radar_facts(sar)]
    bare = [facts for facts in files if not facts.placed and not facts.only_gcps]
    pixel_grid = config.pixel_grid or len(bare) == len(files)
    if pixel_grid:
        _require_comparable(files)
    settings: dict[str, Any] = {
        "sar_bands": config.sar_bands,
        "optical_scale": config.optical_scale,
        "sar_scale": config.sar_scale,
        "nodata": config.nodata,
        "clouds": config.clouds,
        "gcps": config.gcps,
        "pixel_grid": pixel_grid,
        "any_size": pixel_grid,
    }
    try:
        return open_scene(optical, sar, bands=config.bands, **settings)
    except MissingBand:
        # A gray optical image is as good for its edges.
        if config.bands is not None or files[0].count - (files[0].alpha is not None) not in (1, 2):
            raise
        return open_scene(optical, sar, bands=(1, 1, 1), **settings)


def _require_comparable(files: list[Facts]) -> None:
    first = files[0]
    for other in files[1:]:
        ratio = max(max(a / b, b / a) for a, b in zip(first.shape, other.shape, strict=True))
        if ratio > MOST_UNLIKE:
            raise SceneError(
                f"{first.name} has {first.shape[0]} x {first.shape[1]} pixels, {other.name} {other.shape[0]} x "
                f"{other.shape[1]}: {ratio:.0f} times apart, so their pixel grids cannot be compared.\n"
                "  Georeference both, or resample one to about the pixels of the other."
            )


def _planned(scene: Scene, folder: Path) -> dict[str, Path]:
    outputs = {"record": folder / f"{scene.name}{SUFFIX}.json", "picture": folder / f"{scene.name}{SUFFIX}.png"}
    for index, layer in enumerate(scene.sar):
        kind = "sar" if len(scene.sar) == 1 else f"sar_{index + 1}"
        outputs[kind] = folder / f"{layer.source.facts.stem}_aligned.tif"
    return outputs


def _refuse_existing(outputs: Mapping[str, Path], *, overwrite: bool) -> None:
    folder = next(iter(outputs.values())).parent
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; the output is a folder. Give another with -o.")
    existing = [path for path in outputs.values() if path.exists()]
    if existing and not overwrite:
        raise OutputError(
            f"{existing[0]} exists already. Add --overwrite to replace it, or give another folder with -o."
        )


def _record(scene: Scene, found: Registration) -> dict[str, Any]:
    """What `_coregistration.json` holds: no path, no time, so that equal inputs give equal bytes."""
    assert scene.optical is not None, "coregister has both images"
    return {
        "schema": 1,
        "software": f"mmovseg-geo {mmovseg_geo.__version__}",
        "optical": scene.optical.source.facts.name,
        "sar": [layer.source.facts.name for layer in scene.sar],
        "shape": list(scene.shape),
        "gsd_m": scene.gsd_m,
        "grid": {**grid_of(scene), "resampled": any(layer.resampled for layer in scene.sar)},
        "clouds": _clouds(scene),
        **found.to_json(),
        "warnings": scene.warnings,
    }


def _clouds(scene: Scene) -> dict[str, Any] | None:
    """Share of the optical image, where that is known from, and whether that is sure: then they are not compared."""
    clouds = scene.clouds
    if clouds is None:
        return None
    return {"share": round(clouds.share, 4), "why": clouds.why, "sure": clouds.sure}


def _write(
    scene: Scene, found: Registration, record: Mapping[str, Any], outputs: Mapping[str, Path], folder: Path
) -> None:
    """All outputs beside their place, then all moved there."""
    from mmovseg_geo.coregister.picture import draw
    from mmovseg_geo.rasters.aligned import write_aligned

    with staged(folder) as staging:
        moved = scene.moved(found.displacement) if found.applied else scene
        tags = {"coregistration": json.dumps({key: record[key] for key in ("shift", "applied", "displacement")})}
        images = [kind for kind in outputs if kind.startswith("sar")]
        for kind, layer in zip(images, moved.sar, strict=True):
            write_aligned(staging / outputs[kind].name, moved, layer, tags)
        draw(staging / outputs["picture"].name, scene, moved, found)
        text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        (staging / outputs["record"].name).write_text(text, encoding="utf-8")


__all__ = ["Aligned", "coregister"]
