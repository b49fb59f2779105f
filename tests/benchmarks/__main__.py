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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from mmovseg_geo.benchmark.scene import make_scene
from mmovseg_geo.errors import MmovsegError
from mmovseg_geo.models import registry
from tests.benchmarks.processes import measured
from tests.benchmarks.random_weights import provide
from tests.benchmarks.scenes import make_sparse_scene

WHICH = (
    "speed",
    "memory",
    "sparse",
    "pipeline",
    "remote",
    "cluster",
    "models",
    "upsampler",
    "training",
    "polygons",
    "help",
    "start",
    "decoder",
    "network",
    "rivals",
)
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
        figures = measured(command)
        (run,) = Path(out, "map").glob("*_run.json")
        seconds = json.loads(run.read_text(encoding="utf-8"))["timings_s"]["stream"]
    height, width = (side, side) if side else (int(part) for part in Path(inputs[0]).stem.split("_")[1].split("x"))
    return {
        "wall_s": figures["wall_s"],
        "stream_s": seconds,
        "mpx_per_s": height * width / 1e6 / seconds,
        "peak_mb": figures["peak_mb"],
    }


def speed(folder: Path, model: str) -> None:
    """Scene megapixels a second of `segment`: reading, network, stitching and writing, after the model is loaded."""
    rows = [("4096 x 4096, 6 classes", segment(*make_scene(folder, 4096, 4096), options=("--model", model)))]
    table(rows)


def memory(folder: Path, model: str, side: int | None = None) -> None:
    """Peak memory of a large scene, of one four times as high as another, and with a limit; or of the two alone."""
    if side is not None:
        rows = [
            (
                f"{height} x {side}, threshold",
                segment(*make_scene(folder, height, side), options=("--model", "threshold")),
            )
            for height in (2 * side, 8 * side)
        ]
        table(rows)
        print(f"\nfour times as high takes {100 * (rows[1][1]['peak_mb'] / rows[0][1]['peak_mb'] - 1):+.1f} % memory")
        return
    rows = [
        (
            f"{height} x {width}, 6 classes, {name}",
            segment(*make_scene(folder, height, width), options=("--model", name)),
        )
        for height, width, name in ((4096, 10980, model), (8192, 4096, "threshold"), (32768, 4096, "threshold"))
    ]
    limited = ("--model", model, "--memory", "2GB")
    rows.append((f"4096 x 10980, {model}, --memory 2GB", segment(*make_scene(folder, 4096, 10980), options=limited)))
    table(rows)
    print(f"\nfour times as high takes {100 * (rows[2][1]['peak_mb'] / rows[1][1]['peak_mb'] - 1):+.1f} % memory")


def sparse(folder: Path, height: int) -> None:
    """A scene 40000 columns wide, of which one block in a hundred holds data: time and memory, and with a limit."""
    options = ("--model", "threshold", "--tile-size", "512", "--overlap", "64")
    optical = make_sparse_scene(folder, height, 40000)
    for number, limit in enumerate(((), ("--memory", "850MB"))):
        row = " ".join((f"{height} x 40000, sparse, threshold", *limit))
        table([(row, segment(optical, options=(*options, *limit)))], head=number == 0)


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

    one_by_one(rows(folder, side, segment))


def cluster(folder: Path, model: str) -> None:
    """What a scene costs on a cluster, and what thousands leave behind."""
    from tests.benchmarks.cluster import many, per_scene

    for part in (per_scene(folder, model), many(300)):
        one_by_one(part)
        print()


def help_text() -> None:
    """Seconds that `mmovseg --help` takes, start of Python included: the best and the median of ten."""
    seconds = []
    for _ in range(10):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "mmovseg_cli", "--help"], stdout=subprocess.DEVNULL, check=True)
        seconds.append(time.perf_counter() - started)
    table([("mmovseg --help", {"best_s": min(seconds), "median_s": statistics.median(seconds)})])


def start() -> None:
    """`segment` on the sample scene as it is, and with the libraries of networks that its model does without."""
    here = Path(__file__).resolve().parents[2] / "sample_data"
    ways = {"mmovseg-compact": "", "mmovseg-compact, open_clip and timm imported first": "import open_clip, timm; "}
    found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(3):
        for way, before in ways.items():
            with tempfile.TemporaryDirectory() as out:
                words = ["segment", *(str(here / f"scene_{sensor}.tif") for sensor in ("rgb", "sar"))]
                words += ["--classes", CLASSES, "-o", f"{out}/map", "-q"]
                found[way].append(
                    measured([sys.executable, "-c", f"{before}from mmovseg_cli.app import app; app({words})"])
                )
    table([(way, {key: statistics.median(one[key] for one in each) for key in each[0]}) for way, each in found.items()])


def upsampler(side: int | None) -> None:
    """Joint bilateral upsampling of 512 channels, ours and unfolded in chunks of 32 channels."""
    from tests.benchmarks.upsampling import SIDES, compare

    for number, row in enumerate(compare((side,) if side else SIDES)):
        table([row], head=number == 0)


