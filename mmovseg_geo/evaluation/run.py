"""One evaluation from its settings: a segmenter on a set, with clouds or without, or maps against labels."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmovseg_geo.config import EvalConfig
from mmovseg_geo.datasets import LabelledImages, load_as_published, open_dataset
from mmovseg_geo.datasets.methods import MMOVSegSettings
from mmovseg_geo.errors import ConfigError
from mmovseg_geo.evaluation.compared import compare_maps
from mmovseg_geo.evaluation.error_maps import ErrorMaps
from mmovseg_geo.evaluation.labelled import Load, check_images, score_images
from mmovseg_geo.evaluation.outputs import ERRORS, staged, write_outputs
from mmovseg_geo.evaluation.result import Evaluation
from mmovseg_geo.models import DEFAULT, load_segmenter, registry, sensors_of
from mmovseg_geo.models.segmenter import Segmenter
from mmovseg_geo.published import published
from mmovseg_geo.rasters.scene import Scene
from mmovseg_geo.tiles import Sensors

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Told the number of scenes done and of all scenes."""


@dataclass(frozen=True, eq=False)
class EvalResult:
    """What was found, one evaluation or one for each cover of clouds, and the files that were written."""

    found: tuple[Evaluation, ...]
    outputs: tuple[Path, ...] = field(default=())


def run_evaluation(
    config: EvalConfig, out: str | Path | None = None, *, progress: Progress | None = None
) -> EvalResult:
    """Do what the settings say; with `out`, write tables, pictures and error maps there, all or nothing.

    Raises:
        MmovsegError: settings, files, weights or an output that do not fit; nothing is left behind.

    >>> config = EvalConfig(dataset="configs/datasets/ddhr-sk.yaml", clouds="0,50")   # doctest: +SKIP
    >>> [one.scores.miou_labelled for one in run_evaluation(config).found]            # doctest: +SKIP
    """
    out = None if out is None else Path(out)
    require_one_task(config)
    if config.xlsx and out is None:
        raise ConfigError("--xlsx writes a workbook: give the folder for it with -o.")
    with staged(out, overwrite=config.overwrite, xlsx=config.xlsx) as folder:
        errors = None if folder is None else ErrorMaps(folder / ERRORS, config.error_maps)
        if config.predictions is not None or config.labels is not None:
            found = [compare_maps(config, errors=errors, progress=progress)]
        else:
            found = _on_dataset(config, errors, progress)
        for one in found:
            assert one.scores.pixels, "without pixels there are no scores"
        names = [] if folder is None else write_outputs(folder, found, xlsx=config.xlsx)
    return EvalResult(tuple(found), tuple(Path(out or ".") / name for name in names))


def require_one_task(config: EvalConfig) -> None:
    """Refuse settings that ask for nothing, or for two things at once.

    Raises:
        ConfigError: they do.
    """
    if config.dataset is None and config.predictions is None and config.labels is None:
        raise ConfigError(
            "There is nothing to score. Give a settings file such as configs/eval/ddhr-sk.yaml or a --dataset, "
            "or maps and what is true: --predictions maps/ --labels truth/."
        )
    if config.predictions is None and config.labels is None:
        return
    for option, given in (
        ("--dataset", config.dataset),
        ("--model", config.model),
        ("--clouds", config.clouds or None),
        ("--sensors", None if config.sensors == "both" else config.sensors),
    ):
        if given is not None:
            raise ConfigError(
                f"{option} is for a model that is run over a set; --predictions and --labels compare files that are "
                "there. Give one of the two."
            )


def _on_dataset(config: EvalConfig, errors: ErrorMaps | None, progress: Progress | None) -> list[Evaluation]:
    assert config.dataset is not None, "asked for only with a set"
    if config.classes is not None or config.classes_file is not None:
        raise ConfigError(f"The classes are those of {config.dataset}; --classes is for maps given as --predictions.")
    if not config.data.is_dir():
        raise ConfigError(
            f"{config.data}: there is no such folder. Give the one that holds the images and labels of "
            f"{config.dataset.stem} with --data."
        )
    images = open_dataset(config.dataset, config.data, config.split)
    config = _with_sensors(images, config)
    notes = check_images(images, config)
    for note in (*images.notes, *notes):
        logger.warning(note)
    images = replace(images, notes=(*images.notes, *notes))
    method = published_method(images, config)
    load = _loader(images, config, method)
    covers: list[float | None] = [*config.clouds] or [None]
    results = []
    for number, cover in enumerate(covers):
        if cover is not None:
            logger.info("clouds over %.0f %% of the optical images", 100 * cover)
        told = None if progress is None else _part(progress, number, len(covers))
        # Error maps are those of the first cover, as the tables of classes and scenes are.
        one = score_images(images, load, config, cover=cover, errors=errors if number == 0 else None, progress=told)
        results.append(replace(one, published=published(images.config.name, method)))
    return results


def published_method(images: LabelledImages, config: EvalConfig) -> str | None:
    """The method of papers on this set that the model is: by its own name, or by that of the weights it had."""
    model = config.model or DEFAULT
    for method, settings in images.config.methods.items():
        if model == method:
            return method
        if isinstance(settings, MMOVSegSettings) and model in registry.names():
            entry = registry.entry(model)
            if entry.source is not None and f"{entry.source.file}/{entry.member}" == settings.checkpoint:
                return method
    return None


def _loader(images: LabelledImages, config: EvalConfig, method: str | None) -> Load:
    """A function that loads the segmenter, again only where the ground sampling distance asks for another."""
    model = config.model or DEFAULT
    if method is not None and config.as_published:
        logger.info(
            "%s runs on %s with the words and settings it was published with; --no-as-published for its own",
            model,
            images.config.name,
        )
        segmenter = load_as_published(
            images.config,
            method,
            split=images.split.name,
            device=config.device,
            precision=config.precision,
            options=config.model_options or None,
        )
        return lambda scene: segmenter
    kept: dict[float, Segmenter] = {}

    def load(scene: Scene) -> Segmenter:
        if scene.gsd_m not in kept:
            settings: dict[str, Any] = {"options": config.model_options} if config.model_options else {}
            kept.clear()
            kept[scene.gsd_m] = load_segmenter(
                model,
                images.vocabulary(),
                device=config.device,
                precision=config.precision,
                gsd_m=scene.gsd_m,
                **settings,
            )
        return kept[scene.gsd_m]

    return load


def _with_sensors(images: LabelledImages, config: EvalConfig) -> EvalConfig:
    """The settings with the sensors that the model can look at, so that it is shown no others.

    Raises:
        ConfigError: the set has none of them, or clouds would lie over nothing.
    """
    model, name = config.model or DEFAULT, images.config.name
    there = {sensor for sensor in images.split.patterns if sensor != "labels"}
    shown = there if config.sensors == "both" else there.intersection({config.sensors})
    used = shown.intersection(sensors_of(model) or shown)
    if not used:
        wanted = config.sensors if not shown else " or ".join(sensors_of(model))
        who = name if not shown else f"{model} needs {wanted} images; {name}"
        lacks = f"has no {wanted} images; it has" if not shown else "shows"
        raise ConfigError(f"{who} {lacks} {' and '.join(sorted(shown or there))}.")
    if config.clouds and "optical" not in used:
        raise ConfigError(f"Clouds lie over optical images, but {model} on {name} sees {' and '.join(used)} alone.")
    alone: Sensors = "both" if len(used) > 1 or len(there) == 1 else "optical" if "optical" in used else "sar"
    return replace(config, sensors=alone)


def _part(progress: Progress, number: int, parts: int) -> Progress:
    return lambda done, total: progress(number * total + done, parts * total)
