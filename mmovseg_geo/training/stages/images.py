"""Images on disk as samples of a stage: labelled ones of a dataset description, or pairs without labels by pattern."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mmovseg_geo.datasets import LabelledImages, open_dataset
from mmovseg_geo.datasets.codes import Indices, LabelCode
from mmovseg_geo.errors import ConfigError, MissingBand, SceneError, a_few
from mmovseg_geo.grid import Window
from mmovseg_geo.rasters.scene import Scene, open_scene
from mmovseg_geo.rasters.stored import stored_pixels
from mmovseg_geo.tiles import Sensor
from mmovseg_geo.training.loop_batches import Draw
from mmovseg_geo.training.stages.augment import Augmentation, Sample, cut, disturbed, resized

PLACEHOLDER = "{id}"
ENDS = 1 << 16
"""Bytes at both ends of a file that its fingerprint is made of."""


@dataclass(frozen=True)
class Data:
    """Where the images of a stage lie.

    Attributes:
        dataset: a description of labelled images, as those of `configs/datasets/`.
        folder: the folder that holds the files.
        train, validate: splits of the description; the one that published scores are of is validated on, unless said
            otherwise, and none where `validate` is empty.
        optical, sar: instead of a description, where labels are not needed: patterns below the folder with `{id}`, the
            same in both files of a pair.
        left_out: ids of pairs that are validated on, not trained on.
        gsd_m: ground sampling distance of the images in meters, for the model card.
        sar_ratio: SAR images are VV, VH and their ratio, as `segment --sar-ratio` shows them, not VV three times.
    """

    dataset: Path | None = None
    folder: Path = Path("data")
    train: str = "train"
    validate: str | None = None
    optical: str | None = None
    sar: str | None = None
    left_out: tuple[str, ...] = ()
    gsd_m: float | None = None
    sar_ratio: bool = False

    def __post_init__(self) -> None:
        if self.dataset is not None and (self.optical or self.sar):
            raise ConfigError("data gives a dataset and patterns as well. Give one of them.")
        if self.dataset is None and not (self.optical or self.sar):
            raise ConfigError("data names no images: give `dataset`, or `optical` and `sar` patterns.")


@dataclass(frozen=True)
class Pair:
    """The files of one place."""

    id: str
    optical: Path | None
    sar: Path | None
    labels: Path | None = None

    @property
    def files(self) -> list[Path]:
        return [path for path in (self.optical, self.sar, self.labels) if path is not None]


@dataclass(frozen=True)
class Labels:
    """Class indices (H, W) of a pair's labels, of which there are `count`; 255 is none."""

    code: LabelCode
    count: int

    def __call__(self, pair: Pair) -> Indices:
        assert pair.labels is not None, "asked for only where there are labels"
        return self.code.indices(stored_pixels(pair.labels), self.count, pair.labels)


def labelled(data: Data, split: str | None) -> LabelledImages:
    """The images of a split of the description; None for the one that published scores are of.

    Raises:
        ConfigError: no description, or files that are not there.
    """
    if data.dataset is None:
        raise ConfigError("This stage learns from labels: give data.dataset, a file that describes labelled images.")
    return open_dataset(data.dataset, data.folder, split)


def pairs(data: Data, sensors: Sequence[Sensor]) -> tuple[list[Pair], list[Pair]]:
    """Images of training and of validation, with all these sensors; labels are not read.

    Raises:
        ConfigError: there are none, or a file is without partner.
    """
    if data.dataset is not None:
        splits = [data.train] + ([data.validate] if data.validate else [])
        listed = [open_dataset(data.dataset, data.folder, split) for split in splits]
        both = [
            [Pair(one.id, *(getattr(one, kind) if kind in sensors else None for kind in ("optical", "sar")))
             for one in images.images]
            for images in listed
        ]  # fmt: skip
        for images, found in zip(listed, both, strict=True):
            if any(len(pair.files) < len(sensors) for pair in found):
                raise ConfigError(f"{images.config.path} has not all of {', '.join(sensors)}, which this stage needs.")
        return both[0], both[1] if len(both) > 1 else []
    found = _matched(data, sensors)
    strange = [name for name in data.left_out if name not in {pair.id for pair in found}]
    if strange:
        raise ConfigError(f"data.left_out names {a_few(strange)}, but no such image lies in {data.folder}.")
    left_out = [pair for pair in found if pair.id in data.left_out]
    kept = [pair for pair in found if pair.id not in data.left_out]
    if not kept:
        raise ConfigError(f"{data.folder}: no image is left to train on.")
    return kept, left_out


