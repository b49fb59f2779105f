"""Which labels belong to which map: files of two folders paired by name."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from mmovseg_geo.errors import ConfigError, SceneError, a_few
from mmovseg_geo.manifest import SENSOR_WORDS, SUFFIXES
from mmovseg_geo.maps import SUFFIXES as WRITTEN

VECTORS = frozenset({".gpkg", ".geojson", ".json", ".fgb", ".parquet", ".shp"})
LABEL_WORDS = frozenset({"label", "labels", "gt", "truth", "mask", "masks", "annotation", "annotations"})
"""Last parts of a file name that tell that it holds labels, not which place they are of."""
NOT_MAPS = (WRITTEN["confidence"], "_errors.tif")

Key = Callable[[Path], str]


@dataclass(frozen=True)
class Pair:
    """A map and what is true there.

    Attributes:
        name: of the scene; no two pairs have the same.
        labels: a raster or vector file.
        confidence: the raster of 0 to 100 that `segment` wrote beside the map, where there is one.
    """

    name: str
    map: Path
    labels: Path
    confidence: Path | None = None


def paired(maps: Path, labels: Path) -> tuple[list[Pair], list[str]]:
    """The pairs of two files or folders, and what should be known of them, in sentences.

    Of a folder count the files that are named as labels (`*_labels.tif`, below it too), or else all that lie in it.
    Files belong together whose names are equal without such words, or also without words such as rgb and s2, or so
    together with the name of their folder. A single file of labels is that of all maps.

    Raises:
        ConfigError: nothing is found, a map without labels, or files that cannot be told apart.
        SceneError: one file given as both.
    """
    ours = _maps(maps)
    theirs = _labels(labels)
    if labels.is_file() or (len(ours) == len(theirs) == 1):
        found = [(path, theirs[0]) for path in ours]
    else:
        found = _by_name(ours, theirs, maps, labels)
    for path, truth in found:
        if os.path.samefile(path, truth):
            raise SceneError(f"{path} was given as map and as labels. Name the map first and what is true second.")
    notes = []
    left = sorted(set(theirs) - {truth for _, truth in found})
    if left:
        notes.append(f"{len(left)} files of labels have no map and are not scored: {a_few(path.name for path in left)}")
    names = _names([path for path, _ in found])
    return [Pair(name, path, truth, _confidence(path)) for name, (path, truth) in zip(names, found, strict=True)], notes


def _maps(place: Path) -> list[Path]:
    _require(place, "--predictions")
    if place.is_file():
        return [place]
    found = _below(place, lambda path: path.name.endswith(WRITTEN["labels"])) or [
        path
        for path in _inside(place)
        if path.suffix.lower() in SUFFIXES and not path.name.endswith(NOT_MAPS) and ".aux" not in path.suffixes
    ]
    if not found:
        raise ConfigError(
            f"{place} holds no map; looked for *{WRITTEN['labels']} in it and below, and for rasters in it."
        )
    return found


def _labels(place: Path) -> list[Path]:
    _require(place, "--labels")
    if place.is_file():
        return [place]
    kinds = SUFFIXES | VECTORS
    named = _below(place, lambda path: path.suffix.lower() in kinds and _words(path)[-1] in LABEL_WORDS)
    found = named or [path for path in _inside(place) if path.suffix.lower() in kinds]
    if not found:
        raise ConfigError(f"{place} holds no labels: no raster and no vector file. Give a folder that does, or a file.")
    return found


def _require(place: Path, option: str) -> None:
    if not place.exists():
        raise ConfigError(f"{place}: no such file or folder. Check what {option} names.")


def _inside(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _below(folder: Path, wanted: Callable[[Path], bool]) -> list[Path]:
    """Files of a folder and of those in it, without hidden ones."""
    found = (path for path in folder.rglob("*") if path.is_file() and wanted(path))
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def _words(path: Path) -> list[str]:
    return re.split(r"[-_. ]+", path.stem.casefold())


def _stem(path: Path) -> str:
    words = _words(path)
    while words and words[-1] in LABEL_WORDS:
        words.pop()
    return "_".join(words)


def _place(path: Path) -> str:
    return "_".join(word for word in _stem(path).split("_") if word and word not in SENSOR_WORDS)


def _place_in_folder(path: Path) -> str:
    folder = path.resolve().parent.name.casefold().removesuffix("_mmovseg")
    return f"{folder}/{_place(path)}"


def _by_name(ours: list[Path], theirs: list[Path], maps: Path, labels: Path) -> list[tuple[Path, Path]]:
    for key in (_stem, _place, _place_in_folder):
        truths = Counter(key(path) for path in theirs)
        keys = [key(path) for path in ours]
        if "" not in keys and len(set(keys)) == len(keys) and all(truths[one] == 1 for one in keys):
            by_key = {key(path): path for path in theirs}
            return [(path, by_key[one]) for path, one in zip(ours, keys, strict=True)]
    truths = Counter(_stem(path) for path in theirs)
    alone = [path.name for path in ours if not truths[_stem(path)]]
    if alone:
        raise ConfigError(
            f"{labels} has no labels for {len(alone)} of {len(ours)} maps of {maps}: {a_few(alone)}.\n"
            "  Files belong together whose names are equal but for words such as labels, gt or mask."
        )
    twice = sorted(name for name, count in Counter(map(_stem, (*ours,))).items() if count > 1)
    twice = twice or sorted(name for name, count in truths.items() if count > 1)
    raise ConfigError(
        f"{maps} and {labels} have several files of one name: {a_few(twice)}. Each needs a name of its own."
    )


def _names(maps: Iterable[Path]) -> list[str]:
    """Short names of scenes: the stem, with the folder where that does not tell them apart."""
    short = [path.stem.removesuffix("_labels") for path in maps]
    count = Counter(short)
    return [f"{path.parent.name}_{name}" if count[name] > 1 else name for path, name in zip(maps, short, strict=True)]


def _confidence(path: Path) -> Path | None:
    beside = path.with_name(f"{path.stem.removesuffix('_labels')}{WRITTEN['confidence']}")
    return beside if beside.is_file() and beside != path else None
