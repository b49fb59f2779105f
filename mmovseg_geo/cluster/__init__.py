"""Many scenes on many processes or machines, by Dask: the same files as on one, to the last byte.

The unit of work is a scene or a strip of one. Only small values cross; each worker opens its own files, loads its
segmenter once, and writes where the outputs go. At any time only so many orders are out that every worker is busy, so
that the memory of scheduler and client does not grow with the number of scenes.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mmovseg_geo.batch import BatchResult, SceneResult, Status, list_scenes, required_folder
from mmovseg_geo.cluster.connect import connected, dask_distributed, require_fit
from mmovseg_geo.cluster.orders import Order, Outcome, placed
from mmovseg_geo.cluster.work import perform
from mmovseg_geo.config import SegmentConfig
from mmovseg_geo.errors import ClusterError
from mmovseg_geo.manifest import ScenePair
from mmovseg_geo.pipeline import Progress

logger = logging.getLogger(__name__)

Unit = Literal["auto", "scene", "strip"]

ORDERS_A_WORKER = 2
"""One at work, one waiting: more would only fill the scheduler."""
FEWEST_ORDERS = 16
"""Out at once, however few workers there are: a cluster that adapts grows by what waits."""
STRIPS_A_WORKER = 4
"""Into how many strips scenes are cut altogether: enough that none waits long for the last."""
LOOK_S = 5.0
"""How often the workers are counted."""


def map_on_cluster(
    source: str | Path | Sequence[ScenePair],
    out: str | Path,
    *,
    config: SegmentConfig,
    sars: str | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    client: Any = None,
    unit: Unit = "auto",
    progress: Progress | None = None,
    finished: Callable[[SceneResult], None] | None = None,
) -> BatchResult:
    """What `map_scenes` does, by the workers of a Dask cluster, which see the files under the same paths.

    Args:
        workers: processes of this computer; with several GPUs each gets one.
        scheduler: address (`tcp://host:8786`) or scheduler file of a cluster that is there.
        client: a `distributed.Client` of any cluster instead of either.
        unit: `scene`: a worker maps whole scenes; `strip`: several work on one. `auto`: strips where there are fewer
            scenes than twice the workers.
        progress: told the number of scenes done and of all. `finished` is told of each scene as it ends.

    Raises:
        ConfigError, VocabularyError, WeightsError, OutputError: as of `map_scenes`.
        ClusterError: no scheduler answers, or workers lack the package or have another version of it.

    >>> map_on_cluster("scenes.csv", "maps", config=SegmentConfig(classes="water"), workers=2)  # doctest: +SKIP
    BatchResult(...)
    """
    pairs = list_scenes(source, sars)
    config.vocabulary()
    out = required_folder(out)
    orders, config = placed(pairs, config)
    if client is None:
        with connected(workers, scheduler, config.device) as client:
            return _mapped(client, pairs, orders, out, config, unit, progress, finished)
    return _mapped(client, pairs, orders, out, config, unit, progress, finished)


def _mapped(
    client: Any,
    pairs: Sequence[ScenePair],
    absolute: Sequence[ScenePair],
    out: Path,
    config: SegmentConfig,
    unit: Unit,
    progress: Progress | None,
    finished: Callable[[SceneResult], None] | None,
) -> BatchResult:
    count = require_fit(client)
    if not count:
        logger.info("waiting for workers of %s", client.scheduler.address)
    by_strips = unit == "strip" or (unit == "auto" and len(pairs) < 2 * count)
    parts = max(1, -(-STRIPS_A_WORKER * max(count, 2) // len(pairs))) if by_strips else 1
    # What a run before left is discarded once, not again by another worker that takes over.
    kind: Literal["cut", "scene"] = "cut" if by_strips or config.overwrite else "scene"
    first = (
        Order(kind, number, pair, str((out / pair.folder).absolute()), config, parts)
        for number, pair in enumerate(absolute)
    )
    results: dict[int, SceneResult] = {}
    for number, outcome, seconds in _performed(client, _Flow(first), count):
        pair = pairs[number]
        status: Status = "done" if outcome.status == "done" else "skipped" if outcome.status == "skipped" else "failed"
        result = SceneResult(pair.first, out / pair.folder, status, outcome.message, round(seconds, 3))
        results[number] = result
        if finished is not None:
            finished(result)
        if progress is not None:
            progress(len(results), len(pairs))
    _warn_of_places(list(results.values()))
    return BatchResult(tuple(results[number] for number in range(len(pairs))))


@dataclass
class _Flow:
    """Which orders come next: those that follow from finished ones first, so that scenes end before others begin."""

    first: Iterator[Order]
    following: deque[Order] = field(default_factory=deque)
    open: dict[int, int] = field(default_factory=dict)
    """Strips of a scene that are still to come."""
    seconds: dict[int, float] = field(default_factory=dict)
    failed: set[int] = field(default_factory=set)

    def next(self) -> Order | None:
        """The next order, if there is any now."""
        while self.following:
            order = self.following.popleft()
            if order.kind != "strip" or order.number not in self.failed:
                return order
        return next(self.first, None)

    def done(self, order: Order, outcome: Outcome) -> tuple[int, Outcome, float] | None:
        """Take note of an outcome; what became of a scene with its seconds of work, where that is decided now."""
        number = order.number
        self.seconds[number] = self.seconds.get(number, 0.0) + outcome.seconds
        if number in self.failed:
            return None
        if outcome.status == "cut":
            assert outcome.scene is not None, "a scene that was cut was opened"
            strips = [order.strip(rows, outcome.scene) for rows in outcome.spans] if order.parts > 1 else []
            self.open[number] = len(strips)
            self.following.extend(strips or [order.joined(outcome.scene)])
            return None
        if outcome.status == "strip":
            self.open[number] -= 1
            if not self.open[number]:
                assert order.scene is not None, "a strip is one of a scene that was opened"
                self.following.appendleft(order.joined(order.scene))
            return None
        if outcome.status == "failed":
            self.failed.add(number)
        return number, outcome, self.seconds.pop(number)


def _performed(client: Any, flow: _Flow, workers: int) -> Iterator[tuple[int, Outcome, float]]:
    """What became of each scene, as they end. Few orders are out at any time."""
    distributed = dask_distributed()
    out: dict[Any, Order] = {}
    ending = distributed.as_completed(loop=client.loop)
    again: set[tuple[Any, ...]] = set()
    looked = time.monotonic()
    try:
        while True:
            if time.monotonic() - looked > LOOK_S:
                workers, looked = len(client.nthreads()), time.monotonic()
            while len(out) < max(FEWEST_ORDERS, ORDERS_A_WORKER * workers):
                order = flow.next()
                if order is None:
                    break
                future = client.submit(perform, order, key=_key(order, len(again)), pure=False)
                out[future] = order
                ending.add(future)
            if not out:
                return
            future = next(ending)
            order = out.pop(future)
            outcome = _outcome(future, order)
            this = (order.kind, order.number, order.rows)
            # Forgotten before its worker is restarted: Dask would compute it again.
            holders = client.who_has([future]) if outcome.lost else {}
            future.release()
            if outcome.lost and this not in again:
                # Its process can use the GPU no more. What it has finished is gone on with.
                again.add(this)
                _restart(client, [address for addresses in holders.values() for address in addresses])
                flow.following.appendleft(order)
                continue
            ended = flow.done(order, outcome)
            if ended is not None:
                yield ended
    finally:
        for future in out:
            future.cancel()


def _outcome(future: Any, order: Order) -> Outcome:
    """What a worker found, or how it was lost.

    Raises:
        ClusterError: the cluster was lost, or this worker cannot do the work. Others: none can.
    """
    distributed = dask_distributed()
    if future.status == "cancelled":
        raise ClusterError(
            "The Dask scheduler went away. Finished scenes and strips are kept: run the command again to go on."
        )
    error = future.exception() if future.status == "error" else None
    if error is None:
        found: Outcome = future.result()
        return found
    if isinstance(error, distributed.KilledWorker):
        return Outcome(
            "failed",
            f"{error.allowed_failures + 1} workers died one after the other at work on it, the last at "
            f"{error.last_worker.address}: the system may have ended them for lack of memory (see --memory). Finished "
            "strips are kept.",
        )
    if isinstance(error, ImportError):
        raise ClusterError(
            f"A worker cannot import what the work needs ({error}). Install the same mmovseg-geo on all machines."
        ) from error
    raise error


def _restart(client: Any, workers: list[str]) -> None:
    """Start workers anew, if something watches over them."""
    try:
        client.restart_workers(workers, raise_for_error=False)
    except (ValueError, OSError) as error:
        logger.warning("A GPU was lost by %s, which could not be restarted (%s).", ", ".join(workers), error)


def _key(order: Order, turn: int) -> str:
    """Name of a task: its first word groups those of a kind on the dashboard."""
    rows = "" if order.rows is None else f"-{order.rows[0]}"
    return f"{order.kind}-{order.number}{rows}-{time.monotonic_ns():x}{turn or ''}"


def _warn_of_places(results: Sequence[SceneResult]) -> None:
    unseen = [result for result in results if result.status == "done" and not result.folder.is_dir()]
    if unseen:
        logger.warning(
            "%s is not seen from here: workers write to the file systems of their machines. Let -o be a folder that "
            "they and this computer share.",
            unseen[0].folder,
        )
