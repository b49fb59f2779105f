"""Joint bilateral upsampling beside its textbook form, which unfolds the map channels by channels.

`python -m tests.benchmarks upsampler` prints both, each a pass in a process of its own. Seconds are the processor's
on one thread, so that other programs on the machine count little.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

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
    parts = [_weighed(part, 2 * radius + 1, kernel[:, None]).sum(2) for part in mirrored.split(CHUNK, dim=1)]
    return torch.cat(parts, dim=1)


def _kernel(stage: JointBilateralDoubling, guidance: Tensor) -> Tensor:
    """Weights of the taps (B, K, H, W)."""
    radius = stage.radius
    seen = stage.range_proj(guidance)
    mirrored = F.pad(seen, (radius,) * 4, mode="reflect")
    temperature = stage.range_temp.exp().clamp(1e-4, 1e4)
    alike = (temperature * _weighed(mirrored, 2 * radius + 1, seen[:, :, None]).sum(1)).softmax(dim=1)
    kernel = alike * stage.spatial_weights()[:, None, None]
    kernel = kernel / kernel.sum(dim=1, keepdim=True).clamp(min=1e-7)
    return kernel + CORRECTION * stage.fixup_proj(torch.cat([kernel, guidance], dim=1))


def _weighed(mirrored: Tensor, taps: int, weights: Tensor) -> Tensor:
    """Every pixel's neighbors (B, C, K, H, W), copied and then multiplied where they lie.

    A second copy, or the batched products that `einsum` makes of this, take several times as long.
    """
    around = F.unfold(mirrored, taps).unflatten(1, (mirrored.shape[1], -1))
    return around.unflatten(-1, weights.shape[-2:]).mul_(weights)


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


def compare(sides: Sequence[int] = SIDES) -> Iterator[tuple[str, dict[str, float]]]:
    """Rows of the table: seconds and peak megabytes of both ways, their ratios, the largest difference."""
    for side in sides:
        with tempfile.TemporaryDirectory() as folder:
            ours, textbook = (_in_own_process(way, side, Path(folder, way)) for way in WAYS)
            made = [torch.load(Path(folder, way), mmap=True) for way in WAYS]
            off = float((made[0] - made[1]).abs().max())
        figures = {"ours_s": ours["s"], "unfolded_s": textbook["s"], "times_faster": textbook["s"] / ours["s"]}
        figures |= {"ours_mb": ours["mb"], "unfolded_mb": textbook["mb"], "times_less": textbook["mb"] / ours["mb"]}
        yield f"{KIND}, {side} px", {**figures, "differ_by_1e-6": off / 1e-6}


def _in_own_process(way: str, side: int, out: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.benchmarks.upsampling", way, str(side), str(out)]
    told: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return told


def measured(way: str, side: int) -> tuple[Tensor, dict[str, float]]:
    """What one pass makes, its seconds, and the megabytes that it, its weights and its inputs need."""
    torch.set_num_threads(1)
    before = _status_mb("VmRSS")
    with torch.inference_mode():
        given = example(KIND, side)
        started = time.process_time()
        made = WAYS[way](*given)
        seconds = time.process_time() - started
    return made, {"s": seconds, "mb": _status_mb("VmHWM") - before}


def _status_mb(name: str) -> float:
    """Resident megabytes of this process, now or at their peak, as Linux counts them.

    `getrusage` would also count the process that this one was started from.
    """
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 2**10


if __name__ == "__main__":
    way, side, *out = sys.argv[1:]
    made, figures = measured(way, int(side))
    print(json.dumps(figures))
    if out:
        torch.save(made, out[0])
