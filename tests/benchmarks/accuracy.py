"""`python -m tests.benchmarks.accuracy [--model NAME|PATH]`: how good a model is on real places, as tables.

Needs the shared data (MMOVSEG_SHARED). The scenes marked * and the left-out clusters of hls_worldcover are of places
the bundled model has not seen; the other scenes are among its training data.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

import mmovseg_geo as mm
from mmovseg_geo.datasets import PairedChip
from mmovseg_geo.evaluation.clouded import clouded
from mmovseg_geo.grid import Window
from mmovseg_geo.rasters.radiometry import BRIGHT_REFLECTANCE
from mmovseg_geo.rasters.source import Source, probe
from mmovseg_geo.tiles import Batch
from mmovseg_geo.training.real import RealChips
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
        truth = truth_of(root, case)
        for classes in case.class_lists:
            vocabulary = Vocabulary.of(classes, background="," not in classes)
            for sensors in case.sensors:
                found = iou(label(paths_of(root, case, sensors), model, vocabulary), truth, vocabulary, case)
                words = "  ".join(f"{word} {value:.3f}" for word, value in found.items())
                print(f"{name:24}{'+'.join(sensors):14}{classes[:38]:40}{words}", flush=True)


def truth_of(root: Path, case: Case) -> Labels:
    return Source(probe(str(root / case.folder / "labels.tif")), (1,)).decimated(10**6)[0][0].astype(np.uint8)


def paths_of(root: Path, case: Case, sensors: Sequence[str]) -> dict[str, Path]:
    return {sensor: root / case.folder / ("rgb.tif" if sensor == "optical" else "sar.tif") for sensor in sensors}


def label(paths: dict[str, Path], model: str, vocabulary: Vocabulary, *, cover: float = 0.0, seed: int = 0) -> Labels:
    """The map of a scene, through the whole pipeline, with a share of the optical image under clouds."""
    scene = clouded(mm.open_scene(**{sensor: str(path) for sensor, path in paths.items()}), cover, seed)
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


HLS_WORDS = {
    "tree": ("trees", ("woodland", "woods", "copse", "grove", "timberland")),
    "grass+shrub+wetland": ("grass", ("meadow", "prairie", "steppe", "savanna", "grazing land")),
    "crop": ("cropland", ("arable land", "tilled land", "cultivated area", "farm field", "crop rows")),
    "built": ("built-up area", ("suburb", "housing", "neighborhood", "metropolis", "urban fabric")),
    "bare": ("bare ground", ("exposed soil", "badlands", "desert", "barren terrain", "gravel")),
    "water": ("water", ("lake", "reservoir", "pond", "lagoon", "body of water")),
}
"""Class to the word asked for it, and words that no training was shown (`held_out` in compact-concepts.yaml)."""
HLS_VALUES = {10: 0, 20: 1, 30: 1, 40: 2, 50: 3, 60: 4, 80: 5, 90: 1, 100: 1}
ABSURD = ("bicycle", "giraffe")
BINS = 20


def hls_chips(root: Path, recipe: Path, *, left_out: bool = True) -> tuple[list[PairedChip], list[Labels], float]:
    """Chips that a recipe leaves out, or trains on; their six classes with the water mask laid over (255 unknown), and
    their sampling distance."""
    real = next(real for real in read_recipe(recipe).real if real.name == "hls_worldcover")
    assert isinstance(real, RealChips)
    dataset = real.dataset
    table = np.full(256, 255, np.uint8)
    for value, index in HLS_VALUES.items():
        table[value] = index
    names = dataset.split(root)[1 if left_out else 0]
    chips = list(dataset.read(root, names))
    truths = []
    for name, chip in zip(names, chips, strict=True):
        water = Source(probe(str(root / f"hls_worldcover/water/{name}.png")), (1,)).decimated(1000)[0][0] > 0
        truths.append(np.where(water, np.uint8(5), table[chip.labels]))
    return chips, truths, dataset.gsd_m


@dataclass(frozen=True, eq=False)
class Answers:
    """Confusion of classes (K, K), the share of pixels that absurd words claim, and the expected calibration error."""

    confusion: NDArray[np.float64]
    absurd: float
    calibration_error: float

    @property
    def iou(self) -> NDArray[np.float64]:
        return iou_of(self.confusion)


def iou_of(confusion: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of each class of a confusion (K, K)."""
    hits = np.diag(confusion)
    return np.asarray(hits / np.maximum(confusion.sum(0) + confusion.sum(1) - hits, 1))


def answers(model: str, words: Sequence[str], chips: Sequence[PairedChip], truths: Sequence[Labels]) -> Answers:
    """The six classes under these words, asked of chips by optical alone; further words are absurd."""
    segmenter = mm.load_segmenter(model, list(words), gsd_m=chips[0].gsd_m)
    confusion = np.zeros((6, len(words)))
    said, right = np.zeros((2, BINS))
    for chip, truth in zip(chips, truths, strict=True):
        scores = np.asarray(segmenter.probabilities(segmenter(_batch(chip))[0]))
        best, known = scores.argmax(0), truth < 6
        confusion += np.bincount(len(words) * truth[known].astype(int) + best[known], minlength=confusion.size).reshape(
            confusion.shape
        )
        confidence, hit = scores.max(0)[known], best[known] == truth[known]
        bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
        said += np.bincount(bins, confidence, BINS)
        right += np.bincount(bins, hit, BINS)
    return Answers(
        confusion[:, :6], confusion[:, 6:].sum() / confusion.sum(), np.abs(said - right).sum() / confusion.sum()
    )


