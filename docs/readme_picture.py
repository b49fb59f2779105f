"""Renders the picture of the README: `python docs/readme_picture.py` runs the demo command on the sample scene."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import mmovseg_geo as mm
from mmovseg_geo.config import SegmentConfig

ROOT = Path(__file__).resolve().parents[1]
CLASSES = "water,forest,cropland,building|house,road"


def main() -> None:
    """Segment the sample scene with the bundled model and keep its preview."""
    sample = ROOT / "sample_data"
    with tempfile.TemporaryDirectory() as folder:
        result = mm.map_scene(
            sample / "scene_rgb.tif", sample / "scene_sar.tif", folder, config=SegmentConfig(classes=CLASSES)
        )
        target = ROOT / "docs" / "images" / "sample_map.png"
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(result.outputs["preview"], target)


if __name__ == "__main__":
    main()
