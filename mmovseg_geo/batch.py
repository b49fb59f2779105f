"""Many scenes, one after the other: each has its own folder, and a failed one does not stop the others."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mmovseg_geo.config import SegmentConfig
from mmovseg_geo.errors import OUT_OF_MEMORY, ConfigError, MmovsegError, OutputError, is_out_of_memory
from mmovseg_geo.manifest import ScenePair, pair_files, read_manifest
from mmovseg_geo.maps import load_for, local_folder, map_opened, opened, planned_outputs, refuse_existing
from mmovseg_geo.models.segmenter import Segmenter
from mmovseg_geo.pipeline import Progress
from mmovseg_geo.rasters.scene import Scene
from mmovseg_geo.record import finished_before, request
from mmovseg_geo.stages import timed
from mmovseg_geo.unfinished import finish_publishing

logger = logging.getLogger(__name__)

Load = Callable[[Scene], Segmenter]
Status = Literal["done", "skipped", "failed"]


@dataclass(frozen=True)
class SceneResult:
    """What became of one scene, known by its first file; `message` says why it failed, or why it was skipped."""

    scene: str
    folder: Path
    status: Status
    message: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class BatchResult:
    """What became of all scenes, in their order."""

    scenes: tuple[SceneResult, ...]

    def count(self, status: str) -> int:
        """How many scenes ended so."""
        return sum(scene.status == status for scene in self.scenes)


def list_scenes(source: str | Path | Sequence[ScenePair], sars: str | None = None) -> list[ScenePair]:
    """The scenes of a CSV manifest, or of folders or globs of optical and SAR files.

    Raises:
        ConfigError: scenes that are not there, not clear, or listed twice.
    """
    if not isinstance(source, (str, Path)):
        return list(source)
    if Path(source).suffix.lower() == ".csv":
        if sars is not None:
            raise ConfigError(f"{source} names the SAR files itself; leave {sars} out.")
        return read_manifest(Path(source))
    return pair_files(str(source), sars)


def required_folder(out: str | Path) -> Path:
    """A folder for the folders of scenes, which need not be there yet.

    Raises:
        OutputError: it is a file, or an address.
    """
    out = local_folder(out)
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file; give a folder for the maps with -o.")
    return out


def map_scenes(
    source: str | Path | Sequence[ScenePair],
    out: str | Path,
    *,
    config: SegmentConfig,
    sars: str | None = None,
    progress: Progress | None = None,
    finished: Callable[[SceneResult], None] | None = None,
) -> BatchResult:
    """Map scenes into a folder each. A scene that is finished is skipped, if nothing changed since; one that was
    interrupted goes on after its finished strips.

    Args:
        source: a CSV with the columns `optical`, `sar` and perhaps `out`, or a folder or glob of optical files.
        sars: the folder or glob of SAR files, where `source` is one of optical files.
        out: the folder of the scenes' folders.
        progress: told the tiles of the scene in work. `finished` is told of each scene.

    Raises:
        ConfigError: scenes that cannot be told apart or found; unknown model. VocabularyError, WeightsError.

    >>> map_scenes("scenes.csv", "maps", config=SegmentConfig(classes="water,forest")).count("done")  # doctest: +SKIP
    12
    """
    pairs = list_scenes(source, sars)
    config.vocabulary()
    out = required_folder(out)
    load = loader(config)
    results = []
    for number, pair in enumerate(pairs, 1):
        logger.info("scene %d of %d: %s", number, len(pairs), pair.first)
        started = time.perf_counter()
        status, message, _ = attempt(pair, out / pair.folder, config, load, progress=progress)
        result = SceneResult(pair.first, out / pair.folder, status, message, round(time.perf_counter() - started, 3))
        if finished is not None:
            finished(result)
        results.append(result)
    return BatchResult(tuple(results))


def attempt(
    pair: ScenePair,
    folder: Path,
    config: SegmentConfig,
    load: Load,
    *,
    scene: Scene | None = None,
    progress: Progress | None = None,
) -> tuple[Status, str, Exception | None]:
    """How a scene ended, why, and what failed. Only a segmenter that cannot be loaded is raised: it stops every scene.

    Args:
        scene: opened before; by default opened here.
    """
    timings: dict[str, float] = {}
    try:
        outputs = planned_outputs(pair.optical, pair.sar, folder, config)
        if not config.overwrite:
            finish_publishing(outputs)
        scene = scene or opened(pair.optical, pair.sar, config, timings)
    except Exception as error:
        return "failed", reason(error, pair), error
    with scene:
        with timed(timings, "load_model"):
            segmenter = load(scene)
        try:
            if not config.overwrite and any(path.exists() for path in outputs.values()):
                finished_before(outputs["run"], request(scene, segmenter, config))
                return "skipped", "finished before", None
            refuse_existing(outputs, config)
            map_opened(scene, segmenter, outputs, config=config, unfinished="reuse", progress=progress, timings=timings)
        except Exception as error:
            return "failed", reason(error, pair), error
    return "done", "", None


def reason(error: Exception, pair: ScenePair) -> str:
    """Why a scene failed, in words for its user."""
    if isinstance(error, (MmovsegError, OSError)):
        return str(error)
    if is_out_of_memory(error):
        return OUT_OF_MEMORY
    logger.debug("A bug stopped %s", pair.first, exc_info=error)
    return f"This is a bug in mmovseg: {type(error).__name__}: {error}"


def loader(config: SegmentConfig) -> Load:
    """A function that loads the segmenter, again only where the ground sampling distance asks for another."""
    kept: dict[float, Segmenter] = {}

    def load(scene: Scene) -> Segmenter:
        if scene.gsd_m not in kept:
            kept.clear()
            kept[scene.gsd_m] = load_for(scene, config)
        return kept[scene.gsd_m]

    return load
