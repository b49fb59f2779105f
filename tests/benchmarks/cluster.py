"""What a scene costs on a cluster beside the work itself, and whether memory grows with the number of scenes."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import distributed
import psutil

from mmovseg_geo import cluster
from mmovseg_geo.batch import map_scenes
from mmovseg_geo.cluster import connect, map_on_cluster
from mmovseg_geo.cluster.orders import Order, Outcome
from mmovseg_geo.cluster.work import perform
from mmovseg_geo.config import SegmentConfig
from mmovseg_geo.manifest import ScenePair
from tests.benchmarks.scenes import make_scene

Row = tuple[str, dict[str, float]]


def scenes(folder: Path, count: int, side: int) -> list[ScenePair]:
    """Copies of a two-sensor scene."""
    originals = make_scene(folder, side, side)
    pairs = []
    for number in range(count):
        files = [folder / "copies" / f"{number}_{path.name}" for path in originals]
        files[0].parent.mkdir(exist_ok=True)
        for path, copy in zip(originals, files, strict=True):
            if not copy.exists():
                shutil.copy(path, copy)
        pairs.append(ScenePair(str(files[0]), str(files[1]), str(number)))
    return pairs


def per_scene(folder: Path, model: str, count: int = 8, side: int = 1024) -> Iterator[Row]:
    """Processor seconds a scene without Dask and by a worker, which had a scene before; rasters only, no alignment."""
    what: dict[str, Any] = {"classes": "water,forest,cropland,building", "coregister": "off"}
    config = SegmentConfig(model=model, polygons=False, preview=False, **what)
    pairs, out = scenes(folder, count, side), folder / "maps"
    map_scenes(pairs[:1], _empty(out), config=config)
    alone = _spent(lambda: map_scenes(pairs, _empty(out), config=config), [])
    yield f"{count} scenes of {side} x {side}, {model}, no Dask", _a_scene(alone, count)
    with connect._processes(1, "cpu") as running, distributed.Client(running) as client:
        workers = [psutil.Process(pid) for pid in client.run(os.getpid).values()]
        map_on_cluster(pairs[:1], _empty(out), config=config, client=client, unit="scene")
        spent = _spent(lambda: map_on_cluster(pairs, _empty(out), config=config, client=client, unit="scene"), workers)
        yield "the same by a worker", _a_scene(spent, count)
        spent = _spent(lambda: map_on_cluster(pairs, _empty(out), config=config, client=client, unit="strip"), workers)
        yield "the same by a worker, in strips", _a_scene(spent, count)
    order = Order("cut", 0, pairs[0], str(_empty(out) / "0"), config, parts=4)
    cut = perform(order)
    assert cut.scene is not None, "the scene opens"
    sent = {"order": order, "outcome": cut, "order_for_a_strip": order.strip((0, 1), cut.scene)}
    yield "what crosses, bytes", {name: float(len(cloudpickle.dumps(value))) for name, value in sent.items()}


def many(count: int) -> Iterator[Row]:
    """Orders that cost nothing, through a scheduler in this process: what each takes, and what is left of them."""
    real, cluster.perform = cluster.perform, lambda order: Outcome("done")
    try:
        with (
            distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
            ) as running,
            distributed.Client(running) as client,
        ):
            memory = psutil.Process().memory_info
            for number in (count, count, 4 * count):
                pairs = [ScenePair(f"/vsimem/{scene}.tif", None, str(scene)) for scene in range(number)]
                before, started = memory().rss, time.process_time()
                most: list[int] = []
                map_on_cluster(
                    pairs, "maps", config=SegmentConfig(classes="a,b"), client=client, unit="scene",
                    finished=lambda _, most=most: most.append(len(running.scheduler.tasks)),
                )  # fmt: skip
                figures = {
                    "processor_ms_a_scene": (time.process_time() - started) / number * 1000,
                    "tasks_at_most": float(max(most)),
                    "grown_mb": (memory().rss - before) / 1e6,
                }
                yield f"{number} scenes that cost nothing", figures
    finally:
        cluster.perform = real


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def _spent(work: Callable[[], object], workers: list[psutil.Process]) -> tuple[float, float]:
    """Processor seconds of this process, and of others."""

    def of_others() -> float:
        return sum(sum(worker.cpu_times()[:2]) for worker in workers)

    own, others = time.process_time(), of_others()
    work()
    return time.process_time() - own, of_others() - others


def _a_scene(spent: tuple[float, float], count: int) -> dict[str, float]:
    return {"processor_s_here": spent[0] / count, "processor_s_of_workers": spent[1] / count}
