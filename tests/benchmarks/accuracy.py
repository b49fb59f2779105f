"""`python -m tests.benchmarks.accuracy [--model NAME|PATH]`: how good a model is on real places, as tables.

Needs the shared data (MMOVSEG_SHARED). The scenes marked * and the left-out clusters of hls_worldcover are of places
the bundled model has not seen; the other scenes are among its training data.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import mmovseg_geo as mm
from mmovseg_geo.datasets import PairedChip
from mmovseg_geo.grid import Window
from mmovseg_geo.rasters.radiometry import BRIGHT_REFLECTANCE
from mmovseg_geo.rasters.source import Source, probe
from mmovseg_geo.tiles import Batch
from mmovseg_geo.training.recipe import read_recipe
from mmovseg_geo.vocabulary import Vocabulary
from tests.conftest import ROOT, shared_folder

Labels = NDArray[np.uint8]
SIX = "water,trees|forest,grass|rangeland,cropland,built-up area|building,bare ground"
SENSORS = (("optical", "sar"), ("optical",), ("sar",))


@dataclass(frozen=True)
class Case:
    """A labelled scene: what its values are called in the class lists it is tried with."""

    folder: str
    values: dict[int, str]
    class_lists: tuple[str, ...]
    unknown: tuple[int, ...]
    sensors: tuple[tuple[str, ...], ...] = SENSORS


LAND = {1: "water", 2: "trees", 4: "cropland", 5: "built-up area", 6: "bare ground", 7: "snow", 9: "grass"}
CASES = {
    "282D_485L_3_3 *": Case("s1_s2_landcover/282D_485L_3_3", LAND, ("water", "lake", SIX), (0, 3, 8)),
    "Spain_7370579 *": Case("s1_s2_flood/Spain_7370579", {1: "water"}, ("water", "lake", SIX), (255,)),
    "637U_59R_1_3": Case("s1_s2_landcover/637U_59R_1_3", LAND, (SIX,), (0, 3, 8)),
    "609U_541L_3_0": Case("s1_s2_landcover/609U_541L_3_0", LAND, (f"{SIX},snow",), (0, 3, 8)),
    "block_309606_261636 *": Case(
        "rgb_buildings/block_309606_261636",
        {1: "building"},
        ("building", "building|rooftop,trees,grass,road,bare ground"),
        (255,),
        (("optical",),),
    ),
}


def scene_table(root: Path, model: str) -> None:
    """IoU of the labelled classes, by class list and sensors."""
    print(f"{'scene':24}{'sensors':14}{'classes':40}IoU")
    for name, case in CASES.items():
        truth = Source(probe(str(root / case.folder / "labels.tif")), (1,)).decimated(10**6)[0][0].astype(np.uint8)
        for classes in case.class_lists:
            vocabulary = Vocabulary.of(classes, background="," not in classes)
            for sensors in case.sensors:
                paths = {s: root / case.folder / ("rgb.tif" if s == "optical" else "sar.tif") for s in sensors}
                found = iou(label(paths, model, vocabulary), truth, vocabulary, case)
                words = "  ".join(f"{word} {value:.3f}" for word, value in found.items())
                print(f"{name:24}{'+'.join(sensors):14}{classes[:38]:40}{words}", flush=True)


def label(paths: dict[str, Path], model: str, vocabulary: Vocabulary) -> Labels:
    """The map of a scene, through the whole pipeline."""
    scene = mm.open_scene(**{sensor: str(path) for sensor, path in paths.items()})
    segmenter = mm.load_segmenter(model, vocabulary, gsd_m=scene.gsd_m)
    with tempfile.TemporaryDirectory() as folder:
        raster = mm.segment(scene, segmenter, out=Path(folder) / "labels.tif")
        return Source(probe(str(raster.path)), (1,)).decimated(10**6)[0][0].astype(np.uint8)


def iou(found: Labels, truth: Labels, vocabulary: Vocabulary, case: Case) -> dict[str, float]:
    """IoU of each class that the truth has at least a thousandth of."""
    known = ~np.isin(truth, case.unknown)
    values: dict[str, float] = {}
    for value, word in case.values.items():
        entry = next((e for e in vocabulary.scored if word in e.words or len(vocabulary.scored) == 1), None)
        if entry is None or (truth[known] == value).mean() < 0.001:
            continue
        said, is_true = (found == entry.id) & known, (truth == value) & known
        values[word] = float((said & is_true).sum() / max((said | is_true).sum(), 1))
        if len(vocabulary.scored) == 1:
            break
    return values


HLS_CLASSES = "trees,grass|shrub|wetland,cropland,built-up area,bare ground,water"
HLS_VALUES = {10: 0, 20: 1, 30: 1, 40: 2, 50: 3, 60: 4, 80: 5, 90: 1, 100: 1}


def hls_table(root: Path, model: str) -> None:
    """IoU of six classes on the left-out place clusters, optical alone; the water mask is laid over the labels."""
    recipe = read_recipe(ROOT / "configs" / "train" / "mmovseg-compact.yaml")
    dataset = next(real.dataset for real in recipe.real if real.dataset.name == "hls_worldcover")
    names = dataset.split(root)[1]
    segmenter = mm.load_segmenter(model, HLS_CLASSES, gsd_m=dataset.gsd_m)
    confusion = np.zeros((6, 6))
    for name, chip in zip(names, dataset.read(root, names), strict=True):
        water = Source(probe(str(root / f"hls_worldcover/water/{name}.png")), (1,)).decimated(1000)[0][0] > 0
        truth = np.vectorize(lambda value: HLS_VALUES.get(int(value), 255))(chip.labels)
        truth = np.where(water, 5, truth)
        scores = segmenter.probabilities(segmenter(_batch(chip))[0])
        best = np.asarray(scores).argmax(0)
        known = truth < 6
        confusion += np.bincount(6 * truth[known] + best[known], minlength=36).reshape(6, 6)
    found = np.diag(confusion) / (confusion.sum(0) + confusion.sum(1) - np.diag(confusion))
    words = HLS_CLASSES.split(",")
    print(f"\nhls_worldcover, {len(names)} left-out chips, optical only: mIoU {found.mean():.3f}")
    print("  ".join(f"{word} {value:.3f}" for word, value in zip(words, found, strict=True)))


def _batch(chip: PairedChip) -> Batch:
    assert chip.optical is not None, "these chips are optical"
    optical = np.clip(chip.optical / BRIGHT_REFLECTANCE, 0, 1).astype(np.float32)[None] * np.float32(255)
    valid = np.ones((1, *optical.shape[2:]), bool)
    return Batch((Window(0, 0, *optical.shape[2:]),), optical, None, valid, None, chip.gsd_m)


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mmovseg-compact")
    parser.add_argument("--only", choices=("scenes", "hls"))
    options = parser.parse_args(None if arguments is None else list(arguments))
    root = shared_folder() / "data"
    if options.only != "hls":
        scene_table(root, options.model)
    if options.only != "scenes":
        hls_table(root, options.model)


if __name__ == "__main__":
    main()
