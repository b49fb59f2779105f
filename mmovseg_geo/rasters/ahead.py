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
            for place, run in _runs(windows, reading.run):
                # The same thread reads the same columns of every row: its handle holds the blocks that rows share.
                waiting.append(readers[place % reading.threads].submit(_read, scene, run))
                if len(waiting) > reading.threads:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _runs(windows: Iterable[Window], length: int) -> Iterator[tuple[int, list[Window]]]:
    """Neighbors of one row of windows, with their place among the runs of the row."""
    for _, row in groupby(windows, key=lambda window: window.row):
        members = list(row)
        for place, first in enumerate(range(0, len(members), length)):
            yield place, members[first : first + length]


def _read(scene: Scene, run: list[Window]) -> list[Tile]:
    first, last = run[0], run[-1]
    whole = scene.read(replace(first, width=last.col + last.width - first.col))
    return [_part(whole, window) for window in run]


def _part(whole: Tile, window: Window) -> Tile:
    across = slice(window.col - whole.window.col, window.col - whole.window.col + window.width)

    def cut(pixels: Any) -> Any:
        return None if pixels is None else pixels[..., across]

    return Tile(window, cut(whole.optical), cut(whole.sar), cut(whole.optical_valid), cut(whole.sar_valid), whole.gsd_m)
