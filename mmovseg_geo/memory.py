"""How a run is cut so that it fits into the memory it may use: what waits, what is read at once, how large batches are.

What a tile costs a network is found by trying one; everything else is counted.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mmovseg_geo.errors import ConfigError, is_out_of_memory
from mmovseg_geo.models.segmenter import ON_HOST, Transfer
from mmovseg_geo.pipeline import WAITING, Journey, transfer_of
from mmovseg_geo.rasters.ahead import READING, Reading, reading_of
from mmovseg_geo.rasters.source import CACHE_BYTES
from mmovseg_geo.settings import bytes_text
from mmovseg_geo.stitch import CACHED_BYTES
from mmovseg_geo.tiles import Batch

logger = logging.getLogger(__name__)

LARGEST_BATCH = 64
"""Of `auto`: more tiles at once make no device faster."""
USUAL_BATCH = 4
"""With fewer tiles at once a device has idle hands; before that, less is read ahead."""
SHARE = 0.5
"""Of the memory that is free on the host: what `auto` may use where no limit is given."""
DEVICE_SHARE = 0.9
"""The same of a GPU, which belongs to the run."""
SMALLEST_CACHE = 16 * 2**20
BLOCK_ROW = 512
"""Rows of a block of common files; a cache that holds no row of blocks makes the preview read each many times."""
MARGIN = 1.06
"""What allocators keep beside what is asked for."""
AFTERWARDS = 64 * 2**20
"""What closing the files, areas and the preview take. The stitcher is gone then, but allocators keep what it had."""
ROWS = 8 * 512
"""Rows of bytes: labels and confidence of a strip and of its parts, and blocks of files that wait to be whole."""
FLOAT = 4


@dataclass(frozen=True)
class Fit:
    """How a run is cut, and the bytes of the host's memory that the process takes at its peak (0: not asked)."""

    batch_size: int
    reading: Reading = READING
    cache_bytes: int = CACHE_BYTES
    peak: int = 0


def fitted(journey: Journey, batch_size: int | None, limit: int | None) -> Fit:
    """The fastest way to cut a run that fits; the tiles, and so the labels, are the same in all.

    Args:
        batch_size: tiles at once at most, None for as many as fit.
        limit: bytes of the host's memory that the whole process may take.

    Raises:
        ConfigError: the limit is too small for any way; the message says what is needed.
    """
    fastest = reading_of(journey.scene)
    if batch_size is not None and limit is None:
        return Fit(batch_size, fastest)
    costs = Costs.tried(journey)
    smallest = max(SMALLEST_CACHE, costs.block_row)
    allowed = limit if limit is not None else costs.base + int(SHARE * free_bytes())
    most = min(batch_size or LARGEST_BATCH, costs.most_on_device, len(list(journey.windows())))
    ways = (Fit(*way, costs.peak(*way)) for way in _ways(most, min(smallest, CACHE_BYTES), fastest))
    for fit in ways:
        if fit.peak <= allowed:
            logger.debug("%d tiles at once, %s, peak about %s", fit.batch_size, fit.reading, bytes_text(fit.peak))
            return fit
    if limit is None:
        return fit  # the smallest; nothing was promised
    raise ConfigError(
        f"--memory {bytes_text(limit)} is too little: this run needs --memory {bytes_text(fit.peak)} at least, for "
        f"tiles of {journey.tiling.size} pixels, {journey.wanted.width} columns and {journey.segmenter.planes} planes "
        "of scores. Give that, smaller tiles (--tile-size), fewer classes, or map a part (--bounds)."
    )


