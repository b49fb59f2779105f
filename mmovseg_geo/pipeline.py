"""The whole journey, on one page: tiles of a scene, scores of a segmenter, finished rows, a map."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

import mmovseg_geo
from mmovseg_geo.blocks import Blocks, Strip
from mmovseg_geo.errors import ConfigError, SceneError
from mmovseg_geo.grid import Window
from mmovseg_geo.models.segmenter import Segmenter
from mmovseg_geo.rasters.labels import LabelRaster, LabelWriter
from mmovseg_geo.rasters.scene import Scene
from mmovseg_geo.stitch import Stitcher, to_numpy
from mmovseg_geo.tiles import Batch, Tile, Tiling
from mmovseg_geo.vocabulary import Vocabulary

Progress = Callable[[int, int], None]
"""Told the number of tiles done and of all tiles."""

CLAIM = 0.5
"""With a background class, the value that a class must reach to claim a pixel."""


def segment(
    scene: Scene,
    segmenter: Segmenter,
    out: str | Path,
    *,
    window: Window | None = None,
    tiling: Tiling | None = None,
    batch_size: int = 4,
    min_score: float | None = None,
    confidence: str | Path | None = None,
    progress: Progress | None = None,
    blocks: Blocks | None = None,
    co: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> LabelRaster:
    """Label every pixel of a scene with the segmenter's vocabulary and write a Cloud Optimized GeoTIFF.

    Args:
        out: the label raster; `confidence`: where to write a raster of 0..100, or None for none.
        window: the rows and columns to map; tiles stay those of the whole scene, so labels do not depend on it.
        min_score: class values below it become background. By default 0.5 where there is a background class, and 0
            where the method scores the background like any other class.
        blocks: where finished strips are kept, and strips that an interrupted run finished are found.
        co: GDAL creation options, passed on untouched.

    Raises:
        SceneError: the scene has none of the segmenter's sensors, or cannot be read.
        ConfigError: `min_score` without a background class.
        OutputError: the output exists (and not `overwrite`) or cannot be written.

    >>> segment(scene, segmenter, "labels.tif").path                             # doctest: +SKIP
    PosixPath('labels.tif')
    """
    require_sensors(scene, segmenter.name, segmenter.sensors)
    tiling = (tiling or segmenter.tiling).fitted(scene.shape)
    wanted = window or Window(0, 0, *scene.shape)
    decide = decision(segmenter.vocabulary, min_score, scored=getattr(segmenter, "scores_background", False))

    def computed(first: int, below: int, progress: Progress | None) -> Iterator[Strip]:
        part = Window(wanted.row + first, wanted.col, below - first, wanted.width)
        rows = finished_rows(
            scene, segmenter, window=part, within=wanted, tiling=tiling, batch_size=batch_size, progress=progress
        )
        for row, scores, valid in rows:
            labels, sure = decide(None if scores is None else segmenter.probabilities(scores), valid)
            yield Strip(first + row, labels, sure)

    with LabelWriter(
        Path(out),
        scene.grid[wanted.slices],
        segmenter.vocabulary,
        tags=provenance(scene, segmenter, tiling, min_score),
        confidence=None if confidence is None else Path(confidence),
        co=co or {},
        overwrite=overwrite,
    ) as writer:
        for strip in strips(wanted, tiling, scene.shape, computed, blocks=blocks, progress=progress):
            writer.write(strip.row, strip.labels, strip.confidence)
    return writer.raster


def strips(
    wanted: Window,
    tiling: Tiling,
    shape: tuple[int, int],
    computed: Callable[[int, int, Progress | None], Iterator[Strip]],
    *,
    blocks: Blocks | None = None,
    progress: Progress | None = None,
) -> Iterator[Strip]:
    """All rows of a map from top to bottom; those that `blocks` holds are not computed again, others are put there.

    Args:
        wanted: the rows and columns of the map, in a scene of `shape`.
        computed: the strips of a span of rows (first, row below), which count from the top of the map.
    """
    if blocks is None:
        yield from computed(0, wanted.height, progress)
        return
    edges = {start - wanted.row for start in tiling.starts(shape[0])}
    row = 0
    while row < wanted.height:
        kept = blocks.get(row)
        if kept is not None:
            yield kept
            row = kept.bottom
            continue
        below = blocks.gap(row, wanted.height)
        parts: list[Strip] = []
        for part in computed(row, below, progress):
            parts.append(part)
            # Rows that one row of windows finishes are kept together.
            if part.bottom in edges or part.bottom == below:
                whole = joined(parts)
                blocks.put(whole)
                yield whole
                parts = []
        row = below


def joined(parts: list[Strip]) -> Strip:
    """Strips that follow each other as one."""
    labels, confidence = ([getattr(part, name) for part in parts] for name in ("labels", "confidence"))
    return Strip(parts[0].row, np.concatenate(labels), np.concatenate(confidence))


def finished_rows(
    scene: Scene,
    segmenter: Segmenter,
    *,
    window: Window | None = None,
    within: Window | None = None,
    tiling: Tiling | None = None,
    batch_size: int = 4,
    progress: Progress | None = None,
) -> Iterator[tuple[int, Any, NDArray[np.bool_]]]:
    """Blended scores of a scene, some rows at a time: (first row, scores (Q, h, W) or None, valid (h, W)).

    Scores stay on the device that made them. Rows count from the top of `window`; where no tile of a block holds
    a valid pixel, scores may be None.

    Args:
        within: what `window` is a part of. Batches are those of the whole, so that the parts of a map are equal to
            the last bit to a map in one piece, though a network may round otherwise in a batch of other tiles.
    """
    require_sensors(scene, segmenter.name, segmenter.sensors)
    height, width = scene.shape
    tiling = (tiling or segmenter.tiling).fitted((height, width))
    wanted = window or Window(0, 0, height, width)
    whole = [w for w in tiling.windows((height, width)) if w.intersection(within or wanted)]
    groups = (whole[first : first + batch_size] for first in range(0, len(whole), batch_size))
    needed = [group for group in groups if any(w.intersection(wanted) for w in group)]
    total = sum(map(len, needed))
    stitcher = Stitcher((height, width), wanted, tiling, segmenter.planes)
    for done, tiles in _read_ahead(scene, needed):
        # What only another sensor saw is no data to this method.
        seen = [tile.seen_by(segmenter.sensors) for tile in tiles]
        with_data = [tile for tile, valid in zip(tiles, seen, strict=True) if valid.any()]
        scores = iter(segmenter(Batch.stack(with_data)) if with_data else ())
        for tile, valid in zip(tiles, seen, strict=True):
            yield from stitcher.release(tile.window.row)
            if valid.any():
                stitcher.add(tile.window, next(scores), valid)
        if progress:
            progress(done, total)
    yield from stitcher.release(height)


def require_sensors(scene: Scene, model: str, sensors: Collection[str]) -> None:
    """Refuse a scene that a model sees nothing of.

    Raises:
        SceneError: the scene has none of the sensors.
    """
    if not scene.sensors.intersection(sensors):
        wanted = " or ".join(sorted(sensors))
        raise SceneError(
            f"{model} needs {wanted} images; {scene.name} has {', '.join(scene.sensors)}.\n"
            f"  Give {wanted} images, or choose another --model: `mmovseg models list` tells their sensors."
        )


def _read_ahead(scene: Scene, groups: list[list[Window]]) -> Iterator[tuple[int, list[Tile]]]:
    """Groups of tiles with the number read so far; the next group is read while the segmenter works on this one."""

    def read(group: list[Window]) -> list[Tile]:
        return [scene.read(window) for window in group]

    with _reader() as pool:
        ahead: Future[list[Tile]] | None = None
        done = 0
        for group in groups:
            following = pool.submit(read, group)
            if ahead is not None:
                tiles = ahead.result()
                yield (done := done + len(tiles)), tiles
            ahead = following
        if ahead is not None:
            tiles = ahead.result()
            yield done + len(tiles), tiles


@contextmanager
def _reader() -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mmovseg-read")
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def decision(
    vocabulary: Vocabulary, min_score: float | None, *, scored: bool = False
) -> Callable[[Any, NDArray[np.bool_]], tuple[NDArray[Any], NDArray[np.uint8]]]:
    """How class values (K, h, W) become labels and a confidence of 0..100; both are no-data where not valid.

    `scored` says that the background is among the K classes, and wins pixels as they do.

    Raises:
        ConfigError: a `min_score` without a background class.
    """
    background = vocabulary.background
    if min_score is None:
        min_score = CLAIM if background and not scored else 0.0
    if min_score > 0 and not background:
        raise ConfigError(f"A minimum score of {min_score:g} needs a background class for the rest: add --background.")
    classes = vocabulary.classes if scored else vocabulary.scored
    ids = np.array([entry.id for entry in classes], dtype=vocabulary.dtype)

    def decide(values: Any, valid: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        labels = np.full(valid.shape, vocabulary.ignore, dtype=vocabulary.dtype)
        confidence = np.full(valid.shape, 255, dtype=np.uint8)
        if values is None:
            return labels, confidence
        xp = array_namespace(values)
        winner = ids[to_numpy(xp.argmax(values, axis=0))]
        best = to_numpy(xp.max(values, axis=0))
        if background:
            unclaimed = (best < min_score) & (winner != background.id)
            winner[unclaimed] = background.id
            best = np.where(unclaimed, 1 - best, best)
        np.copyto(labels, winner, where=valid)
        np.copyto(confidence, np.clip(np.round(best * 100), 0, 100).astype(np.uint8), where=valid)
        return labels, confidence

    return decide


def provenance(scene: Scene, segmenter: Segmenter, tiling: Tiling, min_score: float | None = None) -> dict[str, str]:
    """Where a map comes from, as raster tags: no clock time, host or path, so that equal runs give equal files."""
    facts = {
        "software": f"mmovseg-geo {mmovseg_geo.__version__}",
        "model": segmenter.provenance,
        "inputs": scene.provenance(),
        "tiling": {"size": tiling.size, "overlap": tiling.overlap, "blend": tiling.blend},
        "min_score": min_score,
    }
    return {
        f"mmovseg_{key}": value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
        for key, value in facts.items()
        if value is not None
    }
