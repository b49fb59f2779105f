"""A segmenter run over labelled images, as `segment` would, and scored at the labels' own size."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mmovseg_geo.config import EvalConfig
from mmovseg_geo.datasets import LabelledImage, LabelledImages
from mmovseg_geo.datasets.codes import IGNORE, Indices
from mmovseg_geo.errors import ConfigError, SceneError, did_you_mean
from mmovseg_geo.evaluation.clouded import clouded
from mmovseg_geo.evaluation.confusion import Groups, Scores
from mmovseg_geo.evaluation.error_maps import ErrorMaps
from mmovseg_geo.evaluation.result import Evaluation, SceneTally
from mmovseg_geo.evaluation.tally import Read, Tally, blocks
from mmovseg_geo.grid import Window
from mmovseg_geo.models.segmenter import Segmenter
from mmovseg_geo.pipeline import segment
from mmovseg_geo.rasters.labels import read_band
from mmovseg_geo.rasters.scene import Scene
from mmovseg_geo.rasters.source import probe
from mmovseg_geo.tiles import Sensor, Sensors, Tiling

Progress = Callable[[int, int], None]
"""Told the number of images done and of all images."""
Load = Callable[[Scene], Segmenter]


def evaluate(
    images: LabelledImages,
    segmenter: Segmenter,
    *,
    tiling: Tiling | None = None,
    batch_size: int = 4,
    min_score: float | None = None,
    progress: Progress | None = None,
) -> Scores:
    """Map every image as `segment` would and score the maps at the labels' own size.

    Args:
        images: those of `open_dataset`; the segmenter must be made for `images.vocabulary()`.
        min_score: as in `segment`.

    Raises:
        ConfigError: a segmenter for other classes. SceneError: files that cannot be read, or that differ in size.

    >>> images = open_dataset("configs/datasets/ddhr-sk.yaml", "data")              # doctest: +SKIP
    >>> scores = evaluate(images, load_segmenter("mmovseg-vitb16-ddhr-sk", images.vocabulary()))  # doctest: +SKIP
    """
    # A method of one sensor is not shown the other.
    shown: Sensors = "both" if len(segmenter.sensors) > 1 else next(iter(segmenter.sensors))
    config = EvalConfig(batch_size=batch_size, min_score=min_score, draws=0, sensors=shown)
    if tiling is not None:
        config = replace(config, tile_size=tiling.size, overlap=tiling.overlap, blend=tiling.blend)
    return score_images(images, lambda scene: segmenter, config, progress=progress).scores


def score_images(
    images: LabelledImages,
    load: Load,
    config: EvalConfig,
    *,
    cover: float | None = None,
    errors: ErrorMaps | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Map every image and count its map; see `evaluate` for what is raised.

    Args:
        load: gives the segmenter of a scene, made for `images.vocabulary()`.
        cover: share of the optical images that simulated clouds reach.
    """
    scenes: list[SceneTally] = []
    segmenter: Segmenter | None = None
    with tempfile.TemporaryDirectory(prefix="mmovseg-") as folder:
        for done, image in enumerate(images.images, 1):
            with opened(image, config) as scene:
                segmenter = load(scene)
                require_classes(segmenter, images)
                tally = _tallied(images, image, scene, segmenter, config, Path(folder), cover, errors)
            scenes.append(SceneTally(image.id, tally))
            if progress:
                progress(done, len(images))
    assert segmenter is not None, "a set that was opened has images"
    return Evaluation(
        title=_title(segmenter, images, config),
        classes=images.vocabulary(),
        scenes=scenes,
        groups=Groups(images.config.seen, images.config.unseen) if images.split.classes == "all" else Groups(),
        tolerance=config.boundary,
        draws=config.draws,
        seed=config.seed,
        cover=cover,
        notes=images.notes,
    )


def _tallied(
    images: LabelledImages,
    image: LabelledImage,
    scene: Scene,
    segmenter: Segmenter,
    config: EvalConfig,
    folder: Path,
    cover: float | None,
    errors: ErrorMaps | None,
) -> Tally:
    classes = images.vocabulary()
    told = folder / "confidence.tif"
    found = segment(
        scene if cover is None else clouded(scene, cover, config.seed, image.id),
        segmenter,
        folder / "labels.tif",
        tiling=config.tiling(segmenter.tiling),
        batch_size=config.batch_size,
        min_score=config.min_score,
        confidence=told,
        overwrite=True,
    )
    tally = Tally(classes.names, config.boundary_px(scene.gsd_m))
    with contextlib.nullcontext() if errors is None else errors.scene(image.id, scene.grid, classes) as seen:
        return tally.count(
            scene.shape,
            scored_labels(images, image, config.ignore),
            found.read,
            lambda window: read_band(told, window),
            seen=seen,
        )


