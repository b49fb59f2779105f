"""One command from a recipe to a file that is used: the run folder, its record, its model card and its pictures."""

from __future__ import annotations

import json
import logging
import os
import platform
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import timm
import torch

import mmovseg_geo
from mmovseg_geo.errors import ConfigError, OutputError
from mmovseg_geo.models.convert import checksum
from mmovseg_geo.training.loop import Loop
from mmovseg_geo.training.loop_checkpoint import LAST
from mmovseg_geo.training.loop_processes import Processes, joined, require_alone
from mmovseg_geo.training.loop_settings import differing
from mmovseg_geo.training.stages.card import write_card
from mmovseg_geo.training.stages.images import fingerprint
from mmovseg_geo.training.stages.pictures import write_report
from mmovseg_geo.training.stages.recipe import STAGES, Begin, StageRecipe, read_stage_recipe, stage_of

logger = logging.getLogger(__name__)
NOTE, COPY = "run.json", "recipe.yaml"
COMPACT_NOTE = "recipe.json"
"""What a run of the compact recipe leaves instead."""


def train(
    config: str | Path, out: str | Path, *, resume: bool = False, data: Path | None = None, device: str = "auto"
) -> Path:
    """The file made by a recipe, in the folder `out`: of a stage where it names one, else of the compact model.

    Args:
        resume: go on with the run in that folder.
        data: folder of the images, instead of the recipe's.

    Raises:
        ConfigError: a recipe that does not fit, or a folder with another run in it.
        TrainingFailed: a loss that is no number.
    """
    path, folder = Path(config), Path(out)
    if stage_of(path) is None:
        if data is not None:
            raise ConfigError(f"{path} is a recipe of the compact model, which takes no data folder here.")
        require_alone("The compact recipe")
        if (folder / NOTE).is_file():
            raise ConfigError(f"{folder} holds a run of another kind. Give another folder.")
        from mmovseg_geo.training.trainer import train as train_compact

        return train_compact(path, folder, resume=resume)
    recipe = read_stage_recipe(path, folder=data)
    with joined(device) as processes:
        return _run(recipe, folder, processes, resume=resume)


def _run(recipe: StageRecipe, folder: Path, processes: Processes, *, resume: bool) -> Path:
    recipe.optimization.part_size(processes.world)
    check_folder(folder, resume=resume)
    torch.manual_seed(recipe.optimization.seed)
    begun = _prepared(recipe)
    start, found = checksum(_on_cpu(begun)), fingerprint(begun.files)
    note = {
        "recipe": recipe.values(),
        "versions": versions(),
        "data_fingerprint": found,
        "images": len(begun.samples),
        "seed": recipe.optimization.seed,
        "start": start,
        "processes": processes.world,
    }
    _claim(folder, note, recipe, resume=resume, processes=processes)
    loop = Loop(
        begun.stage, recipe.optimization, begun.samples, folder, processes, validation=begun.validation, start=start
    )
    if resume and (folder / LAST).is_file():
        loop.resume()
    loop.run()
    processes.wait()
    path = folder
    if processes.is_first:
        step = loop.take_best()
        begun.stage.eval()
        about = {
            "licence": recipe.licence,
            "sources": json.dumps(recipe.sources),
            "recipe_sha256": sha256(recipe.text.encode()).hexdigest(),
            "data_fingerprint": found,
            "made_by": f"mmovseg-geo {mmovseg_geo.__version__}, stage {recipe.stage}",
        }
        path = begun.stage.export(folder, about)
        write_card(folder, begun.stage, recipe, path, note, step=step)
        write_report(folder, begun.stage, begun.validation or begun.samples, step=step)
    processes.wait()
    return path


def _prepared(recipe: StageRecipe) -> Begin:
    from importlib import import_module

    found: Begin = import_module(STAGES[recipe.stage]).prepare(recipe)
    return found


def _on_cpu(begun: Begin) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu() for name, value in begun.stage.frozen().items()}


def check_folder(folder: Path, *, resume: bool) -> None:
    """Refuse a folder before any work is done for it."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; -o is the folder of the run.")
    if (folder / NOTE).is_file() and not resume:
        raise ConfigError(f"{folder} holds a run already. Go on with it (--resume) or give another folder.")
    if (folder / COMPACT_NOTE).is_file():
        raise ConfigError(f"{folder} holds a run of the compact recipe. Give another folder.")
    if resume and not (folder / NOTE).is_file():
        raise ConfigError(f"{folder} holds no run to go on with. Leave --resume out to begin one.")


def noted(folder: Path, *, kind: str) -> dict[str, Any]:
    """What the folder of a run says of it.

    Args:
        kind: the key that tells a run of this kind from others.

    Raises:
        ConfigError: it cannot be read, or is of another kind.
    """
    path = folder / NOTE
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is damaged ({error}), so the run cannot go on. Give another folder.") from error
    if not isinstance(kept, dict) or kind not in kept:
        raise ConfigError(
            f"{folder} holds a run of another kind: one of an area cannot go on with a recipe, nor the other way "
            "round. Give what it began with, or another folder."
        )
    return kept


def _claim(folder: Path, note: dict[str, Any], recipe: StageRecipe, *, resume: bool, processes: Processes) -> None:
    """Write down what this folder is for, or refuse one that is another run's."""
    path = folder / NOTE
    if resume:
        kept = noted(folder, kind="recipe")
        for part in ("recipe", "data_fingerprint", "start"):
            if kept[part] == note[part]:
                continue
            keys = ", ".join(_differences(kept[part], note[part])) if part == "recipe" else ""
            what = {
                "recipe": f"another recipe (it differs in {keys})",
                "data_fingerprint": "other images: some were added, removed or changed",
                "start": "other weights to begin with",
            }[part]
            raise ConfigError(f"{folder} holds a run of {what}. Give what it began with, or another folder.")
        return
    processes.wait()  # all have looked at the folder by now
    if processes.is_first:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / COPY).write_text(recipe.text, encoding="utf-8")
        staged = path.with_suffix(".unfinished")
        staged.write_text(json.dumps(note, indent=1, ensure_ascii=False), encoding="utf-8")
        os.replace(staged, path)
    processes.wait()


def _differences(kept: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Keys that differ, such as `optimization.steps`."""
    found = []
    for key in differing(kept, now):
        one, other = kept.get(key), now.get(key)
        inner = differing(one, other) if isinstance(one, dict) and isinstance(other, dict) else []
        found += [f"{key}.{name}" for name in inner] or [key]
    return found


def versions() -> dict[str, str]:
    """Of mmovseg, Python and the libraries that decide what weights come out."""
    libraries = {"torch": torch, "numpy": np, "timm": timm, "open_clip": open_clip}
    return {
        "mmovseg-geo": mmovseg_geo.__version__,
        "python": platform.python_version(),
        **{name: str(library.__version__) for name, library in libraries.items()},
    }
