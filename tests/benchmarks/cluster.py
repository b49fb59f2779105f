"""What a scene costs on a cluster beside the work itself, and whether memory grows with the number of scenes."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

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
    optical, sar = make_scene(folder, side, side)
    pairs = []
    for number in range(count):
        files = [folder / "copies" / f"{number}_{path.name}" for path in (optical, sar)]
        files[0].parent.mkdir(exist_ok=True)
        for path, copy in zip((optical, sar), files, strict=True):
            if not copy.exists():
                shutil.copy(path, copy)
        pairs.append(ScenePair(str(files[0]), str(files[1]), str(number)))
    return pairs


def per_scene(folder: Path, model: str, count: int = 8, side: int = 1024) -> list[Row]:
    """Seconds a scene by one process without Dask, and by one and two workers, which had a scene each before."""
    config = SegmentConfig(model=model, classes="water,forest,cropland,building", overwrite=True)
    pairs, out = scenes(folder, count, side), folder / "maps"
    rows = []
    map_scenes(pairs[:1], out, config=config)
    started = time.perf_counter()
    map_scenes(pairs, out, config=config)
    rows.append((f"{count} scenes of {side} x {side}, {model}, no Dask", _seconds(started, count)))
    stored = sum(path.stat().st_size for path in (out / "0").iterdir())
    for workers in (1, 2):
        with connect._processes(workers, "cpu") as running, distributed.Client(running) as client:
            map_on_cluster(pairs[:workers], out, config=config, client=client, unit="scene")
            started = time.perf_counter()
            map_on_cluster(pairs, out, config=config, client=client, unit="scene")
            rows.append((f"the same, {workers} workers", _seconds(started, count)))
            started = time.perf_counter()
            map_on_cluster(pairs[:1], out, config=config, client=client, unit="strip")
            rows.append((f"one scene in strips, {workers} workers", _seconds(started, 1)))
    run = json.loads((out / "0" / f"0_scene_{side}x{side}_rgb_run.json").read_text(encoding="utf-8"))
    print(f"seconds of one scene: {run['timings_s']}; it takes {stored / 1e6:.2f} MB")
    order = Order("cut", 0, pairs[0], str(out / "0"), config, parts=4)
    cut = perform(order)
    assert cut.scene is not None
    sizes = [len(cloudpickle.dumps(value)) for value in (order, cut, order.strip((0, 1), cut.scene))]
    print(f"bytes of an order, of what came of it, and of an order for a strip: {sizes}")
    return rows


def many(count: int) -> list[Row]:
    """Orders that cost nothing, through a scheduler in this process: what each takes, and what is left of them."""
    rows = []
    real, cluster.perform = cluster.perform, lambda order: Outcome("done")
    try:
        with (
            distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
            ) as running,
            distributed.Client(running) as client,
        ):
            memory = psutil.Process().memory_info
            for scenes in (count, count, 4 * count):
                pairs = [ScenePair(f"/vsimem/{number}.tif", None, str(number)) for number in range(scenes)]
                before, started = memory().rss, time.perf_counter()
                most: list[int] = []
                config = SegmentConfig(classes="a,b")
                map_on_cluster(
                    pairs, "maps", config=config, client=client, unit="scene",
                    finished=lambda _, most=most: most.append(len(running.scheduler.tasks)),
                )  # fmt: skip
                figures = {
                    "ms_a_scene": (time.perf_counter() - started) / scenes * 1000,
                    "tasks_at_most": float(max(most)),
                    "grown_mb": (memory().rss - before) / 1e6,
                }
                rows.append((f"{scenes} scenes that cost nothing", figures))
    finally:
        cluster.perform = real
    return rows


def _seconds(started: float, count: int) -> dict[str, float]:
    return {"s_a_scene": (time.perf_counter() - started) / count}
