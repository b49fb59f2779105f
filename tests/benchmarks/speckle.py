"""`python -m tests.benchmarks.speckle`: what a speckle filter does for the bundled model, and what it costs.

Water on the two real scenes it was not trained on (needs MMOVSEG_SHARED), then processor time of each filter.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import get_args

import numpy as np

import mmovseg_geo as mm
from mmovseg_geo.rasters.source import Source, probe
from mmovseg_geo.rasters.speckle import HALO, SpeckleFilter
from mmovseg_geo.tiles import Speckle
from mmovseg_geo.vocabulary import Vocabulary
from tests.benchmarks.accuracy import CASES, iou
from tests.conftest import shared_folder

SCENES = ("282D_485L_3_3 *", "Spain_7370579 *")
SIDE = 1024


def water_table(root: Path) -> None:
    """IoU of water by scene, sensors and filter."""
    vocabulary = Vocabulary.of("water", background=True)
    print(f"{'scene':24}{'sensors':14}" + "".join(f"{name:>14}" for name in get_args(Speckle)))
    for scene_name in SCENES:
        folder = root / CASES[scene_name].folder
        truth = Source(probe(str(folder / "labels.tif")), (1,)).decimated(10**6)[0][0].astype(np.uint8)
        for sensors, optical in (("optical+sar", folder / "rgb.tif"), ("sar", None)):
            row = []
            for name in get_args(Speckle):
                with mm.open_scene(optical, folder / "sar.tif", speckle=name) as scene:
                    segmenter = mm.load_segmenter("mmovseg-compact", vocabulary, gsd_m=scene.gsd_m)
                    with tempfile.TemporaryDirectory() as out:
                        raster = mm.segment(scene, segmenter, out=Path(out) / "labels.tif")
                        found = Source(probe(str(raster.path)), (1,)).decimated(10**6)[0][0].astype(np.uint8)
                row.append(iou(found, truth, vocabulary, CASES[scene_name])["water"])
            print(f"{scene_name:24}{sensors:14}" + "".join(f"{value:14.3f}" for value in row), flush=True)


def cost_table() -> None:
    """Processor time of each filter, the least of three."""
    side = SIDE + 2 * HALO
    power = np.random.default_rng(0).gamma(4.4, 1 / 4.4, (1, side, side)).astype(np.float32)
    valid = np.ones(power.shape[1:], np.bool_)
    for name in get_args(Speckle)[1:]:
        spent = []
        for _ in range(3):
            started = time.process_time()
            SpeckleFilter(name, (4.4,))(power, valid)
            spent.append(time.process_time() - started)
        print(f"{name:14}{min(spent) / SIDE**2 * 1e9:6.0f} ns a pixel and band")


if __name__ == "__main__":
    cost_table()
    water_table(shared_folder() / "data")
