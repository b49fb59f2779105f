"""The files of a set below a folder, paired by name, and the pixels and class indices in them."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mmovseg_geo.datasets.codes import Indices
from mmovseg_geo.datasets.description import DatasetConfig, Split
from mmovseg_geo.datasets.reading import PLACEHOLDER, read_dataset
from mmovseg_geo.errors import ConfigError, SceneError, a_few
from mmovseg_geo.grid import Window
from mmovseg_geo.rasters.scene import Scene, open_scene
from mmovseg_geo.rasters.stored import stored_pixels
from mmovseg_geo.text_file import read_text
from mmovseg_geo.tiles import Sensor
from mmovseg_geo.vocabulary import Vocabulary

SAME_FORMAT = {".jpeg": ".jpg", ".tiff": ".tif"}
"""Suffixes that are another spelling of one format; capitals make no difference either."""
SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class LabelledImage:
    """The files of one image; a sensor that the set does not have is None."""

    id: str
    optical: Path | None
    sar: Path | None
    labels: Path

    def scene(self, sensors: Iterable[Sensor] = ("optical", "sar")) -> Scene:
        """The image as a scene of those `sensors` that it has; pixels of both lie on each other, whatever the CRS.

        Raises:
            SceneError: none of the sensors, files that cannot be read, or optical and SAR of different size.
        """
        wanted = set(sensors)
        optical, sar = (
            path if sensor in wanted else None for sensor, path in (("optical", self.optical), ("sar", self.sar))
        )
        if optical is None and sar is None:
            raise SceneError(f"{self.labels} belongs to no image of {' or '.join(sorted(wanted))}.")
        return open_scene(optical, sar, pixel_grid=True)


@dataclass(frozen=True)
class LabelledImages:
    """The images of one split of a set.

    Attributes:
        notes: what differs from the published split, in sentences.
    """

    config: DatasetConfig
    split: Split
    images: tuple[LabelledImage, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def vocabulary(self, method: str | None = None) -> Vocabulary:
        """The classes that the labels of this split are indices of, in the words of a method."""
        return self.config.vocabulary(method, self.split.name)

    def labels(self, image: LabelledImage, window: Window | None = None) -> Indices:
        """Class indices (H, W) of an image, or of a window inside it; 255 is not scored.

        Raises:
            SceneError: labels that cannot be read, or that hold a value or color which stands for no class.
        """
        count = len(self.config.words(split=self.split.name))
        return self.config.labels.indices(stored_pixels(image.labels, window), count, image.labels)


def open_dataset(
    dataset: DatasetConfig | str | Path, root: str | Path, split: str | None = None, *, listed: bool = True
) -> LabelledImages:
    """The images of a set that lie below the folder `root`.

    Args:
        dataset: a description, or the YAML that holds one.
        split: a name; by default the split that published scores are of.
        listed: keep to the split's list of names, where it has one; False takes every image of the folders.

    Raises:
        ConfigError: a description or list that cannot be used, folders without images, images without a partner.

    >>> len(open_dataset("configs/datasets/ddhr-sk.yaml", "data"))                 # doctest: +SKIP
    3
    """
    config = dataset if isinstance(dataset, DatasetConfig) else read_dataset(dataset)
    chosen, root = config.split(split), Path(root)
    if not root.is_dir():
        raise ConfigError(f"{root} is no folder; give the one that holds the files of {config.title}.")
    found = {kind: _found(root, kind, patterns, config) for kind, patterns in chosen.patterns.items()}
    wanted = None
    if listed and chosen.listing is not None:
        wanted = _listed(root / chosen.listing, config)
    elif chosen.places:
        wanted = [name for name in next(iter(found.values())) if _at(name, chosen.places)]
        if not wanted:
            raise ConfigError(
                f"{root}: no image of {config.name} is of the published split; names should begin with one of: "
                f"{', '.join(chosen.places)}."
            )
    paired = _paired(found, wanted, root)
    notes = []
    if chosen.count is not None and chosen.count != len(paired):
        notes.append(f"{len(paired)} images were found; the published split {chosen.name} has {chosen.count}.")
    return LabelledImages(config, chosen, tuple(paired), tuple(notes))


def _found(root: Path, kind: str, patterns: tuple[str, ...], config: DatasetConfig) -> dict[str, Path]:
    """Files by what stands for `{id}` in their name, of the first pattern that finds any."""
    for pattern in patterns:
        files = _matching(root, pattern)
        if files:
            return files
    top = {PurePosixPath(pattern).parts[0] for pattern in patterns}
    raise ConfigError(
        f"{root}: no files of {config.name} for `{kind}`; looked for "
        f"{' and '.join(pattern.replace(PLACEHOLDER, '*') for pattern in patterns)}.\n"
        f"  Give the folder that holds {' or '.join(sorted(top))}, or change the patterns in a copy of {config.path}."
    )


def _matching(root: Path, pattern: str) -> dict[str, Path]:
    folder, _, name = pattern.rpartition("/")
    head, _, tail = name.partition(PLACEHOLDER)
    stem, dot, suffix = tail.rpartition(".")
    files: dict[str, Path] = {}
    place = root / folder
    for path in sorted(place.iterdir()) if place.is_dir() else ():
        if path.name.startswith(".") or not path.is_file() or _format(path.suffix) != _format(dot + suffix):
            continue
        base = path.name[: len(path.name) - len(path.suffix)]
        if base.startswith(head) and base.endswith(stem) and len(base) > len(head) + len(stem):
            key = base[len(head) : len(base) - len(stem)]
            if key in files:
                raise ConfigError(f"{files[key]} and {path} both are the image {key!r}. Keep one of them.")
            files[key] = path
    return files


def _format(suffix: str) -> str:
    lowered = suffix.lower()
    return SAME_FORMAT.get(lowered, lowered)


def _listed(path: Path, config: DatasetConfig) -> list[str]:
    """The names of a list, without folders and suffixes."""
    advice = "\n  Put it there, one name a line; or take every image of the folders with listed=False."
    text = read_text(path, f"the list of the images of {config.name},", advice=advice)
    lines = [line.strip() for line in text.splitlines()]
    names = [_bare(line) for line in lines if line and not line.startswith("#")]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice or not names:
        what = f"lists {a_few(twice)} twice" if twice else "lists no image"
        raise ConfigError(f"{path} {what}.")
    return names


def _bare(line: str) -> str:
    name = line.replace("\\", "/").rpartition("/")[2]
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in SUFFIXES else name


def _at(name: str, places: tuple[str, ...]) -> bool:
    return any(re.match(rf"{re.escape(place)}(?![0-9A-Za-z])", name) for place in places)


def _paired(found: Mapping[str, Mapping[str, Path]], wanted: list[str] | None, root: Path) -> list[LabelledImage]:
    """One image for each name. Without a list of wanted names, every file must have its partners."""
    names = sorted(set().union(*found.values())) if wanted is None else wanted
    for kind, files in found.items():
        absent = [name for name in names if name not in files]
        if absent:
            raise ConfigError(
                f"{root}: no file of `{kind}` for {len(absent)} of {len(names)} images: {a_few(absent)}.\n"
                "  Files of one image have the same name but for what the description adds to it."
            )
    images = []
    for name in names:
        files = {kind: paths[name] for kind, paths in found.items()}
        if len({path.resolve() for path in files.values()}) < len(files):
            raise ConfigError(f"{files['labels']}: one file stands for two of {', '.join(files)}. Each needs its own.")
        images.append(LabelledImage(name, files.get("optical"), files.get("sar"), files["labels"]))
    return images
