"""What a run would do and cost, found out without writing anything."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmovseg_geo.config import SegmentConfig
from mmovseg_geo.decision import Decision
from mmovseg_geo.grid import Window
from mmovseg_geo.maps import (
    load_for,
    opened,
    planned_outputs,
    refuse_existing,
    require_known_sensors,
    run_fit,
    scene_window,
)
from mmovseg_geo.memory import Costs
from mmovseg_geo.models.segmenter import Segmenter
from mmovseg_geo.pipeline import Journey, require_sensors
from mmovseg_geo.rasters.scene import Scene
from mmovseg_geo.summary import summary
from mmovseg_geo.tiles import Batch

BYTES_A_PIXEL = 2 * 1.34
"""Labels and confidence with their overviews, before compression."""


def plan_scene(
    optical: str | Path | None, sar: str | Path | None = None, out: str | Path | None = None, *, config: SegmentConfig
) -> dict[str, Any]:
    """Grid, overlap, tiles, memory, disk and a rough time of a run; a batch of tiles is tried, nothing is written.

    Raises:
        MmovsegError: what `map_scene` would refuse before work starts.
    """
    outputs = planned_outputs(optical, sar, out, config)
    refuse_existing(outputs, config)
    with opened(optical, sar, config) as scene:
        window = scene_window(scene, config)
        require_known_sensors(scene, config)
        segmenter = load_for(scene, config)
        require_sensors(scene, segmenter.name, segmenter.sensors)
        Decision.of(segmenter, config.min_score)  # refuses a score that needs a background
        tiling = config.tiling(segmenter.tiling).fitted(scene.shape)
        wanted = window or Window(0, 0, *scene.shape)
        windows = [w for w in tiling.windows(scene.shape) if w.intersection(wanted)]
        fit = run_fit(scene, segmenter, config)
        middle = len(windows) // 2
        tried = windows[max(0, middle - fit.batch_size // 2) :][: fit.batch_size]
        per_tile = _seconds(scene, segmenter, tried) / len(tried)
        journey = Journey.of(scene, segmenter, window=window, tiling=tiling)
        peak = fit.peak or Costs.tried(journey).peak(fit.batch_size, fit.reading, fit.cache_bytes)
        return {
            "scene": scene.describe(),
            "model": segmenter.provenance,
            "classes": json.loads(segmenter.vocabulary.to_json()),
            "map": {"height": wanted.height, "width": wanted.width, "gsd_m": scene.gsd_m},
            "tiles": {"size": tiling.size, "overlap": tiling.overlap, "blend": tiling.blend, "count": len(windows)},
            "batch_size": fit.batch_size,
            "memory_mb": round(peak / 1e6),
            "disk_mb_at_most": round(wanted.height * wanted.width * BYTES_A_PIXEL / 1e6, 1),
            "rough_time_s": round(per_tile * len(windows), 1),
            "outputs": [str(path) for path in outputs.values()],
        }


def plan_lines(plan: Mapping[str, Any]) -> list[str]:
    """A plan as short lines of text."""
    tiles, area = plan["tiles"], plan["map"]
    return [
        *summary(plan["scene"]),
        f"model    {plan['model']['model']}: {', '.join(entry['name'] for entry in plan['classes'])}",
        f"map      {area['width']} x {area['height']} pixels",
        f"tiles    {tiles['count']} of {tiles['size']} pixels, overlap {tiles['overlap']}, {tiles['blend']} blend, "
        f"{plan['batch_size']} at once",
        f"memory   about {plan['memory_mb']} MB for labels and confidence",
        f"disk     at most {plan['disk_mb_at_most']:g} MB for labels and confidence",
        f"time     about {plan['rough_time_s']:g} s for labels and confidence on this machine",
        *(f"output   {path}" for path in plan["outputs"]),
    ]


def _seconds(scene: Scene, segmenter: Segmenter, windows: list[Window]) -> float:
    """How long reading and scoring some windows takes; the first try warms up."""
    for _ in range(2):
        started = time.perf_counter()
        segmenter(Batch.stack([scene.read(window) for window in windows]))
    return time.perf_counter() - started
