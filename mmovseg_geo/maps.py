"""One scene, its whole output folder: labels, confidence, polygons, styles, preview and the record of the run."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmovseg_geo.config import SegmentConfig
from mmovseg_geo.errors import OutputError, SceneError
from mmovseg_geo.grid import Window, bounds_window
from mmovseg_geo.machine import give_back_freed
from mmovseg_geo.memory import Fit, fitted
from mmovseg_geo.models import load_segmenter, sensors_of
from mmovseg_geo.models.segmenter import Segmenter
from mmovseg_geo.pipeline import Journey, Progress, require_sensors, segment, usual_batch
from mmovseg_geo.rasters.labels import LabelRaster
from mmovseg_geo.rasters.products.names import scene_name
from mmovseg_geo.rasters.registration import coregistered
from mmovseg_geo.rasters.scene import Scene, open_scene
from mmovseg_geo.rasters.source import USUAL_TILE, caching
from mmovseg_geo.record import described, finished_before, request, require_unchanged
from mmovseg_geo.stages import timed
from mmovseg_geo.summary import summary
from mmovseg_geo.unfinished import Run, WhenUnfinished, finish_publishing, unfinished_run

logger = logging.getLogger(__name__)

SCHEMA = 1
"""Version of the layout of `_run.json`."""

SUFFIXES = {
    "labels": "_labels.tif",
    "confidence": "_confidence.tif",
    "style": "_labels.qml",
    "polygons": "_polygons.gpkg",
    "preview": "_preview.png",
    "run": "_run.json",
}


@dataclass(frozen=True)
class MapResult:
    """A finished map: its folder, its files by kind (`labels`, `polygons`, …) and what `_run.json` says."""

    folder: Path
    outputs: dict[str, Path]
    report: dict[str, Any] = field(repr=False)


def map_scene(
    optical: str | Path | None,
    sar: str | Path | None = None,
    out: str | Path | None = None,
    *,
    config: SegmentConfig,
    segmenter: Segmenter | None = None,
    progress: Progress | None = None,
) -> MapResult:
    """Map one scene and write its output folder; the files appear together, when all are complete.

    Args:
        optical: its grid is the map's; None where there is only SAR.
        out: the folder; by default `<stem>_mmovseg` in the current directory.
        segmenter: loaded already, as `load_for` does; by default loaded here.

    Raises:
        MmovsegError: bad input, settings, weights or output; nothing is left behind.

    >>> map_scene("s2.tif", "s1.tif", config=SegmentConfig(classes="water,forest")).outputs["labels"]  # doctest: +SKIP
    PosixPath('s2_mmovseg/s2_labels.tif')
    """
    timings: dict[str, float] = {}
    outputs = planned_outputs(optical, sar, out, config)
    if config.resume:
        finish_publishing(outputs)
    else:
        refuse_existing(outputs, config)
    with opened(optical, sar, config, timings) as scene:
        if segmenter is None:
            require_known_sensors(scene, config)
        with timed(timings, "load_model"):
            segmenter = segmenter or load_for(scene, config)
        return map_opened(scene, segmenter, outputs, config=config, progress=progress, timings=timings)


def map_opened(
    scene: Scene,
    segmenter: Segmenter,
    outputs: dict[str, Path],
    *,
    config: SegmentConfig,
    unfinished: WhenUnfinished = "refuse",
    progress: Progress | None = None,
    timings: dict[str, float] | None = None,
) -> MapResult:
    """Map a scene that is open already; `outputs` as from `planned_outputs`, `timings` what took how long so far.

    Args:
        unfinished: what to do where a run before was interrupted, if the settings do not say it (resume, overwrite).
    """
    timings = {} if timings is None else timings
    asked = request(scene, segmenter, config)
    if config.resume and not config.overwrite and any(path.exists() for path in outputs.values()):
        report = finished_before(outputs["run"], asked)
        logger.info("%s was finished before", outputs["run"].parent)
        return MapResult(outputs["run"].parent, outputs, report)
    if config.resume or config.overwrite:
        unfinished = "require" if config.resume else "discard"
    for line in summary(scene.describe()):
        logger.info(line)
    for line in _warnings(scene, segmenter, config):
        logger.warning(line)
    window = scene_window(scene, config)
    fit = run_fit(scene, segmenter, config)
    with caching(fit.cache_bytes), unfinished_run(outputs, asked, unfinished) as run:
        staged = run.staged
        labels = _of_one_image(
            run, scene, asked, lambda: _segmented(scene, segmenter, run, config, window, fit, timings, progress)
        )
        areas = _write_companions(scene, labels, staged, config, window, timings)
        report = _report(scene, segmenter, config, asked, areas)
        report["outputs"] = {kind: described(path) for kind, path in staged.items() if kind != "run"}
        report["timings_s"] = {name: round(seconds, 3) for name, seconds in timings.items()}
        staged["run"].write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if config.overwrite:
        _remove_left_over(outputs)
    return MapResult(next(iter(outputs.values())).parent, outputs, report)


def require_known_sensors(scene: Scene, config: SegmentConfig) -> None:
    """Refuse a scene that the model sees nothing of, before weights are looked for; if its name tells the sensors."""
    sensors = sensors_of(config.model)
    if sensors:
        require_sensors(scene, config.model, sensors)


def load_for(scene: Scene, config: SegmentConfig) -> Segmenter:
    """The segmenter of the settings, its tiling chosen for the scene."""
    settings: dict[str, Any] = {
        "device": config.device,
        "precision": config.precision,
        "gsd_m": scene.gsd_m,
        "options": config.model_options,
    }
    segmenter = load_segmenter(config.model, config.vocabulary(), **settings)
    if config.background and segmenter.vocabulary.background is None:
        # Only the model's own list of classes comes without the background that was asked for.
        segmenter = load_segmenter(config.model, segmenter.vocabulary.with_background(), **settings)
    return segmenter


def planned_outputs(
    optical: str | Path | None, sar: str | Path | None, out: str | Path | None, config: SegmentConfig
) -> dict[str, Path]:
    """The files that a run will write, by kind.

    Raises:
        SceneError: neither an optical nor a SAR file was given.
        OutputError: the folder is an address.
    """
    if optical is None and sar is None:
        raise SceneError("No image was given. Name an optical file, a SAR file, or both.")
    name = scene_name(optical or sar or "")
    folder = local_folder(out) if out is not None else Path(f"{name}_mmovseg")
    wanted = {"confidence": config.confidence, "polygons": config.polygons, "preview": config.preview}
    return {kind: folder / f"{name}{suffix}" for kind, suffix in SUFFIXES.items() if wanted.get(kind, True)}


def local_folder(out: str | Path) -> Path:
    """A folder of the file system.

    Raises:
        OutputError: it is an address, or one that only GDAL knows.
    """
    # A path that was made of an address has one slash left.
    if re.match(r"[a-z][a-z0-9+.-]+:/|/vsi[a-z0-9_]+/", Path(out).as_posix()):
        raise OutputError(
            f"{out} is no folder of this computer, and maps need one: files are renamed and locked there. "
            "Give a local or mounted folder with -o, and copy the maps afterwards."
        )
    return Path(out)


def refuse_existing(outputs: Mapping[str, Path], config: SegmentConfig) -> None:
    """Check before any work that the outputs can be written.

    Raises:
        OutputError: one exists (and not `overwrite`), or the folder cannot be one.
    """
    folder = next(iter(outputs.values())).parent
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; the output of a scene is a folder. Give another with -o.")
    existing = [path for path in outputs.values() if path.exists()]
    if existing and not config.overwrite:
        raise OutputError(
            f"{existing[0]} exists already. Add --overwrite to replace it, or give another folder with -o."
        )


def scene_window(scene: Scene, config: SegmentConfig) -> Window | None:
    """The pixels of the bounds that were asked for, or None for the whole scene."""
    return None if config.bounds is None else bounds_window(scene.grid, config.bounds, config.bounds_crs)


def run_fit(scene: Scene, segmenter: Segmenter, config: SegmentConfig) -> Fit:
    """How the run is cut so that it fits into memory; a tile is tried where the settings ask for that.

    Raises:
        ConfigError: the memory that the settings allow is too little.
    """
    if config.memory is not None:
        # What these rooms load counts too.
        import mmovseg_geo.polygons
        import mmovseg_geo.report  # noqa: F401
    window, tiling = scene_window(scene, config), config.tiling(segmenter.tiling)
    size = None if config.batch_size == "auto" else config.batch_size or usual_batch(segmenter)
    journey = Journey.of(scene, segmenter, window=window, tiling=tiling)
    return fitted(journey, size, config.memory, _afterwards(scene, journey, config))


def _afterwards(scene: Scene, journey: Journey, config: SegmentConfig) -> int:
    """Bytes that polygons and the preview take at most, one after the other; 0 where no memory was asked for."""
    if config.memory is None:
        return 0
    from mmovseg_geo.polygons import tracing_bytes
    from mmovseg_geo.report import LARGEST_PANEL

    preview = scene.overview_bytes(LARGEST_PANEL) if config.preview else 0
    if not config.polygons:
        return preview
    merges = bool(config.min_area.value or config.fill_holes.value)
    pixels = journey.wanted.height * journey.wanted.width
    return max(preview, tracing_bytes(pixels, merges=merges, simplifies=bool(config.simplify.value)))


def opened(
    optical: str | Path | None, sar: str | Path | None, config: SegmentConfig, timings: dict[str, float] | None = None
) -> Scene:
    """The scene as the settings say to read and to align it; `timings` gets the seconds of both."""
    timings = {} if timings is None else timings
    with timed(timings, "open"):
        scene = open_scene(
            optical,
            sar,
            bands=config.bands,
            sar_bands=config.sar_bands,
            optical_scale=config.optical_scale,
            sar_scale=config.sar_scale,
            nodata=config.nodata,
            speckle=config.speckle,
            sar_ratio=config.sar_ratio,
            clouds=config.clouds,
            mask_clouds=config.mask_clouds,
            gcps=config.gcps,
            pixel_grid=config.pixel_grid,
            shift=config.shift,
        )
    with timed(timings, "shift"), caching(scene.cache_bytes(USUAL_TILE)):
        return coregistered(scene, config.coregister)


def _segmented(
    scene: Scene,
    segmenter: Segmenter,
    run: Run,
    config: SegmentConfig,
    window: Window | None,
    fit: Fit,
    timings: dict[str, float],
    progress: Progress | None,
) -> LabelRaster:
    return segment(
        scene,
        segmenter,
        run.staged["labels"],
        window=window,
        tiling=config.tiling(segmenter.tiling),
        # What fitted when the run began decides its batches to the end, unless less fits now.
        batch_size=min(fit.batch_size, run.settled("batch_size", fit.batch_size)),
        reading=fit.reading,
        min_score=config.min_score,
        confidence=run.staged.get("confidence"),
        blocks=run.blocks,
        timings=timings,
        progress=progress,
        co=config.co,
    )


def _of_one_image(run: Run, scene: Scene, asked: Mapping[str, Any], make: Callable[[], LabelRaster]) -> LabelRaster:
    """The labels, if no file changed while they were made; else its strips are not kept, for they show two images."""
    try:
        labels = make()
    except SceneError:
        _require_unchanged(run, scene, asked)
        raise
    _require_unchanged(run, scene, asked)
    return labels


def _require_unchanged(run: Run, scene: Scene, asked: Mapping[str, Any]) -> None:
    try:
        require_unchanged(scene, asked)
    except SceneError:
        run.blocks.clear()
        raise


def _write_companions(
    scene: Scene,
    labels: LabelRaster,
    staged: Mapping[str, Path],
    config: SegmentConfig,
    window: Window | None,
    timings: dict[str, float],
) -> list[dict[str, Any]]:
    """Styles, polygons and preview beside the labels; returns the area of each class."""
    from mmovseg_geo.polygons import class_areas, polygonize_to
    from mmovseg_geo.qgis import raster_style
    from mmovseg_geo.report import write_preview

    staged["style"].write_text(raster_style(labels.vocabulary), encoding="utf-8")
    _give_back_freed(config)
    with timed(timings, "areas"):
        areas = class_areas(labels)
    if "polygons" in staged:
        _give_back_freed(config)
        with timed(timings, "polygons"):
            polygonize_to(
                labels,
                staged["polygons"],
                confidence=staged.get("confidence"),
                min_area=config.min_area,
                fill_holes=config.fill_holes,
                simplify=config.simplify,
                lco=config.lco,
            )
    if "preview" in staged:
        _give_back_freed(config)
        with timed(timings, "preview"):
            write_preview(staged["preview"], scene, labels, areas=areas, window=window)
    return areas


def _give_back_freed(config: SegmentConfig) -> None:
    """Between steps of a run with a limit: what one has freed would else be held while the next asks for more."""
    if config.memory is not None:
        give_back_freed()


def _report(
    scene: Scene, segmenter: Segmenter, config: SegmentConfig, asked: dict[str, Any], areas: list[dict[str, Any]]
) -> dict[str, Any]:
    tiling = config.tiling(segmenter.tiling).fitted(scene.shape)
    return {
        "schema": SCHEMA,
        "scene": scene.describe(),
        "shift": dict(zip(("rows", "cols"), scene.shift, strict=True)),
        "coregistration": None if scene.coregistration is None else dict(scene.coregistration),
        "tiling": asdict(tiling),
        "request": asked,
        "classes": areas,
        "warnings": _warnings(scene, segmenter, config),
    }


def _warnings(scene: Scene, segmenter: Segmenter, config: SegmentConfig) -> list[str]:
    idle = sorted(scene.sensors - segmenter.sensors)
    unused = [
        f"{segmenter.name} does not look at {sensor} images: that file has no part in the labels" for sensor in idle
    ]
    if scene.sar_ratio and getattr(segmenter, "sar_bands", 3) < 3:
        unused.append(f"{segmenter.name} does not look at the ratio of SAR: --sar-ratio has no part in the labels")
    return [*config.notes, *scene.warnings, *unused]


def _remove_left_over(outputs: Mapping[str, Path]) -> None:
    """Remove files of a replaced run that this run did not write, such as its polygons: they show another map."""
    stem = str(outputs["run"]).removesuffix(SUFFIXES["run"])
    for kind, suffix in SUFFIXES.items():
        if kind not in outputs:
            Path(stem + suffix).unlink(missing_ok=True)
