"""Whether reading and augmenting keep up with learning: steps on images from files beside steps on batches in memory.

`python -m tests.benchmarks training` prints both, in turns of one run. Nothing depends on what is in the images, so
they are simulated, and the published network begins at random. Seconds are of the clock and of this process, without
those of its workers: what a step then takes more is what reading keeps the network waiting, on a busy machine too.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import rasterio
import yaml
from PIL import Image
from rasterio.transform import from_origin

from mmovseg_geo.config import EvalConfig
from mmovseg_geo.models.compute import device_of
from mmovseg_geo.simulate import simulate
from mmovseg_geo.training.area.samples import TrainingCrops
from mmovseg_geo.training.area.scenes import open_scenes
from mmovseg_geo.training.area.settings import AreaConfig
from mmovseg_geo.training.area.split import hold_out, scanned
from mmovseg_geo.training.area.stage import AreaStage, starting_weights
from mmovseg_geo.training.loop import Loop
from mmovseg_geo.training.loop_batches import Samples, training_batches
from mmovseg_geo.training.loop_processes import Processes
from mmovseg_geo.training.loop_settings import LoopSettings
from mmovseg_geo.training.stages.mmovseg import prepare
from mmovseg_geo.training.stages.recipe import read_stage_recipe
from mmovseg_geo.training.stages.stage import Stage

CLASSES = {0: "water", 1: "forest", 2: "fields"}
TURNS = 4
"""The first is not counted."""
Made = tuple[Stage, LoopSettings, Samples]


def area(folder: Path, side: int, gsd_m: float, *, sar: bool, workers: int = 0) -> Made:
    """Training on an area as `mmovseg train --labels` sets it up, of a scene in tiled GeoTIFFs."""
    scene = simulate((side, side), gsd_m=gsd_m, seed=7)
    optical = np.clip(scene.optical / 0.3 * 255, 1, 255).astype(np.uint8)
    planes = {"rgb": optical, "labels": (scene.labels % len(CLASSES))[None], **({"sar": scene.sar} if sar else {})}
    paths = {}
    for name, pixels in planes.items():
        paths[name] = folder / f"{name}_{gsd_m:g}m.tif"
        size = {"count": len(pixels), "height": side, "width": side, "dtype": pixels.dtype, "crs": "EPSG:32633"}
        place = {"transform": from_origin(300000, 5300000, gsd_m, gsd_m), "tiled": True, "compress": "deflate"}
        with rasterio.open(paths[name], "w", driver="GTiff", **size, **place) as target:
            target.write(pixels)
    classes = folder / "classes.yaml"
    classes.write_text(yaml.safe_dump(CLASSES))
    config = AreaConfig(
        optical=(str(paths["rgb"]),),
        sar=(str(paths["sar"]),) if sar else (),
        labels=(paths["labels"],),
        labelling=EvalConfig(classes_file=classes),
        workers=workers,
    )
    scenes, found, every = scanned(*open_scenes(config), config)
    hold_out(every, found, config)
    crops = TrainingCrops(scenes, every, config, readers=workers)
    return AreaStage(starting_weights(config.start), found), config.loop(), crops


def published(folder: Path, *, count: int = 16, side: int = 512) -> Made:
    """MM-OVSeg ViT-B from labelled PNG images, as a recipe sets it up, two images a step."""
    for number in range(count):
        scene = simulate((side, side), gsd_m=1.0, seed=number)
        pictures = {
            "rgb": np.moveaxis(np.clip(scene.optical / 0.3 * 255, 0, 255), 0, -1),
            "sar": np.clip((scene.sar[0] + 25) / 25 * 255, 0, 255),
            "labels": scene.labels % len(CLASSES),
        }
        for kind, pixels in pictures.items():
            (folder / kind).mkdir(exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / kind / f"{number}.png")
    splits = {"train": {"optical": "rgb/{id}.png", "sar": "sar/{id}.png", "labels": "labels/{id}.png"}}
    listed = {"title": "Simulated", "classes": CLASSES, "splits": splits, "evaluate": "train"}
    (folder / "set.yaml").write_text(yaml.safe_dump(listed, sort_keys=False))
    recipe: dict[str, Any] = {
        "stage": "mmovseg",
        "network": "mmovseg-vitb16",
        "data": {"dataset": "set.yaml", "folder": ".", "validate": ""},
        "optimization": {"batch_size": 2},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    read = read_stage_recipe(path)
    begun = prepare(read)
    return begun.stage, read.optimization, begun.samples


def compare(device: str, steps: int, *, full_size: bool) -> Iterator[tuple[str, dict[str, float]]]:
    """Rows of the table: median seconds of a step on images from files and on batches in memory, and the difference."""
    makers: dict[str, Callable[[Path], Made]] = {
        "area of 10 m pixels, both sensors, mmovseg-compact": lambda folder: area(folder, 1024, 10.0, sar=True),
        "the same, read by 2 worker processes": lambda folder: area(folder, 1024, 10.0, sar=True, workers=2),
        "area of 0.1 m pixels, optical, mmovseg-compact": lambda folder: area(folder, 3072, 0.1, sar=False),
    }
    if full_size:
        makers["labelled PNG images, mmovseg-vitb16"] = published
    for name, make in makers.items():
        with tempfile.TemporaryDirectory() as folder:
            stage, settings, samples = make(Path(folder))
            yield name, _compared(Loop(stage, settings, samples, Path(folder), _alone(device)), steps)


def _compared(loop: Loop, steps: int) -> dict[str, float]:
    """In turns of a few steps, after some that fill caches, start workers and warm up the network.

    Those in memory are the ones just read: how much there is to do depends on which sensors a batch has.
    """
    loop.stage.train()
    files = training_batches(loop.samples, loop.settings, loop.processes, first_step=0)
    clocks = {"": time.perf_counter, "cpu_": time.process_time}
    seconds: dict[str, list[float]] = {f"{source}_{clock}s": [] for clock in clocks for source in ("files", "memory")}
    for turn in range(TURNS):
        kept: list[list[dict[str, Any]]] = []
        for source in ("files", "memory"):
            for number in range(max(1, steps // (TURNS - 1))):
                started = {clock: read() for clock, read in clocks.items()}
                if source == "files":
                    kept.append([*islice(files, loop.settings.accumulate)])
                loop._learn(kept[number])
                for clock, read in clocks.items() if turn else ():
                    seconds[f"{source}_{clock}s"].append(read() - started[clock])
    found = {name: median(values) for name, values in seconds.items()}
    for clock in clocks:
        found[f"{clock}percent_more"] = 100 * (found[f"files_{clock}s"] / found[f"memory_{clock}s"] - 1)
    return found


def _alone(device: str) -> Processes:
    return Processes(device=device_of(device))