def _ways(most: int, smallest: int, fastest: Reading) -> Iterator[tuple[int, Reading, int]]:
    """Batch size, reading and raster cache, the fastest first and the smallest last."""
    for size in range(most, min(most, USUAL_BATCH) - 1, -1):
        yield size, fastest, CACHE_BYTES
    if fastest.threads > READING.threads:
        yield min(most, USUAL_BATCH), Reading(fastest.threads, run=1), CACHE_BYTES
    for cache in (max(CACHE_BYTES // 4, smallest), smallest):
        yield min(most, USUAL_BATCH), Reading(threads=1, run=2), cache
    for size in range(min(most, USUAL_BATCH), 0, -1):
        yield size, Reading(threads=1, run=1), smallest


@dataclass(frozen=True)
class Costs:
    """Bytes that a run takes.

    Attributes:
        base: of the process before it begins.
        tile: of a tile's pixels.
        work: of scoring a tile, on the host.
        most_on_device: tiles that a GPU can score at once.
        block_row: of a row of blocks of all files, as they are stored.
    """

    journey: Journey
    base: int
    tile: int
    work: int
    most_on_device: int
    block_row: int

    @classmethod
    def tried(cls, journey: Journey) -> Costs:
        """Measured with a tile from the middle of the scene, once to warm up."""
        windows = list(journey.windows())
        tile = journey.scene.read(windows[len(windows) // 2])
        pixels = (tile.optical, tile.sar, tile.optical_valid, tile.sar_valid)
        transfer = transfer_of(journey.segmenter)

        def score(tiles: int) -> None:
            if tile.seen_by(journey.segmenter.sensors).any():
                scores = journey.segmenter(transfer.to_device(Batch.stack([tile] * tiles))())
                transfer.to_host(scores[:1, :1, :1, :1])()  # waits for a GPU

        score(1)
        base, on_host = resident_bytes(), transfer is ON_HOST
        work = peak_of(lambda: score(1)) if on_host else 0
        most = LARGEST_BATCH if on_host else _most_on_device(journey, transfer, score)
        tile_bytes = sum(part.nbytes for part in pixels if part is not None)
        return cls(journey, base, tile_bytes, work, most, BLOCK_ROW * journey.scene.bytes_across())

    def peak(self, batch_size: int, reading: Reading, cache: int) -> int:
        """The most that the process takes."""
        size, width = self.journey.tiling.size, self.journey.wanted.width
        run = reading.run * self.tile
        # A run that is being read has its pixels as stored beside those as scaled.
        taken = (2 * reading.threads + reading.threads + 1) * run + WAITING * batch_size * self.tile
        taken += cache + ROWS * width
        if transfer_of(self.journey.segmenter) is ON_HOST:
            planes = self.journey.segmenter.planes * FLOAT
            taken += WAITING * batch_size * planes * size**2 + batch_size * self.work
            taken += (planes + FLOAT + 1) * size * width + planes * size**2 + WAITING * CACHED_BYTES
        return int(MARGIN * (self.base + taken + AFTERWARDS))


def _most_on_device(journey: Journey, transfer: Transfer, score: Callable[[int], None]) -> int:
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


def free_bytes() -> int:
    """Memory of the host that this process can still have: of the machine, and of the job or container it runs in."""
    found = []
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        found.append(1024 * next(int(line.split()[1]) for line in text.splitlines() if line.startswith("MemAvailable")))
        group = Path("/sys/fs/cgroup")
        most, used = ((group / f"memory.{name}").read_text(encoding="ascii").strip() for name in ("max", "current"))
        found.append(int(most) - int(used))
    except (OSError, ValueError, StopIteration):
        pass
    if not found and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return max(0, min(found, default=4 * 2**30))


def resident_bytes() -> int:
    """Memory that this process holds now, or has held at most where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return most_resident_bytes()


def most_resident_bytes() -> int:
    """The most memory that this process has held."""
    try:
        import resource
    except ImportError:  # Windows has no such module.
        return 10**9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_of(work: Callable[[], object]) -> int:
    """Bytes that work takes at its peak, beyond what the process held before."""
    before = resident_bytes()
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the highest mark
        work()
        status = Path("/proc/self/status").read_text(encoding="ascii")
        highest = 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    except OSError:
        work()
        highest = most_resident_bytes()
    return max(0, highest - before)
