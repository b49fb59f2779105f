"""What a worker does: an order in, a few words out. It opens its own files and loads its segmenter once."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from threading import Lock

import mmovseg_geo
from mmovseg_geo.batch import Load, attempt, loader, reason
from mmovseg_geo.cluster.allocation import keep_freed_memory
from mmovseg_geo.cluster.orders import Order, Outcome, packed, unpacked
from mmovseg_geo.config import SegmentConfig
from mmovseg_geo.decision import Decision
from mmovseg_geo.errors import ClusterError, DeviceFailed
from mmovseg_geo.maps import opened, planned_outputs, refuse_existing, run_fit, scene_window
from mmovseg_geo.memory import Fit
from mmovseg_geo.models.segmenter import Segmenter
from mmovseg_geo.pipeline import Journey, finish
from mmovseg_geo.rasters.scene import Scene
from mmovseg_geo.rasters.source import caching
from mmovseg_geo.record import finished_before, request
from mmovseg_geo.unfinished import Run, begun_run, finish_publishing, found_run

LEAST_TILE_ROWS = 4
"""Of a strip: at its borders a row of tiles is computed for both sides."""

_at_work = Lock()
_loaded: tuple[SegmentConfig, Load] | None = None


def perform(order: Order) -> Outcome:
    """Do what an order says; one at a time in a process, whatever threads a worker has.

    Raises:
        ClusterError: the order is of another version. WeightsError, VocabularyError, ConfigError: no scene can be
            mapped so.
    """
    if order.version != mmovseg_geo.__version__:
        raise ClusterError(
            f"A worker has mmovseg-geo {mmovseg_geo.__version__}, and this is {order.version}. Install the same "
            "version on all machines."
        )
    work: dict[str, Callable[[Order, Load], Outcome]] = {"scene": _map, "cut": _cut, "strip": _compute}
    keep_freed_memory()
    with _at_work:
        started = time.perf_counter()
        outcome = work[order.kind](order, _load_for(order.config))
        return replace(outcome, seconds=round(time.perf_counter() - started, 3))


def _load_for(config: SegmentConfig) -> Load:
    """What loads the segmenter of these settings, or has it already from an order before."""
    global _loaded
    wanted = replace(config, resume=False)
    if _loaded is None or _loaded[0] != wanted:
        _loaded = (wanted, loader(wanted))
    return _loaded[1]


def _map(order: Order, load: Load) -> Outcome:
    scene = None if order.scene is None else unpacked(order.scene)
    status, message, error = attempt(order.pair, Path(order.folder), order.config, load, scene=scene)
    return Outcome(status, message, lost=isinstance(error, DeviceFailed))


def _cut(order: Order, load: Load) -> Outcome:
    """Make a scene ready for its strips, and say which are to be computed."""
    config = order.config
    try:
        outputs = planned_outputs(order.pair.optical, order.pair.sar, order.folder, config)
        if not config.overwrite:
            finish_publishing(outputs)
        scene = opened(order.pair.optical, order.pair.sar, config)
    except Exception as error:
        return _failed(order, error)
    with scene:
        segmenter = load(scene)
        try:
            asked = request(scene, segmenter, config)
            if not config.overwrite and any(path.exists() for path in outputs.values()):
                finished_before(outputs["run"], asked)
                return Outcome("skipped", "finished before")
            refuse_existing(outputs, config)
            run = begun_run(outputs, asked, "require" if config.resume else "discard" if config.overwrite else "reuse")
            journey = _journey(scene, segmenter, config, run, run_fit(scene, segmenter, config))
        except Exception as error:
            return _failed(order, error)
        return Outcome("cut", spans=tuple(_spans(journey, run, order.parts)), scene=packed(scene))


def _compute(order: Order, load: Load) -> Outcome:
    """Compute what is missing of a strip, and leave it beside the others."""
    assert order.scene is not None, "a strip is one of a scene that was opened"
    assert order.rows is not None, "a strip has rows"
    config, (top, bottom) = order.config, order.rows
    with unpacked(order.scene) as scene:
        segmenter = load(scene)
        try:
            outputs = planned_outputs(order.pair.optical, order.pair.sar, order.folder, config)
            run = found_run(outputs, request(scene, segmenter, config))
            fit = run_fit(scene, segmenter, config)
            journey = _journey(scene, segmenter, config, run, fit)
            decision = Decision.of(segmenter, config.min_score)
            with caching(fit.cache_bytes):
                for first, below in run.blocks.missing(journey.wanted.height):
                    rows = (max(first, top), min(below, bottom))
                    if rows[0] < rows[1]:
                        finish(journey, decision, run.blocks.put, rows=rows)
        except Exception as error:
            return _failed(order, error)
    return Outcome("strip")


def _journey(scene: Scene, segmenter: Segmenter, config: SegmentConfig, run: Run, fit: Fit) -> Journey:
    """The same one for every strip: its batches were settled when the scene was cut, unless less fits here."""
    return Journey.of(
        scene,
        segmenter,
        window=scene_window(scene, config),
        tiling=config.tiling(segmenter.tiling),
        batch_size=min(fit.batch_size, run.settled("batch_size", fit.batch_size)),
        reading=fit.reading,
    )


def _spans(journey: Journey, run: Run, parts: int) -> list[tuple[int, int]]:
    """The rows that are missing, cut where rows of tiles begin into so many strips at most."""
    height = journey.wanted.height
    edges = sorted(edge for edge in journey.edges() if 0 < edge < height)
    step = max(LEAST_TILE_ROWS, -(-(len(edges) + 1) // parts))
    cuts = [0, *edges[step - 1 :: step], height]
    if parts == 1:
        cuts = [0, height]
    missing = list(run.blocks.missing(height))
    return [
        (max(first, top), min(below, bottom))
        for top, bottom in pairwise(cuts)
        for first, below in missing
        if max(first, top) < min(below, bottom)
    ]


def _failed(order: Order, error: Exception) -> Outcome:
    return Outcome("failed", reason(error, order.pair), lost=isinstance(error, DeviceFailed))