def scored_labels(images: LabelledImages, image: LabelledImage, ignore: Sequence[int | str] = ()) -> Read:
    """What reads the class indices of an image; classes to be ignored are 255.

    Raises:
        ConfigError: a class of that name or index is not in the set.
    """
    names = images.vocabulary().names
    for entry in ignore:
        if entry not in (*names, *range(len(names))):
            raise ConfigError(
                f"--ignore {entry}: {images.config.name} has no such class. {did_you_mean(str(entry), names)}"
            )
    left_out = [names.index(entry) if isinstance(entry, str) else entry for entry in ignore]

    def read(window: Window) -> Indices:
        indices = images.labels(image, window)
        return np.where(np.isin(indices, left_out), np.uint8(IGNORE), indices) if left_out else indices

    return read


def check_images(images: LabelledImages, config: EvalConfig) -> tuple[str, ...]:
    """Read all labels and look at the size of all images before any work; what should be known, in sentences.

    Raises:
        SceneError: labels of another size than their image, of values that stand for no class, or without any pixel
            to score.
    """
    names = images.vocabulary().names
    pixels = np.zeros(IGNORE + 1, np.int64)
    for image in images.images:
        facts = probe(str(image.labels))
        for path in (image.optical, image.sar):
            if path is not None and (size := probe(str(path)).shape) != facts.shape:
                raise SceneError(_sizes(image, facts.shape, path.stem, size))
        read = scored_labels(images, image, config.ignore)
        for block in blocks(facts.shape):
            pixels += np.bincount(read(block).ravel(), minlength=len(pixels))
    if not pixels[: len(names)].any():
        raise SceneError(
            f"No pixel of {images.config.name} would be scored: every label is {IGNORE} or ignored. Check the labels."
        )
    empty = [name for name, count in zip(names, pixels, strict=False) if not count]
    return (f"Not in the labels, so without part in means over labelled classes: {', '.join(empty)}.",) if empty else ()


@contextlib.contextmanager
def opened(image: LabelledImage, config: EvalConfig) -> Iterator[Scene]:
    """The scene of an image, of the sensors and at the ground sampling distance of the settings.

    Raises:
        SceneError: labels of another size.
    """
    sensors: tuple[Sensor, ...] = ("optical", "sar") if config.sensors == "both" else (config.sensors,)
    with image.scene(sensors) as scene:
        shape = probe(str(image.labels)).shape
        if scene.shape != shape:
            raise SceneError(_sizes(image, shape, scene.name, scene.shape))
        # Images without a CRS do not tell their ground sampling distance.
        yield scene if config.gsd_m is None or scene.grid.crs is not None else replace(scene, gsd_m=config.gsd_m)


def require_classes(segmenter: Segmenter, images: LabelledImages) -> None:
    """Refuse a segmenter whose maps would not hold class indices of the set."""
    expected = images.vocabulary()
    ids = tuple(entry.id for entry in segmenter.vocabulary.classes)
    if sorted(ids) != list(range(len(expected))):
        raise ConfigError(
            f"{segmenter.name} was made for {len(ids)} classes with the ids {', '.join(map(str, ids))}; the labels of "
            f"{images.config.name} are 0 to {len(expected) - 1}. Load it with the vocabulary of the set."
        )


def _sizes(image: LabelledImage, labels: tuple[int, int], name: str, shape: tuple[int, int]) -> str:
    return (
        f"{image.labels} has {labels[0]} x {labels[1]} pixels, its image {name} {shape[0]} x {shape[1]}. "
        "Labels must have the size of the image."
    )


def _title(segmenter: Segmenter, images: LabelledImages, config: EvalConfig) -> str:
    alone = "" if config.sensors == "both" else f", {config.sensors} alone"
    return f"{segmenter.name} on {images.config.name} ({images.split.name}{alone})"
