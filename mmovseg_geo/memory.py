"""How a run is cut so that it fits into the memory it may use: what waits, what is read at once, how large batches are.

What a tile costs a network is found by trying one; everything else is counted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from mmovseg_geo.errors import ConfigError, is_out_of_memory
from mmovseg_geo.machine import free_bytes, give_back_freed, peak_of, resident_bytes
from mmovseg_geo.models.segmenter import DeviceTransfer
from mmovseg_geo.pipeline import WAITING, Journey, transfer_of, usual_batch
from mmovseg_geo.rasters.ahead import READING, Reading, reading_of
from mmovseg_geo.rasters.source import CACHE_BYTES, LEAST_CACHE, caching
from mmovseg_geo.settings import bytes_text
from mmovseg_geo.stitch import Stitcher
from mmovseg_geo.tiles import Batch, Tile

logger = logging.getLogger(__name__)

LARGEST_BATCH = 64
"""Of `auto`: more tiles at once make no device faster."""
SHARE = 0.5
"""Of the memory that is free on the host: what `auto` may use where no limit is given."""
DEVICE_SHARE = 0.9
"""The same of a GPU, which belongs to the run."""
MARGIN = 1.06
"""What allocators keep beside what is asked for."""
AGAIN = 1.04
"""What is told to be enough, of what is: the next process may hold a little more before it begins."""
KEPT = 64 * 2**20
"""What threads, handles of files and compression take, and libraries that load only when they are needed."""
WRITTEN = 5 * 512
"""Rows of bytes of both maps that are written or wait to be a row of blocks, with their overviews."""
FLOAT = 4


@dataclass(frozen=True)
class Fit:
    """How a run is cut, and the bytes of the host's memory that the process takes at its peak (0: not asked)."""

    batch_size: int
    reading: Reading = READING
    cache_bytes: int = CACHE_BYTES
    peak: int = 0


def fitted(journey: Journey, batch_size: int | None, limit: int | None, afterwards: int = 0) -> Fit:
    """The fastest way to cut a run that fits; the tiles, and so the labels, are the same in all.

    Args:
        batch_size: tiles at once at most, None for as many as fit.
        limit: bytes of the host's memory that the whole process may take.
        afterwards: bytes that are needed when all rows are written, for polygons and the preview.

    Raises:
        ConfigError: the limit is too small for any way; the message says what is needed.
    """
    fastest = reading_of(journey.scene)
    if batch_size is not None and limit is None:
        return Fit(batch_size, fastest, journey.scene.cache_bytes(journey.tiling.size))
    costs = Costs.tried(journey, afterwards)
    allowed = limit if limit is not None else costs.base + int(SHARE * free_bytes())
    most = min(batch_size or LARGEST_BATCH, costs.most_on_device, len(list(journey.windows())))
    usual = min(most, usual_batch(journey.segmenter))
    ways = (Fit(*way, costs.peak(*way)) for way in _ways(most, usual, costs.cache, fastest))
    for fit in ways:
        if fit.peak <= allowed:
            logger.debug("%d tiles at once, %s, peak about %s", fit.batch_size, fit.reading, bytes_text(fit.peak))
            return fit
    if limit is None:
        return fit  # the smallest; nothing was promised
    enough = bytes_text(int(AGAIN * fit.peak))
    raise ConfigError(
        f"--memory {bytes_text(limit)} is too little: this run needs --memory {enough} at least, for "
        f"tiles of {journey.tiling.size} pixels, {journey.wanted.width} columns and {journey.segmenter.planes} planes "
        "of scores. Give that, smaller tiles (--tile-size), fewer classes, or map a part (--bounds)."
    )


