"""The whole journey, on one page: tiles of a scene, scores of a segmenter, finished rows, a map.

Reading, copying, the model, stitching and deciding, and writing are stages at work at the same time, each in threads of
its own. Between two of them wait a few batches or strips at most, so that memory stays bounded.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, MutableMapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import NDArray

import mmovseg_geo
from mmovseg_geo.blocks import Blocks, Strip
from mmovseg_geo.decision import Decision
from mmovseg_geo.errors import DeviceFailed, OutOfMemory, SceneError, is_device_failure, is_out_of_memory
from mmovseg_geo.grid import Window
from mmovseg_geo.models.segmenter import ON_HOST, DeviceTransfer, Segmenter, Transfer
from mmovseg_geo.rasters.ahead import READING, Reading, read_ahead
from mmovseg_geo.rasters.labels import LabelRaster, LabelWriter
from mmovseg_geo.rasters.scene import Scene
from mmovseg_geo.stages import ahead, behind, timed
from mmovseg_geo.stitch import Block, Stitcher, to_numpy
from mmovseg_geo.tiles import Batch, Tile, Tiling

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Told the number of tiles done and of all tiles."""

Rows = tuple[int, Any, NDArray[np.bool_]]
"""First row, blended scores (Q, h, W) or None where nothing was seen, and which pixels were (h, W)."""

BATCH = 4
"""Tiles that keep a GPU busy; a processor computes one as fast as several, and needs the memory of one."""
WAITING = 3
"""Batches at a time before the model and after it: one is made, one waits, one is at work."""
WRITTEN_AT_ONCE = 256
DECIDED = 8
"""Blocks of decided rows that may wait for the one who writes them."""


