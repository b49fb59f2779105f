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
    from mmovseg_geo.rasters.scene import Scene, Seen


@dataclass(frozen=True)
class Reading:
    """How windows are read: by how many threads, and how many neighbors at once: what they share is then read once.

    Attributes:
        apart: each has another one beside it, which reads the SAR image meanwhile.
    """

    threads: int = 2
    run: int = 2
    apart: bool = False


READING = Reading()
"""Unless told otherwise."""
ENOUGH = 3
"""Runs of a row with as many are read ahead far enough; to read the next row too would fetch what both share again."""
FROM_SERVERS = Reading(threads=8, run=4, apart=True)
"""Of files that lie on servers: so many requests are under way that the time until an answer comes is hidden."""


def reading_of(scene: Scene) -> Reading:
    """How the windows of a scene are read the fastest."""
    return FROM_SERVERS if scene.remote else READING


def read_ahead(scene: Scene, windows: Iterable[Window], reading: Reading = READING) -> Generator[Tile, None, None]:
    """The tiles of windows, in their order; each thread reads a run of them while the caller is at work.

    Raises:
        SceneError: a file cannot be read any more.
    """
    apart = reading.apart and len(scene.sensors) > 1
    with ExitStack() as stack:
        readers, beside = _threads(stack, reading.threads), _threads(stack, reading.threads if apart else 0)
        waiting: deque[Future[list[Tile]]] = deque()
        for place, run in _runs(windows, reading):
            across = replace(run[0], width=run[-1].col + run[-1].width - run[0].col)
            sar = beside[place].submit(scene.read_sar, across) if apart else None
            waiting.append(readers[place].submit(_read, scene, run, across, sar))
            if len(waiting) > reading.threads:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _threads(stack: ExitStack, count: int) -> list[ThreadPoolExecutor]:
    """Single threads, each with a queue of its own, which is dropped at the end."""
    threads = [ThreadPoolExecutor(max_workers=1, thread_name_prefix="mmovseg-read") for _ in range(count)]
    for thread in threads:
        stack.callback(thread.shutdown)
    for thread in threads:  # before any of them is waited for
        stack.callback(thread.shutdown, wait=False, cancel_futures=True)
    return threads


def _runs(windows: Iterable[Window], reading: Reading) -> Iterator[tuple[int, list[Window]]]:
    """Neighbors of one row of windows, with the number of the thread that reads them.

    The same thread reads the same columns of every row, for its handle holds the blocks that rows share; but where a
    row keeps hardly any thread busy, rows that follow each other are read at once: of so narrow a scene it is little
    that comes twice.
    """
    for number, (_, row) in enumerate(groupby(windows, key=lambda window: window.row)):
        members = list(row)
        firsts = range(0, len(members), reading.run)
        abreast = 1 if len(firsts) >= ENOUGH else max(1, reading.threads // len(firsts))
        for place, first in enumerate(firsts, number % abreast * len(firsts)):
            yield place % reading.threads, members[first : first + reading.run]


def _read(scene: Scene, run: list[Window], across: Window, sar: Future[Seen] | None) -> list[Tile]:
    """The tiles of a run, from the window that is all of it."""
    whole = scene.read(across) if sar is None else scene.tile(across, scene.read_optical(across), sar.result())
    return [_part(whole, window) for window in run]


def _part(whole: Tile, window: Window) -> Tile:
    across = slice(window.col - whole.window.col, window.col - whole.window.col + window.width)

    def cut(pixels: Any) -> Any:
        return None if pixels is None else pixels[..., across]

    return Tile(window, cut(whole.optical), cut(whole.sar), cut(whole.optical_valid), cut(whole.sar_valid), whole.gsd_m)
