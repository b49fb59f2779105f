"""A few labelled images, a tiny network to begin with, and recipes over them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from mmovseg_geo.models.mmovseg.start import save
from mmovseg_geo.training.stages.images import Data
from tests.unit.models.mmovseg.tiny import tiny_network, tiny_params

NATIVE = 64
TRAIN, VAL = 4, 2
CLASSES = {0: "water", 1: "city", 2: "forest"}
COLORS = np.array([[30, 60, 160], [190, 180, 170], [40, 110, 50]])
BACKSCATTER = np.array([40, 210, 120])

DESCRIPTION: dict[str, Any] = {
    "title": "Invented images",
    "classes": CLASSES,
    "seen": ["water", "city"],
    "unseen": ["forest"],
    "splits": {
        name: {
            "optical": f"optical/{name}_{{id}}.png",
            "sar": f"sar/{name}_{{id}}.png",
            "labels": f"labels/{name}_{{id}}.png",
            **({"classes": "seen"} if name == "train" else {}),
        }
        for name in ("train", "val")
    },
    "evaluate": "val",
}


def write_images(folder: Path, *, side: int = NATIVE) -> Data:
    """Images of land in bands, whose classes differ in color and backscatter; training knows two of three classes."""
    for split, count, classes in (("train", TRAIN, 2), ("val", VAL, 3)):
        for number in range(count):
            rng = np.random.default_rng(100 * classes + number)
            labels = (
                rng.integers(0, classes, (-(-side // 16), -(-side // 16))).repeat(16, 0).repeat(16, 1)[:side, :side]
            )
            optical = COLORS[labels] + rng.normal(0, 8, (side, side, 3))
            sar = BACKSCATTER[labels] + rng.normal(0, 20, (side, side))
            stored = np.where(rng.random(labels.shape) < 0.05, 255, labels)
            for kind, pixels in (("optical", optical), ("sar", sar), ("labels", stored)):
                path = folder / kind / f"{split}_{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    description = folder / "invented.yaml"
    description.write_text(yaml.safe_dump(DESCRIPTION, sort_keys=False))
    return Data(dataset=description, folder=folder)


def recipe(folder: Path, name: str = "recipe.yaml", **more: Any) -> Path:
    """A recipe of the stage from labels on those images, beginning with a tiny network; `more` replaces its keys."""
    write_images(folder)
    start = folder / "start.safetensors"
    if not start.is_file():
        save(tiny_network(), tiny_params(), start, trained=False)
    listed: dict[str, Any] = {
        "stage": "mmovseg",
        "start": {"weights": "start.safetensors"},
        "data": {"dataset": "invented.yaml", "folder": "."},
        "optimization": {
            "steps": 4, "batch_size": 2, "learning_rate": 0.001, "log_every": 1, "save_every": 2, "check_every": 2,
            "workers": 0,
        },
        "licence": "CC0-1.0",
        "sources": ["invented images"],
        **more,
    }  # fmt: skip
    path = folder / name
    path.write_text(yaml.safe_dump(listed, sort_keys=False))
    return path