def segment(
    scene: Scene,
    segmenter: Segmenter,
    out: str | Path,
    *,
    window: Window | None = None,
    tiling: Tiling | None = None,
    batch_size: int | None = None,
    reading: Reading = READING,
    min_score: float | None = None,
    confidence: str | Path | None = None,
    blocks: Blocks | None = None,
    timings: MutableMapping[str, float] | None = None,
    progress: Progress | None = None,
    co: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> LabelRaster:
    """Label every pixel of a scene with the segmenter's vocabulary and write a Cloud Optimized GeoTIFF.

    Args:
        out: the label raster; `confidence`: where to write a raster of 0..100, or None for none.
        window: the rows and columns to map; tiles stay those of the whole scene, so labels do not depend on it.
        batch_size: tiles computed at once, by default one, or four on a GPU; fewer where memory runs out.
        reading: how they are read ahead.
        min_score: class values below it become background. By default 0.5 where there is a background class, and 0
            where the method scores the background like any other class.
        blocks: where finished strips are kept, and strips that an interrupted run finished are found.
        timings: gets the seconds from the first read to the last row (`stream`) and of finishing the files (`close`).
        co: GDAL creation options, passed on untouched.

    Raises:
        SceneError: the scene has none of the segmenter's sensors, or cannot be read.
        ConfigError: `min_score` without a background class.
        OutputError: the output exists (and not `overwrite`) or cannot be written.
        OutOfMemory: one tile is too much.

    >>> segment(scene, segmenter, "labels.tif").path                             # doctest: +SKIP
    PosixPath('labels.tif')
    """
    journey = Journey.of(scene, segmenter, window=window, tiling=tiling, batch_size=batch_size, reading=reading)
    decision = Decision.of(segmenter, min_score)
    timings = {} if timings is None else timings
    with LabelWriter(
        Path(out),
        scene.grid[journey.wanted.slices],
        segmenter.vocabulary,
        tags=provenance(scene, segmenter, journey.tiling, min_score),
        confidence=None if confidence is None else Path(confidence),
        co=co or {},
        overwrite=overwrite,
    ) as writer:

        def put(strip: Strip) -> None:
            if blocks is not None:
                blocks.put(strip)
            _write(writer, strip)

        with timed(timings, "stream"):
            row, height = 0, journey.wanted.height
            while row < height:
                kept = None if blocks is None else blocks.get(row)
                if kept is not None:
                    _write(writer, kept)
                    row = kept.bottom
                    continue
                below = height if blocks is None else blocks.gap(row, height)
                finish(journey, decision, put, rows=(row, below), progress=progress)
                row = below
        with timed(timings, "close"):
            writer.close()
    return writer.raster


def _write(writer: LabelWriter, strip: Strip) -> None:
    """Some rows at a time: what waits for a row of blocks, and overviews, take as much as what is written at once."""
    for first in range(0, len(strip.labels), WRITTEN_AT_ONCE):
        rows = slice(first, first + WRITTEN_AT_ONCE)
        writer.write(strip.row + first, strip.labels[rows], strip.confidence[rows])


@dataclass(frozen=True, eq=False)
class Journey:
    """What is computed, whichever rows of it: the pixels `wanted` of a scene, by a segmenter, from which tiles."""

    scene: Scene
    segmenter: Segmenter
    wanted: Window
    tiling: Tiling
    batch_size: int
    reading: Reading = READING

    @classmethod
    def of(
        cls,
        scene: Scene,
        segmenter: Segmenter,
        *,
        window: Window | None = None,
        tiling: Tiling | None = None,
        batch_size: int | None = None,
        reading: Reading = READING,
    ) -> Journey:
        """The journey to all pixels of `window`, by default of the scene.

        Raises:
            SceneError: the scene has none of the segmenter's sensors.
        """
        require_sensors(scene, segmenter.name, segmenter.sensors)
        tiling = (tiling or segmenter.tiling).fitted(scene.shape)
        wanted = window or Window(0, 0, *scene.shape)
        return cls(scene, segmenter, wanted, tiling, batch_size or usual_batch(segmenter), reading)

    def windows(self) -> list[Window]:
        """The tiles that the whole takes, in the order in which they are stitched."""
        windows = Stitcher.order(self.scene.shape, self.tiling)
        return [window for window in windows if window.intersection(self.wanted)]

    def part(self, rows: tuple[int, int]) -> Window:
        """The pixels of the rows from the first to above the last, which count from the top of `wanted`."""
        first, below = rows
        return Window(self.wanted.row + first, self.wanted.col, below - first, self.wanted.width)

    def batches(self, part: Window) -> list[list[Window]]:
        """The batches of tiles that a part takes.

        They are those of the whole, so that parts of a map equal a map in one piece to the last bit, though a network
        may round otherwise in a batch of other tiles.
        """
        whole = self.windows()
        batches = (whole[first : first + self.batch_size] for first in range(0, len(whole), self.batch_size))
        return [batch for batch in batches if any(window.intersection(part) for window in batch)]

    def edges(self) -> frozenset[int]:
        """Rows, counted from the top of `wanted`, where strips end: what lies above is final before what lies below."""
        return frozenset(band[0] - self.wanted.row for band in self.tiling.bands(self.scene.shape[0]))

    def strip(self, row: int, below: int) -> Window:
        """The strip that begins at a row of `wanted`, of a part that ends above another."""
        end = min((edge for edge in self.edges() if edge > row), default=below)
        return Window(row, 0, min(end, below) - row, self.wanted.width)


def finish(
    journey: Journey,
    decision: Decision,
    put: Callable[[Strip], None],
    *,
    rows: tuple[int, int],
    progress: Progress | None = None,
) -> None:
    """Compute the strips of some rows, (first, row below), and `put` them one after the other, in another thread.

    The model runs in the thread that calls; the stages before and after it in their own.
    """
    transfer = transfer_of(journey.segmenter)
    part = journey.part(rows)

    def decided(blocks: Iterator[Block]) -> Iterator[tuple[int, int, NDArray[np.bool_], Any]]:
        for row, col, scores, valid in blocks:
            if scores is None:
                yield row, col, valid, None
            else:
                yield row, col, valid, transfer.to_host(*decision.decided(journey.segmenter.probabilities(scores)))

    def written(scored: Iterator[list[Scored]]) -> None:
        strip, left = None, 0
        for row, col, valid, arrived in ahead(decided(blended(journey, part, scored)), DECIDED, name="stitch"):
            if strip is None:
                place = journey.strip(rows[0] + row, rows[1])
                strip = Strip(place.row, *decision.finished(None, None, np.zeros(place.shape, np.bool_)))
                left = strip.labels.size
            at = Window(rows[0] + row - strip.row, col, *valid.shape).slices
            winner, confidence = (None, None) if arrived is None else arrived()
            strip.labels[at], strip.confidence[at] = decision.finished(winner, confidence, valid)
            left -= valid.size
            if not left:
                put(strip)
                strip = None

    try:
        behind(written, scored(journey, part, transfer, progress), name="write")
    except RuntimeError as error:
        if is_device_failure(error):
            raise DeviceFailed(f"The GPU stopped working ({str(error).splitlines()[0]}).") from error
        raise


def finished_rows(
    scene: Scene,
    segmenter: Segmenter,
    *,
    window: Window | None = None,
    tiling: Tiling | None = None,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Iterator[Rows]:
    """Blended scores of a scene, some rows at a time: (first row, scores (Q, h, W) or None, valid (h, W)).

    Scores stay on the GPU that made them, and are numpy's on a processor. Rows count from the top of `window`; where no
    tile of them holds a valid pixel, scores may be None. A strip of scores is held, which `segment` does without.
    """
    journey = Journey.of(scene, segmenter, window=window, tiling=tiling, batch_size=batch_size)
    tiles = scored(journey, journey.wanted, transfer_of(segmenter), progress)
    valid, scores, first, left = np.zeros((0, 0), np.bool_), None, 0, 0
    for row, col, some, seen in blended(journey, journey.wanted, tiles):
        if not left:
            valid, scores = np.zeros(journey.strip(row, journey.wanted.height).shape, np.bool_), None
            first, left = row, valid.size
        at = Window(row - first, col, *seen.shape).slices
        valid[at] = seen
        if some is not None:
            if scores is None:
                xp = array_namespace(some)
                scores = xp.zeros((len(some), *valid.shape), dtype=some.dtype, device=device(some))
            scores[:, at[0], at[1]] = some
        left -= seen.size
        if not left:
            yield first, scores, valid


def usual_batch(segmenter: Segmenter) -> int:
    """Tiles at once, where nobody says how many."""
    return 1 if transfer_of(segmenter) is ON_HOST else BATCH


def transfer_of(segmenter: Segmenter) -> Transfer:
    """How tiles reach a segmenter."""
    found: DeviceTransfer | None = getattr(segmenter, "transfer", None)
    return found or ON_HOST


@dataclass(frozen=True, eq=False)
class Scored:
    """A tile's scores (Q, size, size) and which pixels were seen (size, size); None where none was.

    `mask` is `valid` where the scores are, if it is there.
    """

    window: Window
    valid: NDArray[np.bool_] | None
    scores: Any = None
    mask: Any = None


def scored(
    journey: Journey, part: Window, transfer: Transfer, progress: Progress | None = None
) -> Iterator[list[Scored]]:
    """The tiles that a part takes with their scores, batch by batch; the next ones are read and copied meanwhile."""
    segmenter, batches = journey.segmenter, journey.batches(part)
    limit, done, total = journey.batch_size, 0, sum(map(len, batches))
    for tiles, copied in ahead(_copied(journey, batches, transfer), name="copy"):
        found: list[Any] = []
        batch = None if copied is None else copied()
        while batch is not None and len(found) < len(batch):
            some = batch.part(len(found), len(found) + limit)
            try:
                scores = segmenter(some)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if len(some) == 1:
                    raise OutOfMemory(
                        f"Out of memory with a single tile of {journey.tiling.size} pixels and "
                        f"{len(segmenter.vocabulary)} classes. Use smaller tiles (--tile-size), fewer classes, or "
                        "another --precision or --device."
                    ) from error
            else:
                if transfer is ON_HOST:
                    # numpy stitches in the thread that asks; torch would share every step out among all cores there,
                    # and take them from the model.
                    found += [(one, None) for one in to_numpy(scores)]
                else:
                    found += zip(scores, some.seen_by(segmenter.sensors), strict=True)
                continue
            # Outside of the handler nothing holds the failed computation's memory any more.
            limit = len(some) // 2
            logger.warning("Memory ran out with %d tiles at once; going on with %d.", len(some), limit)
        scores_of = iter(found)
        yield [Scored(window, valid, *(() if valid is None else next(scores_of))) for window, valid in tiles]
        done += len(tiles)
        if progress:
            progress(done, total)


def blended(journey: Journey, part: Window, batches: Iterable[list[Scored]]) -> Iterator[Block]:
    """The finished blocks of a part, from the scores of its tiles; those of one strip come together."""
    stitcher = Stitcher(journey.scene.shape, part, journey.tiling, journey.segmenter.planes)
    for batch in batches:
        for tile in batch:
            yield from stitcher.release(tile.window)
            if tile.valid is not None:
                stitcher.add(tile.window, tile.scores, tile.valid, tile.mask)
    yield from stitcher.release(None)


def _copied(
    journey: Journey, batches: list[list[Window]], transfer: Transfer
) -> Iterator[tuple[list[tuple[Window, NDArray[np.bool_] | None]], Callable[[], Batch] | None]]:
    """Which pixels of each tile of a batch were seen, and what gives the batch of those with data to the model."""
    sensors = journey.segmenter.sensors
    windows = [window for batch in batches for window in batch]
    with closing(read_ahead(journey.scene, windows, journey.reading)) as tiles:
        for batch in batches:
            members: list[tuple[Window, NDArray[np.bool_] | None]] = []
            with_data: list[Tile] = []
            for tile in islice(tiles, len(batch)):
                # What only another sensor saw is no data to this method.
                seen = tile.seen_by(sensors)
                members.append((tile.window, seen if seen.any() else None))
                if seen.any():
                    with_data.append(tile)
            yield members, transfer.to_device(Batch.stack(with_data)) if with_data else None


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
