"""One command from scenes and labels to a file that `segment --model` takes, with all that tells how it came to be."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import torch

import mmovseg_geo
from mmovseg_geo.errors import ConfigError
from mmovseg_geo.models.compute import device_of
from mmovseg_geo.models.convert import checksum
from mmovseg_geo.training.area.card import CARD, write_card
from mmovseg_geo.training.area.samples import HeldOutBlocks, TrainingCrops
from mmovseg_geo.training.area.scenes import files_of, open_scenes
from mmovseg_geo.training.area.settings import AreaConfig
from mmovseg_geo.training.area.split import hold_out, scanned, summary
from mmovseg_geo.training.area.split_map import write_split_map
from mmovseg_geo.training.area.stage import WEIGHTS, AreaStage, starting_weights
from mmovseg_geo.training.loop import Loop, on_device
from mmovseg_geo.training.loop_batches import validation_batches
from mmovseg_geo.training.loop_checkpoint import LAST
from mmovseg_geo.training.loop_processes import Processes, require_alone, usual_workers
from mmovseg_geo.training.loop_settings import LoopSettings, differing
from mmovseg_geo.training.stages.images import fingerprint
from mmovseg_geo.training.stages.pictures import write_report
from mmovseg_geo.training.stages.run import NOTE, check_folder, noted, versions

logger = logging.getLogger(__name__)
SPLIT = "split.json"


def train_area(config: AreaConfig, out: str | Path, *, resume: bool = False, device: str = "auto") -> Path:
    """The weights (`model.safetensors` in the folder `out`) of the compact model, trained further on labelled scenes.

    Beside them: model card, report and split as pictures, `metrics.jsonl`, checkpoints, and `run.json` with settings,
    versions, seed and a fingerprint of the files. Everything is checked before anything is written.

    Raises:
        MmovsegError: images, labels or classes that do not fit each other; a folder with another run in it.
        TrainingFailed: a loss that is no number.

    >>> train_area(AreaConfig(optical=("s2.tif",), labels=(Path("parcels.gpkg"),)), "my-area")  # doctest: +SKIP
    """
    require_alone("An area")
    folder = Path(out)
    check_folder(folder, resume=resume)
    start = starting_weights(config.start)
    processes = Processes(device=device_of(device))
    scenes, classes = open_scenes(config)
    scenes, classes, every = scanned(scenes, classes, config)
    hold_out(every, classes, config)
    torch.manual_seed(config.seed)
    stage = AreaStage(start, classes)
    settings = config.loop(usual_workers(processes.device))
    samples = TrainingCrops(scenes, every, config, readers=settings.workers)
    judged = HeldOutBlocks(scenes, every, config) if config.held_out else None
    note: dict[str, Any] = {
        "settings": config.values(),
        "versions": versions(),
        "data_fingerprint": fingerprint(files_of(config)),
        "start_sha256": start.sha256,
        "seed": config.seed,
    }
    if resume:
        _require_same(folder, note)
    logger.info(
        "Learning %s from %d labelled squares of %s%s.",
        ", ".join(classes.names), len(samples),
        scenes[0].name if len(scenes) == 1 else f"{len(scenes)} scenes",
        "" if judged is None else f"; {len(judged)} others are held out",
    )  # fmt: skip
    before = None if judged is None else _scored(stage, judged, settings, processes)
    loop = Loop(stage, settings, samples, folder, processes, validation=judged, start=checksum(_rests(stage)))
    if not resume:
        folder.mkdir(parents=True, exist_ok=True)
        write_split_map(folder, scenes, every)
        _write_json(folder / SPLIT, summary(scenes, every, classes))
        _write_json(folder / NOTE, note)
    elif (folder / LAST).is_file():
        loop.resume()
    loop.run()
    step = loop.take_best()
    stage.eval()
    after = None if judged is None else _scored(stage, judged, settings, processes)
    licence = config.licence or start.licence
    about = {
        "licence": licence,
        "sources": json.dumps([f"trained from {start.path.name}", *(one.name for one in scenes)], ensure_ascii=False),
        "data_fingerprint": note["data_fingerprint"],
        "made_by": f"mmovseg-geo {mmovseg_geo.__version__}, mmovseg train --labels",
    }
    scores = None if before is None or after is None else (before, after)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unfinished-") as staged:
        place = Path(staged)
        write_report(folder, stage, judged or samples, step=step)
        write_card(
            place / CARD, scenes=scenes, every=every, classes=classes, start=start, name=folder.resolve().name,
            note=note, licence=licence, use=stage.use.replace("FILE", str(folder / WEIGHTS)), judged=judged,
            scores=scores, step=step,
        )  # fmt: skip
        stage.to("cpu").export(place, about)
        # The weights come last: where they are, all is there.
        for name in (CARD, WEIGHTS):
            os.replace(place / name, folder / name)
    if scores is not None:
        _say(scores)
    for one in scenes:
        one.scene.close()
    return folder / WEIGHTS


def _scored(stage: AreaStage, judged: HeldOutBlocks, settings: LoopSettings, processes: Processes) -> dict[str, float]:
    stage.to(processes.device).eval()
    sums = torch.zeros(len(stage.classes) ** 2, dtype=torch.float64)
    with torch.no_grad():
        for batch in validation_batches(judged, settings, processes):
            sums += stage.sums(on_device(batch, processes.device)).cpu()
    return stage.scores(sums)


def _say(scores: tuple[dict[str, float], dict[str, float]]) -> None:
    before, after = scores
    for name, value in after.items():
        logger.info("held out, %s: %.3f (before %.3f)", name.replace("miou", "mean IoU"), value, before[name])
    if after["miou"] < before["miou"]:
        logger.warning(
            "The held-out squares are mapped worse than before (mean IoU %.3f, before %.3f): check the labels, or "
            "learn with a lower --learning-rate or fewer --steps.",
            after["miou"],
            before["miou"],
        )


def _rests(stage: AreaStage) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu() for name, value in stage.frozen().items()}


def _require_same(folder: Path, note: dict[str, Any]) -> None:
    """Refuse to go on with another run."""
    kept = noted(folder, kind="settings")
    keys = differing(kept["settings"], note["settings"])
    if keys:
        raise ConfigError(
            f"{folder} holds a run with other settings ({', '.join(keys)}).\n"
            "  Give those it began with, or another folder."
        )
    for part, what in (("data_fingerprint", "other files: some were changed"), ("start_sha256", "other weights")):
        if kept[part] != note[part]:
            raise ConfigError(f"{folder} holds a run that began with {what}. Give what it began with.")


def _write_json(path: Path, values: dict[str, Any]) -> None:
    staged = path.with_suffix(".unfinished")
    staged.write_text(json.dumps(values, indent=1, ensure_ascii=False), encoding="utf-8")
    os.replace(staged, path)
