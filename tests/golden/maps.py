"""What the golden files hold: each model's map of the sample scene, in numbers."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import mmovseg_geo as mm
from mmovseg_geo.config import SegmentConfig

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).parent
CLASSES = {
    "threshold": "dark,middle,bright",
    "mmovseg-compact": "water,forest,cropland,building|house,road",
}


def numbers(model: str, folder: Path) -> dict[str, Any]:
    """Share of each class, number of polygons, and a checksum of the labels of a map of the sample scene."""
    sample = ROOT / "sample_data"
    config = SegmentConfig(model=model, classes=CLASSES[model], preview=False, confidence=False)
    result = mm.map_scene(sample / "scene_rgb.tif", sample / "scene_sar.tif", folder, config=config)
    labels = mm.LabelRaster.open(result.outputs["labels"])
    return {
        "classes": CLASSES[model],
        "share": {entry["name"]: round(entry["share"], 5) for entry in result.report["classes"]},
        "polygons": len(mm.polygonize(labels)),
        "labels_crc32": zlib.crc32(labels.read().tobytes()),
    }
