"""`python -m tests.benchmarks.clouds`: what the cloud index finds on real images, and whether masking clouds helps.

Needs the shared data (MMOVSEG_SHARED). Real images with labelled clouds are not among them: what is missed is measured
under simulated clouds, what is marked in vain on real images that show none, some of which its steps were set on.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

import mmovseg_geo as mm
from mmovseg_geo.evaluation.clouded import clouded, clouds_of
from mmovseg_geo.grid import Window
from mmovseg_geo.rasters.cloud_index import CLOUDY, SMOOTH_M, cloud_probability
from mmovseg_geo.rasters.radiometry import BRIGHT_REFLECTANCE
from mmovseg_geo.rasters.source import Source, probe
from mmovseg_geo.rasters.stored import stored_pixels
from mmovseg_geo.vocabulary import Vocabulary
from tests.benchmarks.accuracy import CASES, iou
from tests.conftest import shared_folder

HLS = {"blue": 0, "green": 1, "red": 2, "nir": 3, "swir": 4}
L2A = {"blue": 1, "green": 2, "red": 3, "nir": 7, "swir": 10}
SNOW, CLOUDED = ("037", "138", "150", "182", "259"), ("088",)
"""HLS chips that show snow or a salt lake, and clouds."""
SCENES = ("282D_485L_3_3 *", "Spain_7370579 *")
COVERS = (0.25, 0.5, 0.75)


def share(pixels: NDArray[np.float64], bands: dict[str, int], gsd_m: float) -> float:
    """Share of the pixels that the index marks as cloud."""
    likely = cloud_probability({name: pixels[band].astype(np.float32) for name, band in bands.items()})
    return float((uniform_filter(likely, 2 * round(SMOOTH_M / gsd_m) + 1) >= CLOUDY).mean())


def marked_table(root: Path) -> None:
    """Shares marked with and without the infrared bands."""
    colors = ("red", "green", "blue")
    groups: dict[str, list[list[float]]] = {}
    for path in sorted((root / "hls_worldcover" / "images").glob("*.tif")):
        group = "snow" if path.stem in SNOW else "clouds" if path.stem in CLOUDED else "neither"
        pixels = stored_pixels(path) / 1e4
        only = {name: HLS[name] for name in colors}
        groups.setdefault(f"HLS, {group}", []).append([share(pixels, HLS, 30), share(pixels, only, 30)])
    for folder in sorted((root / "s1_s2_landcover").iterdir()):
        pixels = stored_pixels(folder / "s2_l2a.tif") / 1e4
        only = {name: L2A[name] for name in colors}
        groups[folder.name] = [[share(pixels, L2A, 10), share(pixels, only, 10)]]
    print(f"{'images':24}{'number':>8}{'marked, all bands':>20}{'marked, colors only':>22}")
    for name, found in groups.items():
        every, few = np.mean(found, axis=0)
        print(f"{name:24}{len(found):8}{every:20.4%}{few:22.4%}", flush=True)


def found_table(root: Path) -> None:
    """How much of simulated clouds the index finds by colors alone, and how much of what it marks is one."""
    print(f"\n{'scene':24}{'cover':>8}{'found':>12}{'rightly':>12}")
    for name in SCENES:
        folder = root / CASES[name].folder
        for cover in COVERS:
            with mm.open_scene(folder / "rgb.tif") as scene:
                shown = clouded(scene, cover, 0).read(Window(0, 0, *scene.shape)).optical
                opaque = clouds_of(scene.name, scene.shape, cover, 0, scene.gsd_m).opacity > 0.5
            assert shown is not None, "the scene has an optical image"
            reflectance = shown * np.float32(BRIGHT_REFLECTANCE / 255)
            likely = cloud_probability(dict(zip(("red", "green", "blue"), reflectance, strict=True)))
            marked = uniform_filter(likely, 2 * round(SMOOTH_M / scene.gsd_m) + 1) >= CLOUDY
            both = float((marked & opaque).sum())
            print(f"{name:24}{cover:8.0%}{both / opaque.sum():12.3f}{both / marked.sum():12.3f}", flush=True)


def masked_table(root: Path) -> None:
    """IoU of water under simulated clouds, with and without a mask of them."""
    vocabulary = Vocabulary.of("water", background=True)
    print(f"\n{'scene':24}{'cover':>8}{'not masked':>12}{'masked':>12}")
    for name in SCENES:
        folder = root / CASES[name].folder
        truth = Source(probe(str(folder / "labels.tif")), (1,)).decimated(10**6)[0][0].astype(np.uint8)
        for cover in COVERS:
            row = []
            for masked in (False, True):
                with mm.open_scene(folder / "rgb.tif", folder / "sar.tif") as scene:
                    covered = clouded(scene, cover, 0)
                    if masked:
                        covered = replace(covered, clouds=_Simulated(scene, cover), mask_clouds=True)
                    segmenter = mm.load_segmenter("mmovseg-compact", vocabulary, gsd_m=scene.gsd_m)
                    with tempfile.TemporaryDirectory() as out:
                        raster = mm.segment(covered, segmenter, out=Path(out) / "labels.tif")
                        found = Source(probe(str(raster.path)), (1,)).decimated(10**6)[0][0].astype(np.uint8)
                row.append(iou(found, truth, vocabulary, CASES[name])["water"])
            print(f"{name:24}{cover:8.0%}" + "".join(f"{value:12.3f}" for value in row), flush=True)


class _Simulated:
    """Where simulated clouds and shadows were laid, exactly."""

    why, share = "simulated", 0.0

    def __init__(self, scene: mm.Scene, cover: float) -> None:
        made = clouds_of(scene.name, scene.shape, cover, 0, scene.gsd_m)
        self.mask = (made.opacity > 0.1) | (made.shadow > 0.3)

    def read(self, window: Window) -> NDArray[np.bool_]:
        found = np.zeros(window.shape, np.bool_)
        inside = window.intersection(Window(0, 0, *self.mask.shape))
        if inside is not None:
            found[inside.moved(-window.row, -window.col).slices] = self.mask[inside.slices]
        return found


if __name__ == "__main__":
    marked_table(shared_folder() / "data")
    found_table(shared_folder() / "data")
    masked_table(shared_folder() / "data")
