"""Joint bilateral upsampling beside its textbook form, which unfolds the map channels by channels.

`python -m tests.benchmarks upsampler` prints both, in the same run: seconds in turns, peak memory in processes of
their own. Seconds are the processor's on one thread, so that other programs on the machine count little.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional as F

from mmovseg_geo.models.segearth.upsampler import (
    CORRECTION,
    FACTOR,
    JointBilateralDoubling,
    JointBilateralUpsampler,
    build_upsampler,
)

CHUNK = 32
"""Channels that are unfolded at once."""
CHANNELS = 512
SIDES = (224, 448)
KIND = "jbu_one"
REPEATS = 2


def unfolded(upsampler: JointBilateralUpsampler, source: Tensor, guidance: Tensor) -> Tensor:
    """The same features (B, C, H, W), step by step as the method is written down."""
    x = source
    for name in upsampler.stages:
        size = 2 * x.shape[-2], 2 * x.shape[-1]
        x = _doubled(upsampler.get_submodule(name), x, F.adaptive_avg_pool2d(guidance, size))  # type: ignore[arg-type]
    return x + CORRECTION * upsampler.fixup_proj(x)


def _doubled(stage: JointBilateralDoubling, source: Tensor, guidance: Tensor) -> Tensor:
    kernel = _kernel(stage, guidance)
    size, radius = guidance.shape[-2:], stage.radius
    doubled = F.interpolate(source, size=tuple(size), mode="bicubic", align_corners=False)
    mirrored = F.pad(doubled, (radius,) * 4, mode="reflect")
    parts = []
    for part in mirrored.split(CHUNK, dim=1):
        around = F.unfold(part, 2 * radius + 1).unflatten(1, (part.shape[1], -1)).unflatten(-1, size)
        parts.append(torch.einsum("bckhw,bkhw->bchw", around, kernel))
    return torch.cat(parts, dim=1)


def _kernel(stage: JointBilateralDoubling, guidance: Tensor) -> Tensor:
    """Weights of the taps (B, K, H, W)."""
    radius = stage.radius
    seen = stage.range_proj(guidance)
    around = F.unfold(F.pad(seen, (radius,) * 4, mode="reflect"), 2 * radius + 1)
    around = around.unflatten(1, (seen.shape[1], -1)).unflatten(-1, seen.shape[-2:])
    temperature = stage.range_temp.exp().clamp(1e-4, 1e4)
    alike = (temperature * torch.einsum("bekhw,behw->bkhw", around, seen)).softmax(dim=1)
    kernel = alike * stage.spatial_weights()[:, None, None]
    kernel = kernel / kernel.sum(dim=1, keepdim=True).clamp(min=1e-7)
    return kernel + CORRECTION * stage.fixup_proj(torch.cat([kernel, guidance], dim=1))


def example(kind: str, side: int, channels: int = CHANNELS) -> tuple[JointBilateralUpsampler, Tensor, Tensor]:
    """An upsampler with random weights, features and guidance of `side` x `side` pixels."""
    torch.manual_seed(0)
    upsampler = build_upsampler(kind, channels).eval().requires_grad_(False)  # type: ignore[arg-type]
    assert isinstance(upsampler, JointBilateralUpsampler), kind
    cells = side // FACTOR
    return upsampler, torch.randn(1, channels, cells, cells), torch.randn(1, 3, side, side)


WAYS: dict[str, Callable[[JointBilateralUpsampler, Tensor, Tensor], Tensor]] = {
    "ours": lambda upsampler, source, guidance: upsampler(source, guidance),
    "unfolded": unfolded,
}


def compare(repeats: int = REPEATS) -> Iterator[tuple[str, dict[str, float]]]:
    """Rows of the table: median seconds and peak megabytes of both ways, their ratios, the largest difference."""
    torch.set_num_threads(1)
    for side in SIDES:
        upsampler, source, guidance = example(KIND, side)
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        made: dict[str, Tensor] = {}
        with torch.inference_mode():
            for _ in range(repeats):
                for way, run in WAYS.items():
                    made.pop(way, None)
                    started = time.process_time()
                    made[way] = run(upsampler, source, guidance)
                    seconds[way].append(time.process_time() - started)
        off = float((made["ours"] - made["unfolded"]).abs().max())
        made.clear()
        ours_s, unfolded_s = (median(seconds[way]) for way in WAYS)
        ours_mb, unfolded_mb = (_in_own_process(way, side) for way in WAYS)
        figures = {"ours_s": ours_s, "unfolded_s": unfolded_s, "times_faster": unfolded_s / ours_s}
        figures |= {"ours_mb": ours_mb, "unfolded_mb": unfolded_mb, "times_less": unfolded_mb / ours_mb}
        yield f"{KIND}, {side} px", {**figures, "differ_by_1e-6": off / 1e-6}


def _in_own_process(way: str, side: int) -> float:
    command = [sys.executable, "-m", "tests.benchmarks.upsampling", way, str(side)]
    told = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(told.stdout)["peak_mb"])


def peak_mb(way: str, side: int) -> float:
    """Megabytes that one pass needs beyond what the process had before it, weights and inputs included."""
    before = _status_mb("VmRSS")
    with torch.inference_mode():
        WAYS[way](*example(KIND, side))
    return _status_mb("VmHWM") - before


def _status_mb(name: str) -> float:
    """Resident megabytes of this process, now or at their peak, as Linux counts them.

    `getrusage` would also count the process that this one was started from.
    """
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 2**10


if __name__ == "__main__":
    way, side = sys.argv[1:]
    print(json.dumps({"peak_mb": peak_mb(way, int(side))}))