def _ways(most: int, usual: int, cache: int, fastest: Reading) -> Iterator[tuple[int, Reading, int]]:
    """Batch size, reading and raster cache, the fastest first and the smallest last.

    Before a device has fewer tiles at once than keep it busy, less is read ahead.
    """
    for size in range(most, usual - 1, -1):
        yield size, fastest, cache
    if fastest.threads > READING.threads:
        yield usual, Reading(fastest.threads, run=1), cache
    yield usual, Reading(threads=1, run=2), cache
    for size in range(usual, 0, -1):
        yield size, Reading(threads=1, run=1), cache
    # Blocks are then decoded twice.
    for less in (cache // 2, LEAST_CACHE):
        if less >= LEAST_CACHE:
            yield 1, Reading(threads=1, run=1), less


@dataclass(frozen=True)
class Costs:
    """Bytes that a run takes.

    Attributes:
        base: of the process before it begins.
        tile: of a tile's pixels.
        work: of scoring a tile, on the host.
        most_on_device: tiles that a GPU can score at once.
        cache: of decoded blocks that are worth keeping.
        afterwards: when all rows are written.
    """

    journey: Journey
    base: int
    tile: int
    work: int
    most_on_device: int
    cache: int
    afterwards: int = 0

    @classmethod
    def tried(cls, journey: Journey, afterwards: int = 0) -> Costs:
        """Measured with a tile from the middle of the scene, once to warm up."""
        windows = list(journey.windows())
        with caching(LEAST_CACHE):  # what is kept of files is counted by itself
            tile = _as_if_seen(journey.scene.read(windows[len(windows) // 2]))
        pixels = (tile.optical, tile.sar, tile.optical_valid, tile.sar_valid)
        transfer = transfer_of(journey.segmenter)
        device: DeviceTransfer | None = getattr(journey.segmenter, "transfer", None)

        def score(tiles: int) -> None:
            scores = journey.segmenter(transfer.to_device(Batch.stack([tile] * tiles))())
            transfer.to_host(scores[:1, :1, :1, :1])()  # waits for a GPU

        score(1)
        give_back_freed()
        base = resident_bytes()
        work = peak_of(lambda: score(1)) if device is None else 0
        most = LARGEST_BATCH if device is None else _most_on_device(journey, device, score)
        tile_bytes = sum(part.nbytes for part in pixels if part is not None)
        return cls(journey, base, tile_bytes, work, most, journey.scene.cache_bytes(journey.tiling.size), afterwards)

    def peak(self, batch_size: int, reading: Reading, cache: int) -> int:
        """The most that the process takes."""
        journey = self.journey
        size, width, planes = journey.tiling.size, journey.wanted.width, journey.segmenter.planes
        run = reading.run * self.tile
        # A run that is being read has its pixels as stored beside those as scaled.
        taken = (2 * reading.threads + reading.threads + 1) * run + WAITING * batch_size * self.tile
        tallest = max(band[-1] - band[0] + size for band in journey.tiling.bands(journey.scene.shape[0]))
        taken += (2 * min(tallest, journey.wanted.height) + WRITTEN) * width
        if getattr(journey.segmenter, "transfer", None) is None:
            taken += WAITING * batch_size * planes * FLOAT * size**2 + batch_size * self.work
            taken += Stitcher.held_bytes(journey.scene.shape, width, journey.tiling, planes)
        return int(MARGIN * (self.base + cache + max(taken, self.afterwards) + KEPT))


def _as_if_seen(tile: Tile) -> Tile:
    """The tile with all of it valid: one without data, in the middle of a scene with gaps, would cost nothing."""
    optical, sar = (None if valid is None else np.ones_like(valid) for valid in (tile.optical_valid, tile.sar_valid))
    return replace(tile, optical_valid=optical, sar_valid=sar)


def _most_on_device(journey: Journey, transfer: DeviceTransfer, score: Callable[[int], None]) -> int:
    """Tiles that fit beside the stitcher: a line through the peaks of one tile and of two."""
    planes, size = journey.segmenter.planes * FLOAT, journey.tiling.size
    free = DEVICE_SHARE * transfer.free_bytes() - (planes + FLOAT) * size * (journey.wanted.width + size)
    try:
        one, two = (transfer.peak_of(lambda tiles=tiles: score(tiles)) for tiles in (1, 2))  # type: ignore[misc]
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return 1
    each = max(two - one, 1) + WAITING * planes * size**2
    return max(1, int((free - (one - each)) // each))