class Images(Dataset[dict[str, Any]]):
    """Images as tensors by name: what the sensors saw (C, H, W), their validity, `labels` where there are any, `id`.

    In training they are cut and disturbed at random; otherwise both sensors are brought to the square that the network
    sees, as `PublishedView` shows a whole tile, and labels keep their size.

    Args:
        labels: how they are read; None for images without labels.
        augmentation: None for validation.
        sar_ratio: SAR has three bands, both polarizations and their ratio; else the co-polarized one.
    """

    def __init__(
        self, listed: Sequence[Pair], size: int, *, seed: int = 0, augmentation: Augmentation | None = None,
        labels: Labels | None = None, sar_ratio: bool = False,
    ) -> None:  # fmt: skip
        self.listed, self.size, self.seed = listed, size, seed
        self.augmentation, self.labels, self.sar_ratio = augmentation, labels, sar_ratio

    def __len__(self) -> int:
        return len(self.listed)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        pair = self.listed[draw.index]
        sample = self.read(pair)
        if self.augmentation is None:
            labels = sample.labels
            sample = replace(Sample(*resized(sample, (self.size, self.size))), labels=labels)
        else:
            rng = np.random.Generator(np.random.PCG64([self.seed, draw.number]))
            sample = disturbed(cut(sample, self.size, rng, self.augmentation), rng, self.augmentation)
        names = ("optical", "sar", "optical_valid", "sar_valid", "labels")
        tensors = {name: getattr(sample, name) for name in names}
        return {"id": pair.id, **{name: value for name, value in tensors.items() if value is not None}}

    def read(self, pair: Pair) -> Sample:
        """An image as it is stored, with values as `segment` reads them.

        Raises:
            SceneError: labels of another size than the image, or a SAR image that the ratio cannot be made of.
        """
        with self._opened(pair) as scene:
            tile = scene.read(Window(0, 0, *scene.shape))
        labels = None
        if self.labels is not None:
            stored = self.labels(pair)
            if stored.shape != scene.shape:
                raise SceneError(
                    f"{pair.labels}: labels of {stored.shape[0]} x {stored.shape[1]} pixels for an image of "
                    f"{scene.shape[0]} x {scene.shape[1]}. Each pixel needs its label."
                )
            labels = torch.from_numpy(stored.astype(np.int64))
        sar = _bands(tile.sar, 3 if self.sar_ratio else 1)
        return Sample(
            _tensor(tile.optical), sar, _tensor(tile.optical_valid), _tensor(tile.sar_valid), labels, tile.gsd_m
        )

    def _opened(self, pair: Pair) -> Scene:
        try:
            return open_scene(pair.optical, pair.sar, pixel_grid=True, sar_ratio=self.sar_ratio)
        except (MissingBand, ConfigError) as error:
            if "--sar-ratio" not in str(error):
                raise
            raise SceneError(f"{pair.sar}: {str(error).replace('--sar-ratio', 'data.sar_ratio')}") from error


def refuse_ratio(data: Data, stage: str) -> None:
    """Refuse the ratio of SAR where nothing looks at it.

    Raises:
        ConfigError: it is asked for.
    """
    if data.sar_ratio:
        raise ConfigError(f"data.sar_ratio: the stage {stage} does not look at the ratio of SAR. Leave it out.")


def as_pairs(images: LabelledImages) -> list[Pair]:
    """The images of a description with their labels."""
    return [Pair(image.id, image.optical, image.sar, image.labels) for image in images.images]


def fingerprint(listed: Sequence[Pair]) -> str:
    """A digest of names, sizes and both ends of all files: data that changed are noticed without reading them whole."""
    found = sha256()
    for pair in listed:
        for path in pair.files:
            size = path.stat().st_size
            found.update(f"{pair.id}\0{path.name}\0{size}\0".encode())
            with path.open("rb") as file:
                found.update(file.read(ENDS))
                file.seek(max(size - ENDS, 0))
                found.update(file.read(ENDS))
    return found.hexdigest()


def _matched(data: Data, sensors: Sequence[Sensor]) -> list[Pair]:
    if not data.folder.is_dir():
        raise ConfigError(f"{data.folder} is no folder; data.folder is the one that holds the images.")
    files: dict[str, dict[str, Path]] = {}
    for sensor in sensors:
        pattern = data.optical if sensor == "optical" else data.sar
        if not pattern or pattern.count(PLACEHOLDER) != 1:
            raise ConfigError(
                f"data.{sensor} {pattern!r} should be a path below {data.folder} with {PLACEHOLDER} once, such as "
                f"{sensor}/{PLACEHOLDER}.png."
            )
        head, _, tail = pattern.partition(PLACEHOLDER)
        shape = re.compile(f"{re.escape(head)}([^/]+){re.escape(tail)}")
        listed = data.folder.glob(f"{head}*{tail}")
        names = {shape.fullmatch(path.relative_to(data.folder).as_posix()): path for path in listed}
        files[sensor] = {match[1]: path for match, path in names.items() if match}
        if not files[sensor]:
            raise ConfigError(f"{data.folder}: no files of {sensor}; looked for {pattern.replace(PLACEHOLDER, '*')}.")
    every = sorted(set().union(*files.values()))
    for kind, places in files.items():
        absent = [name for name in every if name not in places]
        if absent:
            raise ConfigError(f"{data.folder}: no {kind} file for {len(absent)} images: {a_few(absent)}.")
    found = [Pair(name, files.get("optical", {}).get(name), files.get("sar", {}).get(name)) for name in every]
    for pair in found:
        if len({path.resolve() for path in pair.files}) < len(pair.files):
            raise ConfigError(f"{pair.optical}: one file stands for optical and SAR. Each needs its own.")
    return found


def _tensor(values: Any) -> Tensor | None:
    return None if values is None else torch.from_numpy(np.asarray(values, np.float32))


def _bands(sar: Any, count: int) -> Tensor | None:
    """The first bands; of one, the co-polarized, which is what the published networks see."""
    return None if sar is None else _tensor(sar[:count])
