"""Stages of a journey at work at the same time: what comes next is prepared, and what is done is put away, in threads.

A stage is an ordinary generator. Threads suffice, because GDAL, numpy, zlib and torch let others run while they work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_LOOK_S = 0.05
"""How often a stage that waits looks whether the others have stopped."""


class _Stopped(Exception):
    """The stage at the other end has stopped."""


class _Pipe(Generic[T]):
    """A queue of a few items between two threads; either end can stop, and the other one learns of it."""

    def __init__(self, depth: int) -> None:
        self._queue: Queue[T] = Queue(max(depth, 1))
        self._closed, self._broken = Event(), Event()

    def put(self, item: T) -> None:
        while True:
            if self._broken.is_set():
                raise _Stopped
            try:
                self._queue.put(item, timeout=_LOOK_S)
                return
            except Full:
                continue

    def close(self) -> None:
        """No more items come."""
        self._closed.set()

    def stop(self) -> None:
        """No more items are taken, and those under way are dropped."""
        self._broken.set()

    def __iter__(self) -> Iterator[T]:
        while not self._broken.is_set():
            # Whether the other end is done is asked first: it may put its last item between two questions.
            done = self._closed.is_set()
            try:
                item = self._queue.get(timeout=0 if done else _LOOK_S)
            except Empty:
                if done:
                    return
                continue
            yield item
        raise _Stopped


def ahead(items: Iterable[T], depth: int = 1, *, name: str = "ahead") -> Iterator[T]:
    """The same items, made in another thread while the caller works on those before; at most `depth` wait.

    What the making raises is raised here, in its place. When the caller stops early, so does the making.

    >>> list(ahead(number * number for number in range(4)))
    [0, 1, 4, 9]
    """
    pipe: _Pipe[T] = _Pipe(depth)
    failed: list[BaseException] = []

    def make() -> None:
        try:
            for item in items:
                pipe.put(item)
        except _Stopped:
            pass
        except BaseException as error:
            failed.append(error)
        finally:
            _close(items)
            pipe.close()

    thread = Thread(target=make, name=f"mmovseg-{name}", daemon=True)
    thread.start()
    try:
        yield from pipe
        if failed:
            raise failed[0]
    finally:
        pipe.stop()
        thread.join()


def behind(consume: Callable[[Iterator[T]], None], items: Iterable[T], depth: int = 1, *, name: str = "behind") -> None:
    """Let another thread consume items while this one makes them; at most `depth` wait. Returns when all are consumed.

    What either raises is raised here; when the making fails, what was made before is no longer consumed.

    >>> found = []
    >>> behind(found.extend, (number * number for number in range(4)))
    >>> found
    [0, 1, 4, 9]
    """
    pipe: _Pipe[T] = _Pipe(depth)
    failed: list[BaseException] = []

    def work() -> None:
        try:
            consume(iter(pipe))
        except _Stopped:
            pass
        except BaseException as error:
            failed.append(error)
        finally:
            pipe.stop()

    thread = Thread(target=work, name=f"mmovseg-{name}", daemon=True)
    thread.start()
    try:
        for item in items:
            pipe.put(item)
        pipe.close()
    except _Stopped:
        pass
    except BaseException:
        pipe.stop()
        raise
    finally:
        _close(items)
        thread.join()
    if failed:
        raise failed[0]


@contextmanager
def timed(timings: MutableMapping[str, float], name: str) -> Iterator[None]:
    """Within, seconds are added to those of a name."""
    started = time.perf_counter()
    yield
    timings[name] = timings.get(name, 0.0) + time.perf_counter() - started


def _close(items: Any) -> None:
    """End a generator here and now, in the thread that ran it, so that it leaves nothing open."""
    close = getattr(items, "close", None)
    if close is not None:
        close()