def training(device: str, steps: int, *, full_size: bool) -> None:
    """Steps of training on images from files beside steps on batches in memory."""
    from tests.benchmarks.feeding import compare

    for number, row in enumerate(compare(device, steps, full_size=full_size)):
        table([row], head=number == 0)


def polygons(folder: Path, side: int) -> None:
    """Speed and memory of `polygonize` on maps of a million regions; then, on a small map, beside another way."""
    from tests.benchmarks.polygons import compared, rows

    for part in (rows(folder, side), compared(folder)):
        for number, row in enumerate(part):
            table([row], head=number == 0)
        print()


def network(arguments: argparse.Namespace) -> None:
    """MM-OVSeg beside its plain formulation."""
    from tests.benchmarks import network as room

    if arguments.which == "decoder":
        rows = room.decoder()
    else:
        gpu = arguments.device != "cpu"
        batch_size = arguments.batch_size or (16 if gpu else 1)
        rows = room.network(
            arguments.device, arguments.precision, batch_size, arguments.compile, 20 if gpu else 1, arguments.classes
        )
    for number, row in enumerate(rows):
        table([row], head=number == 0)


def rivals(folder: Path, arguments: argparse.Namespace) -> None:
    """The same model, tiles, overlap and batch, from files to a file, in our way and in others."""
    from mmovseg_geo.benchmark import WAYS, compare, lines
    from mmovseg_geo.config import SegmentConfig

    config = SegmentConfig(
        model=arguments.model or "mmovseg-compact", device=arguments.device, precision=arguments.precision
    )
    config = config if arguments.batch_size is None else replace(config, batch_size=arguments.batch_size)
    scene = make_scene(folder, *[arguments.side or 4096] * 2)
    print("\n".join(lines(compare(*scene, config=config, against=WAYS, say=lambda way: print(way, file=sys.stderr)))))


def table(rows: list[tuple[str, dict[str, float]]], *, head: bool = True) -> None:
    if head:
        print("| run | " + " | ".join(rows[0][1]) + " |\n|---|" + "---|" * len(rows[0][1]))
    for name, figures in rows:
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in figures.values()) + " |", flush=True)


def one_by_one(rows: Iterable[tuple[str, dict[str, float]]]) -> None:
    """Rows as they come, with a new head where other figures are told."""
    head: list[str] | None = None
    for row in rows:
        table([row], head=list(row[1]) != head)
        head = list(row[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("which", choices=WHICH, metavar="WHICH", help=", ".join(WHICH))
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "mmovseg-benchmarks")
    parser.add_argument("--model", help="mmovseg-compact, or in `models` one of each network, unless given")
    parser.add_argument(
        "--side",
        type=int,
        help="pixels of a scene: 8192 in `pipeline`, 4096 in `remote`, `rivals`, 1024 in `models`, "
        "10980 in `polygons`; columns in `memory`; rows of 40000 columns in `sparse`",
    )
    parser.add_argument("--device", default="auto", help="of `pipeline`, `network`, `rivals` and `training`")
    parser.add_argument("--precision", default="auto", help="of `pipeline`, `network` and `rivals`")
    parser.add_argument("--batch-size", type=int, help="of `pipeline` (4), `network` and `rivals`")
    parser.add_argument("--classes", type=int, default=8, help="of `network`, at most 8")
    parser.add_argument("--compile", action="store_true", help="compile the network of `network`")
    parser.add_argument("--steps", type=int, default=30, help="that `training` measures of each kind")
    parser.add_argument("--full-size", action="store_true", help="let `training` measure a published network, too")
    arguments = parser.parse_args()
    which, folder, model = arguments.which, arguments.folder, arguments.model
    bundled = model or "mmovseg-compact"
    options = (arguments.device, arguments.precision, str(arguments.batch_size or 4))
    runs: dict[str, Callable[[], None]] = {
        "speed": lambda: speed(folder, bundled),
        "memory": lambda: memory(folder, bundled, arguments.side),
        "sparse": lambda: sparse(folder, arguments.side or 40000),
        "pipeline": lambda: pipeline(folder, bundled, arguments.side or 8192, options),
        "remote": lambda: remote(folder, arguments.side or 4096),
        "cluster": lambda: cluster(folder, model or "threshold"),
        "models": lambda: models(folder, (model,) if model else NETWORKS, arguments.side or 1024),
        "upsampler": lambda: upsampler(arguments.side),
        "training": lambda: training(arguments.device, arguments.steps, full_size=arguments.full_size),
        "polygons": lambda: polygons(folder, arguments.side or 10980),
        "help": help_text,
        "start": start,
        "decoder": lambda: network(arguments),
        "network": lambda: network(arguments),
        "rivals": lambda: rivals(folder, arguments),
    }
    try:
        runs[which]()
    except MmovsegError as error:  # a package that is missing, a device that is not there
        sys.exit(str(error))


if __name__ == "__main__":
    main()
