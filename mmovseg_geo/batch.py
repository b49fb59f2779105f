"""Many scenes, one after the other: each has its own folder, and a failed one does not stop the others."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Literal

from mmovseg_geo.config import SegmentConfig
from mmovseg_geo.errors import OUT_OF_MEMORY, ConfigError, MmovsegError, OutputError, is_out_of_memory
from mmovseg_geo.manifest import ScenePair, pair_files, read_manifest
from mmovseg_geo.maps import described, load_for, map_opened, opened, planned_outputs, refuse_existing, request
from mmovseg_geo.models.segmenter import Segmenter
from mmovseg_geo.pipeline import Progress
from mmovseg_geo.rasters.scene import Scene

logger = logging.getLogger(__name__)

Load = Callable[[Scene], Segmenter]


@dataclass(frozen=True)
class SceneResult:
    """What became of one scene, known by its first file; `message` says why it failed, or why it was skipped."""

    scene: str
    folder: Path
    status: Literal["done", "skipped", "failed"]
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


def map_scenes(
    source: str | Path | Sequence[ScenePair],
    out: str | Path,
    *,
    config: SegmentConfig,
    sars: str | None = None,
    progress: Progress | None = None,
    finished: Callable[[SceneResult], None] | None = None,
) -> BatchResult:
    """Map scenes into a folder each. A scene that is finished is skipped, if nothing changed since.

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
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file; give a folder for the maps with -o.")
    load = _loader(config)
    results = []
    for number, pair in enumerate(pairs, 1):
        logger.info("scene %d of %d: %s", number, len(pairs), pair.first)
        started = time.perf_counter()
        status, message = _attempt(pair, out / pair.folder, config, load, progress)
        result = SceneResult(pair.first, out / pair.folder, status, message, round(time.perf_counter() - started, 3))
        if finished is not None:
            finished(result)
        results.append(result)
    return BatchResult(tuple(results))


def _attempt(
    pair: ScenePair, folder: Path, config: SegmentConfig, load: Load, progress: Progress | None
) -> tuple[Literal["done", "skipped", "failed"], str]:
    """How a scene ended, and why. Only a segmenter that cannot be loaded is an error, for it stops every scene."""
    try:
        outputs = planned_outputs(pair.optical, pair.sar, folder, config)
        scene = opened(pair.optical, pair.sar, config)
    except Exception as error:
        return "failed", _reason(error, pair)
    with scene:
        segmenter = load(scene)
        try:
            if not config.overwrite and any(path.exists() for path in outputs.values()):
                _require_same_run(outputs["run"], request(scene, segmenter, config))
                return "skipped", "finished before"
            refuse_existing(outputs, config)
            map_opened(scene, segmenter, outputs, config=config, progress=progress)
        except Exception as error:
            return "failed", _reason(error, pair)
    return "done", ""


def _reason(error: Exception, pair: ScenePair) -> str:
    if isinstance(error, (MmovsegError, OSError)):
        return str(error)
    if is_out_of_memory(error):
        return OUT_OF_MEMORY
    logger.debug("A bug stopped %s", pair.first, exc_info=error)
    return f"This is a bug in mmovseg: {type(error).__name__}: {error}"


def _loader(config: SegmentConfig) -> Load:
    """A function that loads the segmenter, again only where the ground sampling distance asks for another."""
    kept: dict[float, Segmenter] = {}

    def load(scene: Scene) -> Segmenter:
        if scene.gsd_m not in kept:
            kept.clear()
            kept[scene.gsd_m] = load_for(scene, config)
        return kept[scene.gsd_m]

    return load


def _require_same_run(record: Path, wanted: dict[str, Any]) -> None:
    """Check that a folder holds all files of a finished run, unaltered, of the same inputs, settings and model.

    Raises:
        OutputError: it does not.
    """
    advice = "Add --overwrite to map it again, or choose another folder with -o."
    try:
        report = json.loads(record.read_text(encoding="utf-8"))
        files, kept = list(report["outputs"].values()), report["request"]
    except FileNotFoundError:
        raise OutputError(f"{record.parent} holds files, but {record.name} is not among them. {advice}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise OutputError(f"{record} cannot be read as the record of a run. {advice}") from None
    for entry in files:
        path = record.parent / entry["file"]
        if not path.is_file() or described(path) != entry:
            what = "is not what the run wrote" if path.is_file() else "is missing"
            raise OutputError(f"{path} {what}. {advice}")
    changed = _differences(_placeless(kept), _placeless(json.loads(json.dumps(wanted))))
    if changed:
        raise OutputError(f"{record.parent} was made with other {', '.join(changed)}. {advice}")


def _placeless(run: dict[str, Any]) -> dict[str, Any]:
    """A request whose inputs are told by name, size and time, so that a moved folder is still the same."""
    inputs = [{**entry, "path": PurePath(entry["path"]).name} for entry in run["inputs"]]
    return {**run, "inputs": inputs}


def _differences(kept: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """What changed: settings by their names, everything else as a whole."""
    found = [key for key in wanted if key != "settings" and kept.get(key) != wanted[key]]
    old, new = kept.get("settings", {}), wanted["settings"]
    # The classes of the vocabulary tell more than the words they were made of.
    names = [key for key in new if key not in ("classes", "classes_file") and old.get(key) != new[key]]
    return [*found, *(name.replace("_", "-") for name in names)]
