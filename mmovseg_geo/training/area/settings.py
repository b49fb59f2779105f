"""Everything that training on an area can be told. `docs/tutorial-local-training.md` has each in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

from mmovseg_geo.config import EvalConfig, SegmentConfig
from mmovseg_geo.errors import ConfigError
from mmovseg_geo.training.loop_settings import LoopSettings, TrainingPrecision

MULTIPLE = 32
"""The network halves a crop five times."""


@dataclass(frozen=True)
class AreaConfig:
    """Scenes with their labels, and how the bundled network is trained on them.

    Attributes:
        optical, sar: the files of each scene; one of the two may be empty. Two files of SAR are `"vv.tif,vh.tif"`.
        labels: a raster or vector file for each scene, or one for all.
        reading: how images are read: bands, scales, no-data; labelling: how labels are, and the classes.
        start: a name or weights file of `mmovseg-compact` to begin with.
        held_out: share of the labelled area that is never learned from, and is scored.
        block_size: side in pixels of the squares that the area is split by; None chooses one.
        balance: 0 draws labelled pixels as they come, 1 draws each class equally often, whatever its area.
        crop: side of what the network sees in a step, in its own pixels.
        clouds: of crops with SAR, how many get simulated clouds on the optical image.
        drop_optical, drop_sar: of crops with both sensors, how many lose one.
        precision: `bf16` is twice as fast on processors made for it.
        workers: processes that read and augment ahead; 0 for none, None for as many as the machine has use for. What
            is learned does not depend on it.
        licence: of the weights; by default that of the weights to begin with.

    Raises:
        ConfigError: a value that cannot be meant.
    """

    optical: tuple[str, ...] = ()
    sar: tuple[str, ...] = ()
    labels: tuple[Path, ...] = ()
    reading: SegmentConfig = field(default_factory=SegmentConfig)
    labelling: EvalConfig = field(default_factory=EvalConfig)
    start: str = "mmovseg-compact"
    held_out: float = 0.25
    block_size: int | None = None
    balance: float = 0.5
    crop: int = 192
    clouds: float = 0.2
    drop_optical: float = 0.2
    drop_sar: float = 0.15
    steps: int = 300
    batch_size: int = 8
    learning_rate: float = 5e-4
    precision: TrainingPrecision = "fp32"
    seed: int = 0
    workers: int | None = None
    licence: str | None = None

    def __post_init__(self) -> None:
        if not self.optical and not self.sar:
            raise ConfigError("There is no image to learn from: give --optical, --sar, or both.")
        if not self.labels:
            raise ConfigError("There is nothing to learn: give --labels, a raster or vector file of what is true.")
        self._check_counts()
        for name, low, high in (("held_out", 0, 0.9), ("balance", 0, 1), ("clouds", 0, 1), ("drop_optical", 0, 1)):
            if not low <= getattr(self, name) <= high:
                option = f"--{name.replace('_', '-')}"
                raise ConfigError(f"{option} {getattr(self, name):g} is not a share; give {low} to {high}.")
        for name, least in (("steps", 1), ("batch_size", 1), ("crop", MULTIPLE), ("block_size", 1), ("workers", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"--{name.replace('_', '-')} {value} is too small; give at least {least}.")
        if self.crop % MULTIPLE:
            raise ConfigError(f"--crop {self.crop} is no multiple of {MULTIPLE}; give one, such as 192.")
        if self.precision not in get_args(TrainingPrecision):
            known = ", ".join(get_args(TrainingPrecision))
            raise ConfigError(f"--precision {self.precision!r} is unknown for training. Known: {known}.")
        if not self.learning_rate > 0:
            raise ConfigError(f"--learning-rate {self.learning_rate:g} is not positive; give one such as 5e-4.")
        if self.reading.sar_ratio:
            raise ConfigError(
                "sar_ratio: the ratio of SAR is a third band, and mmovseg-compact, which is trained on an area, looks "
                "at two. Leave it out."
            )
        if not 0 <= self.drop_sar <= 1 - self.drop_optical:
            raise ConfigError("drop_optical and drop_sar exceed 1 together: one sensor must be left.")

    @property
    def scenes(self) -> list[tuple[str | None, str | None, Path]]:
        """Optical, SAR and labels of each scene."""
        count = max(len(self.optical), len(self.sar))
        optical, sar = (files or (None,) * count for files in (self.optical, self.sar))
        labels = self.labels if len(self.labels) == count else self.labels * count
        return list(zip(optical, sar, labels, strict=True))

    def loop(self, workers: int = 0) -> LoopSettings:
        """How the loop runs: five validations, the weights averaged over the last steps.

        Args:
            workers: as many as `usual_workers` says, where nobody said it.
        """
        often = max(1, -(-self.steps // 5))
        return LoopSettings(
            steps=self.steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=0.01,
            warmup_steps=min(20, self.steps // 4),
            gradient_clip=1.0,
            average=0.98,
            log_every=10,
            save_every=min(50, often),
            check_every=often,
            precision=self.precision,
            workers=workers if self.workers is None else self.workers,
            seed=self.seed,
        )

    def values(self) -> dict[str, Any]:
        """All settings by name, as JSON keeps them; files by name, so that a moved folder is still the same run."""
        own = {name: value for name, value in asdict(self).items() if name not in ("reading", "labelling", "workers")}
        own["optical"], own["sar"] = ([_names(file) for file in files] for files in (self.optical, self.sar))
        own["labels"] = [path.name for path in self.labels]
        own["start"] = Path(self.start).name
        own |= _changed(self.reading) | _changed(self.labelling)
        return {name: _plain(value) for name, value in own.items()}

    def _check_counts(self) -> None:
        optical, sar, labels = len(self.optical), len(self.sar), len(self.labels)
        if optical and sar and optical != sar:
            raise ConfigError(
                f"{optical} optical and {sar} SAR images were given. Give one of each for every scene, in one order."
            )
        count = max(optical, sar)
        if labels not in (1, count):
            raise ConfigError(
                f"{labels} files of labels were given for {count} scenes. Give one for each, in the order of the "
                "images, or one for all."
            )


def _changed(settings: Any) -> dict[str, Any]:
    """What was set otherwise than by default."""
    default = type(settings)()
    return {name: value for name, value in vars(settings).items() if value != getattr(default, name)}


def _names(file: str) -> str:
    return (
        file
        if file.startswith(("/vsi", "http:", "https:", "s3:"))
        else ",".join(Path(part.strip()).name for part in file.split(","))
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
