"""Windows of a scene read ahead by several threads, each with file handles of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from mmovseg_geo.grid import Window
from mmovseg_geo.tiles import Tile

if TYPE_CHECKING:
    from mmovseg_geo.rasters.scene import Scene


@dataclass(frozen=True)
class Reading:
    """How windows are read: by how many threads, and how many neighbors at once: what they share is then read once."""

    threads: int = 2
    run: int = 4


READING = Reading()
"""Unless told otherwise."""
FROM_SERVERS = Reading(threads=8)
"""Of files that lie on servers: so many requests are under way that the time until an answer comes is hidden."""


def reading_of(scene: Scene) -> Reading:
    """How the windows of a scene are read the fastest."""
    return FROM_SERVERS if scene.remote else READING


def read_ahead(scene: Scene, windows: Iterable[Window], reading: Reading = READING) -> Generator[Tile, None, None]:
    """The tiles of windows, in their order; each thread reads a run of them while the caller is at work.

    Raises:
        SceneError: a file cannot be read any more.
    """
    with ExitStack() as stack:
        readers = [
            stack.enter_context(ThreadPoolExecutor(max_workers=1, thread_name_prefix="mmovseg-read"))
            for _ in range(reading.threads)
        ]
        waiting: deque[Future[list[Tile]]] = deque()
        try:
            for place, run in _runs(windows, reading):
                waiting.append(readers[place].submit(_read, scene, run))
                if len(waiting) > reading.threads:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _runs(windows: Iterable[Window], reading: Reading) -> Iterator[tuple[int, list[Window]]]:
    """Neighbors of one row of windows, with the number of the thread that reads them.

    The same thread reads the same columns of every row, for its handle holds the blocks that rows share; but where a
    row does not keep all threads busy, rows that follow each other are read at once.
    """
    for number, (_, row) in enumerate(groupby(windows, key=lambda window: window.row)):
        members = list(row)
        firsts = range(0, len(members), reading.run)
        abreast = max(1, reading.threads // len(firsts))
        for place, first in enumerate(firsts, number % abreast * len(firsts)):
            yield place % reading.threads, members[first : first + reading.run]


def _read(scene: Scene, run: list[Window]) -> list[Tile]:
    first, last = run[0], run[-1]
    whole = scene.read(replace(first, width=last.col + last.width - first.col))
    return [_part(whole, window) for window in run]


def _part(whole: Tile, window: Window) -> Tile:
    across = slice(window.col - whole.window.col, window.col - whole.window.col + window.width)

    def cut(pixels: Any) -> Any:
        return None if pixels is None else pixels[..., across]

    return Tile(window, cut(whole.optical), cut(whole.sar), cut(whole.optical_valid), cut(whole.sar_valid), whole.gsd_m)