def hls_table(root: Path, model: str, recipe: Path) -> None:
    """Six classes on the left-out place clusters, optical alone: IoU, calibration, synonyms and absurd words."""
    chips, truths, _ = hls_chips(root, recipe)
    usual = [word for word, _ in HLS_WORDS.values()]
    plain = answers(model, usual, chips, truths)
    print(f"\nhls_worldcover, {len(chips)} left-out chips, optical alone: mIoU {plain.iou.mean():.3f}")
    print("  ".join(f"{name} {value:.3f}" for name, value in zip(HLS_WORDS, plain.iou, strict=True)))
    print(f"expected calibration error {plain.calibration_error:.3f}")
    lost = []
    for number in range(5):
        words = [others[number] for _, others in HLS_WORDS.values()]
        found = answers(model, words, chips, truths).iou
        lost.append(plain.iou.mean() - found.mean())
        print(f"mIoU {found.mean():.3f} ({-lost[-1]:+.3f}) as {', '.join(words)}  {found.round(2).tolist()}")
    joined = [[word, *others] for word, others in HLS_WORDS.values()]
    found = answers(model, joined, chips, truths).iou  # type: ignore[arg-type]
    print(f"unseen words cost {np.mean(lost):.3f} in the mean; all words of a class joined: mIoU {found.mean():.3f}")
    for word in ABSURD:
        print(f"{word}, asked too, claims {answers(model, [*usual, word], chips, truths).absurd:.2%} of the pixels")


TREES, SAMPLE = 120, 200_000


def forest_table(root: Path, recipe: Path) -> None:
    """The floor: a random forest of pixels, trained on the chips that the recipe trains on, scored on the others."""
    values = iou_of(forest(root, recipe))
    print(f"\nrandom forest on the same chips: mIoU {values.mean():.3f}")
    print("  ".join(f"{name} {value:.3f}" for name, value in zip(HLS_WORDS, values, strict=True)))


def forest(root: Path, recipe: Path) -> NDArray[np.float64]:
    """Confusion (6, 6) of a random forest on the chips that a recipe leaves out.

    It sees red, green, blue, and their mean and deviation over 5 x 5 pixels, and learns from all other chips, those of
    calibration too.
    """
    from sklearn.ensemble import RandomForestClassifier

    (known, known_truth), (unseen, truth) = (_pixels(root, recipe, left_out=held) for held in (False, True))
    rows = np.random.default_rng(1).choice(len(known), SAMPLE, replace=False)
    found = RandomForestClassifier(TREES, class_weight="balanced", min_samples_leaf=5, n_jobs=-1, random_state=0)
    found.fit(known[rows], known_truth[rows])
    return np.bincount(6 * truth.astype(int) + found.predict(unseen), minlength=36).reshape(6, 6).astype(float)


def _pixels(root: Path, recipe: Path, *, left_out: bool) -> tuple[NDArray[np.float32], Labels]:
    chips, truths, _ = hls_chips(root, recipe, left_out=left_out)
    features = []
    for chip in chips:
        assert chip.optical is not None, "these chips are optical"
        mean, square = (ndimage.uniform_filter(image, (0, 5, 5)) for image in (chip.optical, np.square(chip.optical)))
        deviation = np.sqrt(np.maximum(square - mean**2, 0))
        features.append(np.concatenate([chip.optical, mean, deviation]).reshape(9, -1).T)
    labels = np.concatenate([truth.ravel() for truth in truths])
    return np.concatenate(features)[labels < 6].astype(np.float32), labels[labels < 6]


SEEDS = range(5)


def cloud_table(root: Path, model: str) -> None:
    """IoU of water with half of the optical image under opaque clouds, from optical alone and with SAR."""
    for name in ("282D_485L_3_3 *", "Spain_7370579 *"):
        case = CASES[name]
        vocabulary = Vocabulary.of("water", background=True)
        truth = truth_of(root, case)
        found = {}
        for sensors in (("optical",), ("optical", "sar")):
            for cover in (0.0, 0.5):
                paths = paths_of(root, case, sensors)
                each = [
                    iou(label(paths, model, vocabulary, cover=cover, seed=seed), truth, vocabulary, case)["water"]
                    for seed in (SEEDS if cover else [0])
                ]
                found[sensors, cover] = float(np.mean(each))
        alone, both = (found[s, 0.0] - found[s, 0.5] for s in (("optical",), ("optical", "sar")))
        shown = "  ".join(
            f"{'+'.join(s)} {found[s, 0.0]:.3f} {found[s, 0.5]:.3f}" for s in (("optical",), ("optical", "sar"))
        )
        print(f"{name:24}water, clear and half clouded: {shown}  lost {alone:.3f} and {both:.3f}")


def _batch(chip: PairedChip) -> Batch:
    assert chip.optical is not None, "these chips are optical"
    optical = np.clip(chip.optical / BRIGHT_REFLECTANCE, 0, 1).astype(np.float32)[None] * np.float32(255)
    valid = np.ones((1, *optical.shape[2:]), bool)
    return Batch((Window(0, 0, *optical.shape[2:]),), optical, None, valid, None, chip.gsd_m)


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mmovseg-compact")
    parser.add_argument("--only", choices=("scenes", "hls", "floor", "clouds"))
    recipe = ROOT / "configs" / "train" / "mmovseg-compact.yaml"
    parser.add_argument("--recipe", type=Path, default=recipe, help="which places of hls_worldcover are left out")
    options = parser.parse_args(None if arguments is None else list(arguments))
    root = shared_folder() / "data"
    if options.only in (None, "scenes"):
        scene_table(root, options.model)
    if options.only in (None, "clouds"):
        cloud_table(root, options.model)
    if options.only in (None, "hls"):
        hls_table(root, options.model, options.recipe)
    if options.only in (None, "floor"):
        forest_table(root, options.recipe)


if __name__ == "__main__":
    main()
