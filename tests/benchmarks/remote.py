"""Reading from a server that takes its time, beside reading from a disk."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import rasterio.shutil

from tests.benchmarks.scenes import make_scene

Figures = dict[str, float]


def remote(
    folder: Path, side: int, segment: Callable[..., Figures], delay_s: float = 0.05, turns: int = 3
) -> list[tuple[str, Figures]]:
    """Seconds of a two-sensor scene from the disk and from a server, the best of some turns in which they alternate.

    As the COGs that archives keep, compressed; and uncompressed, where reading is little but moving bytes.
    """
    plain = make_scene(folder, side, side)
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.ranges", str(folder), str(delay_s)], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    try:
        address = server.stdout.readline().strip()
        rows: list[tuple[str, Figures]] = []
        for kind, files in (("COG", [_as_cog(path) for path in plain]), ("uncompressed", plain)):
            served = [f"/vsicurl/{address}/{path.name}" for path in files]
            options = ("--model", "threshold", "--no-preview", "--coregister", "off")
            found: dict[str, list[Figures]] = {"from the disk": [], f"from a server, {delay_s * 1000:.0f} ms": []}
            for _ in range(turns):
                for runs, inputs in zip(found.values(), (files, served), strict=True):
                    runs.append(segment(*inputs, options=options, folder=folder, side=side))
            best = {name: min(runs, key=lambda run: run["stream_s"]) for name, runs in found.items()}
            near, far = (run["stream_s"] for run in best.values())
            rows += [(f"{kind}, {side} x {side}, threshold, {name}", run) for name, run in best.items()]
            rows.append((f"{kind}, server over disk, from the first read to the last row", {"ratio": far / near}))
        return rows
    finally:
        server.terminate()
        server.wait()


def _as_cog(path: Path) -> Path:
    """The same pixels with overviews, in compressed blocks of 512."""
    cog = path.with_name(f"{path.stem}_cog.tif")
    if not cog.exists():
        rasterio.shutil.copy(path, cog, driver="COG", compress="DEFLATE", predictor="YES")
    return cog
