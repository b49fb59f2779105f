"""Maps on disk compared with labels on disk: any maps against any truth."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from mmovseg_geo.config import EvalConfig
from mmovseg_geo.datasets.codes import IGNORE, Indices
from mmovseg_geo.errors import ConfigError
from mmovseg_geo.evaluation.classes import Meaning, meaning, require_countable
from mmovseg_geo.evaluation.error_maps import ErrorMaps
from mmovseg_geo.evaluation.pairs import VECTORS, Pair, paired
from mmovseg_geo.evaluation.result import Evaluation, SceneTally
from mmovseg_geo.evaluation.tally import Read, Tally
from mmovseg_geo.grid import Window, ground_sampling_m
from mmovseg_geo.rasters.labels import tagged_classes
from mmovseg_geo.rasters.nearest import StoredBand, resampling_note, stored_band
from mmovseg_geo.rasters.source import probe

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

    from mmovseg_geo.rasters.facts import Facts
    from mmovseg_geo.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Told the number of scenes done and of all scenes."""

COVERS_LITTLE = 0.999


@dataclass(frozen=True, eq=False)
class Compared:
    """One pair, checked and ready to be counted."""

    pair: Pair
    grid: GeoBox
    shape: tuple[int, int]
    labels: Read
    found: Read
    confidence: Read | None
    notes: tuple[str, ...]
    close: Callable[[], None]


def compare_maps(
    config: EvalConfig, *, errors: ErrorMaps | None = None, progress: Progress | None = None
) -> Evaluation:
    """Score `config.predictions` against `config.labels`, on the grids of the maps.

    Raises:
        MmovsegError: files or classes that do not fit each other; all pairs are checked before any is counted.

    >>> compare_maps(EvalConfig(predictions="maps", labels="truth")).scores.miou     # doctest: +SKIP
    """
    if config.predictions is None or config.labels is None:
        lacking = "--labels, the truth" if config.labels is None else "--predictions, the maps"
        raise ConfigError(f"Maps are scored against labels: give {lacking}, a file or a folder.")
    pairs, notes = paired(config.predictions, config.labels)
    classes = _classes(config, pairs)
    require_countable(classes)
    ready = [_checked(pair, classes, config) for pair in pairs]
    for note in (*notes, *(note for one in ready for note in one.notes)):
        logger.warning(note)
    scenes = []
    for done, one in enumerate(ready, 1):
        scenes.append(SceneTally(one.pair.name, _counted(one, classes, config, errors)))
        if progress:
            progress(done, len(ready))
    return Evaluation(
        title=f"{config.predictions} against {config.labels}",
        classes=classes,
        scenes=scenes,
        tolerance=config.boundary,
        draws=config.draws,
        seed=config.seed,
        notes=(*notes, *(note for one in ready for note in one.notes)),
    )


def _counted(one: Compared, classes: Vocabulary, config: EvalConfig, errors: ErrorMaps | None) -> Tally:
    tally = Tally(classes.names, config.boundary_px(ground_sampling_m(one.grid)))
    try:
        if errors is None:
            return tally.count(one.shape, one.labels, one.found, one.confidence)
        with errors.scene(one.pair.name, one.grid, classes) as seen:
            tally.count(one.shape, one.labels, one.found, one.confidence, seen=seen)
        return tally
    finally:
        one.close()


def _classes(config: EvalConfig, pairs: list[Pair]) -> Vocabulary:
    """The classes that are scored: those given, or else those that the files tell of themselves, maps first."""
    given = config.vocabulary()
    if given is not None:
        return given
    rasters = [pair.map for pair in pairs] + [
        pair.labels for pair in pairs if pair.labels.suffix.lower() not in VECTORS
    ]
    for path in dict.fromkeys(rasters):
        told = tagged_classes(probe(str(path)))
        if told is not None:
            return told
    raise ConfigError(
        f"{pairs[0].map} and its labels do not tell which classes their values are.\n"
        "  Give the classes by id: --classes-file classes.yaml, with lines such as `1: water`."
    )


def _checked(pair: Pair, classes: Vocabulary, config: EvalConfig) -> Compared:
    facts = probe(str(pair.map))
    band = stored_band(str(pair.map))
    means = meaning(str(pair.map), classes, tagged_classes(facts))
    labels, notes, close = laid_labels(pair.labels, facts, classes, config)
    confidence = None if pair.confidence is None else stored_band(str(pair.confidence), facts, pixel_grid=True)

    def closed() -> None:
        for opened in (band, confidence):
            if opened is not None:
                opened.close()
        close()

    return Compared(
        pair,
        facts.grid,
        facts.shape,
        labels,
        _decoded(band, means),
        None if confidence is None else lambda window: _told(confidence, window),
        notes,
        closed,
    )


def laid_labels(
    labels: Path, facts: Facts, classes: Vocabulary, config: EvalConfig
) -> tuple[Read, tuple[str, ...], Callable[[], None]]:
    """What reads labels (raster or vector) on the grid of another raster, notes on how they lie, and what closes them.

    Args:
        facts: of the other raster. config: tells `class_field`, `inside`, `outside`, `ignore` and `pixel_grid`.

    Raises:
        SceneError: a file that cannot be read or laid on the grid. ConfigError: an option that does not fit it.
    """
    path = str(labels)
    if labels.suffix.lower() in VECTORS:
        from mmovseg_geo.polygons.burn import burned_labels

        means = meaning(path, classes, None, config.ignore)
        outside = _index("--outside", config.outside, classes)
        burned = burned_labels(
            labels,
            facts.grid,
            means.index_of,
            field=config.class_field,
            inside=_index("--inside", config.inside, classes),
            outside=IGNORE if outside is None else outside,
        )
        return burned.read, (), lambda: None
    for option, value in (
        ("--class-field", config.class_field),
        ("--inside", config.inside),
        ("--outside", config.outside),
    ):
        if value is not None:
            raise ConfigError(f"{option} is for labels drawn as shapes; {path} is a raster.")
    band = stored_band(path, facts, pixel_grid=config.pixel_grid)
    notes = [f"{resampling_note(band, facts.grid)}."] if band.resampled else []
    if band.share < COVERS_LITTLE:
        notes.append(f"{band.facts.name} covers {band.share:.0%} of {facts.name}; the rest is not scored.")
    return _decoded(band, meaning(path, classes, tagged_classes(band.facts), config.ignore)), tuple(notes), band.close


def _decoded(band: StoredBand, means: Meaning) -> Callable[[Window], Indices]:
    """What reads class indices, in this process or, pickled, in another one."""
    return partial(_read_indices, band, means)


def _read_indices(band: StoredBand, means: Meaning, window: Window) -> Indices:
    return means.indices(*band.read(window))


def _told(band: StoredBand, window: Window) -> NDArray[Any]:
    values, valid = band.read(window)
    values[~valid] = IGNORE
    return values


def _index(option: str, word: str | None, classes: Vocabulary) -> int | None:
    if word is None:
        return None
    for index, entry in enumerate(classes.classes):
        if word.casefold() in map(str.casefold, entry.words):
            return index
    raise ConfigError(f"{option} {word}: no class has this name; classes are {', '.join(classes.names)}.")
