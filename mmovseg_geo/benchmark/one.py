"""One run in this process, told by its parent on stdin; its figures go to stdout as JSON."""

from __future__ import annotations

import json
import pickle
import sys
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from mmovseg_geo.config import SegmentConfig
from mmovseg_geo.errors import MmovsegError
from mmovseg_geo.machine import most_resident_bytes, resident_bytes


@dataclass(frozen=True)
class Request:
    """What is mapped, in which way, and where the map goes."""

    way: str
    optical: str | None
    sar: str | None
    out: Path
    config: SegmentConfig


def run(request: Request) -> dict[str, Any]:
    """Seconds from the first read to the finished file, after the model has been loaded and has seen a batch."""
    from mmovseg_geo.benchmark.ways import PACKAGES, WAYS
    from mmovseg_geo.maps import load_for, opened, run_fit
    from mmovseg_geo.pipeline import require_sensors
    from mmovseg_geo.rasters.source import caching
    from mmovseg_geo.tiles import Batch

    config = request.config
    for package in PACKAGES.get(request.way, ()):
        import_module(package)
    with opened(request.optical, request.sar, config) as scene:
        segmenter = load_for(scene, config)
        require_sensors(scene, segmenter.name, segmenter.sensors)
        tiling = config.tiling(segmenter.tiling).fitted(scene.shape)
        fit = run_fit(scene, segmenter, config)
        batch_size = fit.batch_size
        first = list(tiling.windows(scene.shape))[:batch_size]
        segmenter(Batch.stack([scene.read(window) for window in first]))
    with opened(request.optical, request.sar, config) as scene, caching(fit.cache_bytes):
        before = resident_bytes()
        wall, processor = time.perf_counter(), time.process_time()
        WAYS[request.way](scene, segmenter, request.out, tiling, batch_size)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
    peak = most_resident_bytes()
    return {
        "wall_s": wall,
        "cpu_s": processor,
        "peak_mb": peak / 2**20,
        "beyond_model_mb": (peak - before) / 2**20,
        "gpu_peak_mb": gpu_peak_mb(),
        "batch_size": batch_size,
        "tiles": tiling.count(scene.shape),
        "shape": scene.shape,
        "tiling": {"size": tiling.size, "overlap": tiling.overlap, "blend": tiling.blend},
        "model": segmenter.provenance["model"],
        "precision": segmenter.provenance.get("precision", "float32"),
        "device": str(getattr(segmenter, "device", "cpu")),
        "classes": len(segmenter.vocabulary.classes),
    }


def gpu_peak_mb() -> float | None:
    """Most memory that tensors held on the GPU, or None without one."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return float(torch.cuda.max_memory_allocated()) / 2**20


def main() -> None:
    """Run what the parent asks for; what users can meet goes back to it as `error`."""
    try:
        told = run(pickle.load(sys.stdin.buffer))
    except MmovsegError as error:
        told = {"error": str(error)}
    print(json.dumps(told))  # noqa: T201


if __name__ == "__main__":
    main()
