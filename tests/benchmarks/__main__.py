"""`python -m tests.benchmarks WHICH`: figures of whole commands; `--help` lists what there is to choose from.

Each row is a process of its own; its peak resident memory is what the operating system counted.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from mmovseg_geo.models import registry
from tests.benchmarks.random_weights import provide
from tests.benchmarks.scenes import make_scene, make_sparse_scene

WHICH = ("speed", "memory", "sparse", "pipeline", "remote", "cluster", "models", "upsampler", "polygons", "help")
NETWORKS = ("mmovseg-vitb16-pie", "mmovseg-vitl14-pie", "segearth-ov", "segearth-ov2-sar", "segearth-ov2")
"""A name for each network of the published systems."""
CLASSES = "water,forest|trees,cropland,building|house,road,bare ground"


def segment(
    *inputs: Path | str, options: Sequence[str] = (), folder: Path | None = None, side: int | None = None
) -> dict[str, float]:
    """Seconds, megapixels a second and peak resident megabytes of one `mmovseg segment`."""
    with tempfile.TemporaryDirectory(dir=folder or Path(inputs[0]).parent) as out:
        command = [sys.executable, "-m", "mmovseg_cli", "segment", *map(str, inputs), "-o", f"{out}/map"]
        command += ["--classes", CLASSES, "--no-polygons", "-q", *options]
        started = time.perf_counter()
        pid = os.posix_spawn(
            command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
        )
        _, status, usage = os.wait4(pid, 0)
        wall = time.perf_counter() - started
        if os.waitstatus_to_exitcode(status):
            raise SystemExit(f"{' '.join(command)} failed")
        (run,) = Path(out, "map").glob("*_run.json")
        seconds = json.loads(run.read_text(encoding="utf-8"))["timings_s"]["stream"]
    height, width = (side, side) if side else (int(part) for part in Path(inputs[0]).stem.split("_")[1].split("x"))
    return {
        "wall_s": wall,
        "stream_s": seconds,
        "mpx_per_s": height * width / 1e6 / seconds,
        "peak_mb": usage.ru_maxrss / 1024,
    }


def speed(folder: Path, model: str) -> None:
    """Scene megapixels a second of `segment`: reading, network, stitching and writing, after the model is loaded."""
    rows = [("4096 x 4096, 6 classes", segment(*make_scene(folder, 4096, 4096), options=("--model", model)))]
    table(rows)


def memory(folder: Path, model: str) -> None:
    """Peak memory of a large scene, of one four times as high as another, and with a limit."""
    rows = [
        (
            f"{height} x {width}, 6 classes, {name}",
            segment(*make_scene(folder, height, width), options=("--model", name)),
        )
        for height, width, name in ((4096, 10980, model), (8192, 4096, "threshold"), (32768, 4096, "threshold"))
    ]
    limited = ("--model", model, "--memory", "1.5GB")
    rows.append((f"4096 x 10980, {model}, --memory 1.5GB", segment(*make_scene(folder, 4096, 10980), options=limited)))
    table(rows)
    print(f"\nfour times as high takes {100 * (rows[2][1]['peak_mb'] / rows[1][1]['peak_mb'] - 1):+.1f} % memory")


def sparse(folder: Path) -> None:
    """A scene of 1.6 gigapixels, of which one block in a hundred holds data: time and memory, and with a limit."""
    options = ("--model", "threshold", "--tile-size", "512", "--overlap", "64")
    optical = make_sparse_scene(folder, 40000, 40000)
    table(
        [
            ("40000 x 40000, sparse, threshold", segment(optical, options=options)),
            ("the same, --memory 1GB", segment(optical, options=(*options, "--memory", "1GB"))),
        ]
    )


def models(folder: Path, names: Sequence[str], side: int) -> None:
    """Speed and memory of published systems of full size. Their weights are random: no figure depends on the values."""
    os.environ["HF_HOME"] = str(folder / "random-weights")
    scene = dict(zip(("optical", "sar"), make_scene(folder, side, side), strict=True))
    for number, name in enumerate(names):
        provide(name)
        inputs = [scene[sensor] for sensor in registry.entry(name).sensors]
        figures = segment(*inputs, options=("--model", name))
        table([(f"{side} x {side}, 6 classes, {name}", figures)], head=number == 0)


def pipeline(folder: Path, model: str, side: int, options: Sequence[str]) -> None:
    """How busy the pipeline keeps the model, what everything else costs, and how long the files take to close."""
    from mmovseg_geo.config import SegmentConfig
    from tests.benchmarks import streaming

    device, precision, batch_size = options
    config = SegmentConfig(model=model, classes=CLASSES, device=device, precision=precision)
    busy = streaming.busy(folder, side, config, int(batch_size))
    table([(f"{side} x {side}, 6 classes, {model}, batches of {batch_size}", busy)])
    print()
    table([("reading, stitching, deciding; 2048 x 2048", streaming.stages(folder, 2048, config, int(batch_size)))])
    print()
    table([("closing labels and confidence, 10980 x 10980", streaming.closing(folder, config))])


def remote(folder: Path, side: int) -> None:
    """Reading from a server with 50 ms until each answer, beside reading from the disk."""
    from tests.benchmarks.remote import remote as rows

    found = rows(folder, side, segment)
    table(found[:-1])
    table(found[-1:], head=False)


def cluster(folder: Path, model: str) -> None:
    """What a scene costs on a cluster, and what thousands leave behind."""
    from tests.benchmarks.cluster import many, per_scene

    table(per_scene(folder, model))
    print()
    table(many(1000))


def help_text() -> None:
    """Seconds that `mmovseg --help` takes, start of Python included: the best and the median of ten."""
    seconds = []
    for _ in range(10):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "mmovseg_cli", "--help"], stdout=subprocess.DEVNULL, check=True)
        seconds.append(time.perf_counter() - started)
    table([("mmovseg --help", {"best_s": min(seconds), "median_s": statistics.median(seconds)})])


def upsampler() -> None:
    """Joint bilateral upsampling of 512 channels, ours and unfolded in chunks of 32 channels."""
    from tests.benchmarks.upsampling import compare

    for number, row in enumerate(compare()):
        table([row], head=number == 0)


def polygons(folder: Path, side: int) -> None:
    """Speed and memory of `polygonize` on maps of a million regions; then, on a small map, beside another way."""
    from tests.benchmarks.polygons import compared, rows

    for part in (rows(folder, side), compared(folder)):
        for number, row in enumerate(part):
            table([row], head=number == 0)
        print()


def table(rows: list[tuple[str, dict[str, float]]], *, head: bool = True) -> None:
    if head:
        print("| run | " + " | ".join(rows[0][1]) + " |\n|---|" + "---|" * len(rows[0][1]))
    for name, figures in rows:
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in figures.values()) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("which", choices=WHICH)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "mmovseg-benchmarks")
    parser.add_argument("--model", help="mmovseg-compact, or in `models` one of each network, unless given")
    parser.add_argument(
        "--side",
        type=int,
        help="pixels of the scene: 8192 in `pipeline`, 4096 in `remote`, 1024 in `models`, 10980 in `polygons`",
    )
    parser.add_argument("--device", default="auto", help="of `pipeline`")
    parser.add_argument("--precision", default="auto", help="of `pipeline`")
    parser.add_argument("--batch-size", default="4", help="of `pipeline`")
    arguments = parser.parse_args()
    if arguments.which == "upsampler":
        upsampler()
    elif arguments.which == "help":
        help_text()
    elif arguments.which == "polygons":
        polygons(arguments.folder, arguments.side or 10980)
    elif arguments.which == "pipeline":
        options = (arguments.device, arguments.precision, arguments.batch_size)
        pipeline(arguments.folder, arguments.model or "mmovseg-compact", arguments.side or 8192, options)
    elif arguments.which == "remote":
        remote(arguments.folder, arguments.side or 4096)
    elif arguments.which == "cluster":
        cluster(arguments.folder, arguments.model or "threshold")
    elif arguments.which == "sparse":
        sparse(arguments.folder)
    elif arguments.which == "models":
        models(arguments.folder, (arguments.model,) if arguments.model else NETWORKS, arguments.side or 1024)
    else:
        {"speed": speed, "memory": memory}[arguments.which](arguments.folder, arguments.model or "mmovseg-compact")


if __name__ == "__main__":
    main()
