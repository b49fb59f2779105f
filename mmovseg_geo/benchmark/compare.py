"""Several ways to map one scene, each in a process of its own, as one table."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from mmovseg_geo.benchmark.one import Request
from mmovseg_geo.config import SegmentConfig
from mmovseg_geo.errors import ConfigError, MmovsegError, did_you_mean

WAYS = ("monai", "loop")
"""What can be put beside ours: sliding windows of MONAI over the scene in memory; a plain loop over tiles."""
OURS, ALONE = "mmovseg", "model alone"
CLASSES = "water,forest|trees,cropland,grassland,building|house,road,bare ground,wetland"
SIDE = 2048
FACTS = ("model", "device", "precision", "classes", "shape", "tiles", "tiling", "batch_size")
_PACKAGES = {"monai": "monai"}


class RunFailed(MmovsegError):
    """A way that ended without a map, such as one that ran out of memory."""


def compare(
    optical: str | Path | None = None,
    sar: str | Path | None = None,
    *,
    config: SegmentConfig,
    against: Sequence[str] = (),
    side: int = SIDE,
    repeats: int = 1,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Figures of our way, of the model alone, and of the ways `against` which it is held.

    Args:
        optical, sar: the scene; without any, one of `side` x `side` pixels is simulated.
        config: model, words, tiles, device; eight common classes where it has no words.
        repeats: of every way, in turns; seconds are the median of them.
        say: told what is going on.

    Raises:
        ConfigError: an unknown way, or one whose package is not installed.
        RunFailed: a way that ended without a map.
    """
    _check(against)
    config = replace(config, coregister="off")  # estimated once, before the first tile, whatever the way
    if config.classes is None and config.classes_file is None:
        words: Any = CLASSES  # settings read text
        config = replace(config, classes=words)
    with TemporaryDirectory(prefix="mmovseg-benchmark-") as folder:
        if optical is None and sar is None:
            from mmovseg_geo.benchmark.scene import make_scene

            say(f"simulating a scene of {side} x {side} pixels")
            optical, sar = make_scene(Path(folder), side, side)
        paths = [None if path is None else str(path) for path in (optical, sar)]
        runs: dict[str, list[dict[str, Any]]] = {}
        maps = {way: Path(folder) / f"{way}.tif" for way in (ALONE, OURS, *dict.fromkeys(against))}
        for turn in range(repeats):
            for way, out in maps.items():
                say(f"{way}{f', {turn + 1} of {repeats}' if repeats > 1 else ''}")
                out.unlink(missing_ok=True)
                runs.setdefault(way, []).append(_in_own_process(Request(way, paths[0], paths[1], out, config)))
        agreement = {way: _agreement(maps[OURS], out) for way, out in maps.items() if way != ALONE}
    facts = runs[OURS][0]
    alone_s = median(run["wall_s"] for run in runs[ALONE])
    return {
        **{name: facts[name] for name in FACTS},
        "processors": os.cpu_count(),
        "repeats": repeats,
        "ways": {way: _figures(found, alone_s, agreement.get(way)) for way, found in runs.items()},
    }


def lines(result: Mapping[str, Any]) -> list[str]:
    """The figures as a table with a heading."""
    (height, width), tiling = result["shape"], result["tiling"]
    heading = (
        f"{result['model']} on {result['device']} in {result['precision']}: {height} x {width} pixels, "
        f"{result['classes']} classes, {result['tiles']} tiles of {tiling['size']} overlapping {tiling['overlap']}, "
        f"{result['batch_size']} at once"
    )
    columns = {
        "wall s": ("wall_s", "{:.2f}"),
        "CPU s": ("cpu_s", "{:.2f}"),
        "Mpx/s": ("megapixels_per_s", "{:.2f}"),
        "model %": ("model_share", "{:.0%}"),
        "peak MB": ("peak_mb", "{:.0f}"),
        "beyond model MB": ("beyond_model_mb", "{:.0f}"),
        "GPU peak MB": ("gpu_peak_mb", "{:.0f}"),
        "labels as ours": ("same_labels", "{:.3%}"),
    }
    ways = result["ways"]
    shown = {name: how for name, how in columns.items() if any(one[how[0]] is not None for one in ways.values())}
    rows = [["way", *shown]]
    for way, one in ways.items():
        rows.append([way, *("" if one[key] is None else form.format(one[key]) for key, form in shown.values())])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = [
        "  ".join(text.rjust(w) if i else text.ljust(w) for i, (text, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
    return [heading, *table]


def _check(against: Sequence[str]) -> None:
    for way in against:
        if way not in WAYS:
            raise ConfigError(f"--vs {way!r} is unknown. {did_you_mean(way, WAYS)}")
        package = _PACKAGES.get(way)
        if package is not None and importlib.util.find_spec(package) is None:
            raise ConfigError(
                f"--vs {way} needs the package {package}, which is not installed.\n"
                '  Install it: pip install "mmovseg-geo[bench]"; or leave it out: --vs loop.'
            )


def _in_own_process(request: Request) -> dict[str, Any]:
    command = [sys.executable, "-m", "mmovseg_geo.benchmark.one"]
    told = subprocess.run(command, input=pickle.dumps(request), capture_output=True, check=False)
    if told.returncode:
        last = told.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"exit code {told.returncode}"]
        raise RunFailed(f"{request.way} ended without a map: {last[0]}")
    found: dict[str, Any] = json.loads(told.stdout.splitlines()[-1])
    if "error" in found:
        raise RunFailed(found["error"])
    return found


def _figures(found: list[dict[str, Any]], alone_s: float, same: float | None) -> dict[str, Any]:
    height, width = found[0]["shape"]
    wall = median(run["wall_s"] for run in found)

    def largest(name: str) -> float | None:
        known = [run[name] for run in found if run[name] is not None]
        return max(known, default=None)

    return {
        "wall_s": wall,
        "cpu_s": median(run["cpu_s"] for run in found),
        "megapixels_per_s": height * width / 1e6 / wall,
        "model_share": alone_s / wall,
        **{name: largest(name) for name in ("peak_mb", "beyond_model_mb", "gpu_peak_mb")},
        "same_labels": same,
    }


def _agreement(ours: Path, theirs: Path) -> float:
    """Share of pixels with equal labels."""
    from mmovseg_geo.rasters.labels import read_band

    return float((read_band(ours) == read_band(theirs)).mean())
