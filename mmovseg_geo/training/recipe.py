"""The settings of a training run, read from YAML."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import yaml

from mmovseg_geo.datasets import PairedDataset
from mmovseg_geo.errors import ConfigError, did_you_mean
from mmovseg_geo.training.augment import Augmentation
from mmovseg_geo.training.chips import SimulatedChips
from mmovseg_geo.training.distillation import TextTraining
from mmovseg_geo.training.real import RealChips

T = TypeVar("T")

NEEDED = ("concepts", "text", "classes", "licence", "sources")
"""What a recipe must say."""


@dataclass(frozen=True)
class Optimization:
    """The image side's training.

    Attributes:
        warmup_steps: first steps, in which the encoders learn alone, by plain cosines.
        steps: all steps, those included.
        settle_steps: last steps, which start from the averaged weights and keep the statistics of their batch norms:
            batches of few and very different scenes make poor statistics.
        settle_rate: share of the learning rate that these start with.
        questions, warmup_questions: words asked of a chip.
        text_noise: deviation of what is added to each number of a text vector.
        average: how much of the averaged weights stays at a step.
        dice, edges: see `questions.answer_loss`.
        fresh_statistics: share of fresh statistics that the batch norms get at the end.
        head_rate: learning rate of the cost head, in that of the encoders.
        precision: `bf16` computes the forward pass in bfloat16 (twice as fast on processors made for it), or `fp32`.
    """

    steps: int = 2600
    warmup_steps: int = 1200
    settle_steps: int = 0
    settle_rate: float = 0.4
    warmup_batch_size: int = 16
    batch_size: int = 8
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    gradient_clip: float = 1.0
    average: float = 0.998
    questions: int = 6
    warmup_questions: int = 12
    text_noise: float = 0.01
    dice: float = 0.25
    edges: float = 0.0
    head_rate: float = 1.0
    side_loss: float = 0.3
    fresh_statistics: float = 0.0
    precision: str = "fp32"
    check_every: int = 200
    seed: int = 3

    def __post_init__(self) -> None:
        if self.precision not in ("fp32", "bf16"):
            raise ConfigError(f"Unknown precision {self.precision!r} for training. Known: fp32, bf16.")


@dataclass(frozen=True)
class Recipe:
    """Everything a training run needs. `classes` is the list used when a user gives none."""

    data: Path
    concepts: Path
    text: TextTraining
    simulated: SimulatedChips
    classes: tuple[tuple[str, ...], ...]
    licence: str
    sources: tuple[str, ...]
    real: tuple[RealChips, ...] = ()
    augmentation: Augmentation = field(default_factory=Augmentation)
    optimization: Optimization = field(default_factory=Optimization)
    processes: int = 2
    digest: str = field(default="", compare=False)


def read_recipe(path: Path) -> Recipe:
    """The recipe of a YAML file. Files in it are relative to it; MMOVSEG_SHARED stands for the data folder's parent.

    Raises:
        ConfigError: a file that cannot be read, an unknown key, a value that does not fit.
    """
    try:
        text = path.read_text(encoding="utf-8")
        listed = yaml.safe_load(text)
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as a training recipe ({error}).") from error
    if not isinstance(listed, dict):
        raise ConfigError(f"{path}: expected a mapping of settings.")
    lacking = [key for key in NEEDED if key not in listed]
    if lacking:
        raise ConfigError(
            f"{path} lacks `{lacking[0]}`, so it is no training recipe. Those of configs/train/ are examples."
        )
    here = path.parent
    values = dict(listed)
    shared = os.environ.get("MMOVSEG_SHARED")
    values["data"] = Path(shared) / "data" if shared else here / values.get("data", "data")
    values["concepts"] = here / values["concepts"]
    phrases = values["text"] | {"phrases": here / values["text"]["phrases"]}
    values["text"] = _made(TextTraining, phrases, path)
    values["simulated"] = _made(SimulatedChips, values.get("simulated", {}), path)
    values["augmentation"] = _made(Augmentation, values.get("augmentation", {}), path)
    values["optimization"] = _made(Optimization, values.get("optimization", {}), path)
    values["real"] = tuple(_real(entry, path) for entry in values.get("real", ()))
    values["classes"] = tuple((group,) if isinstance(group, str) else tuple(group) for group in values["classes"])
    values["digest"] = sha256(text.encode()).hexdigest()
    return _made(Recipe, values, path)


def _real(entry: Mapping[str, Any], path: Path) -> RealChips:
    own = {name.name for name in fields(RealChips)}
    dataset = _made(PairedDataset, {key: value for key, value in entry.items() if key not in own}, path)
    return _made(RealChips, {key: value for key, value in entry.items() if key in own} | {"dataset": dataset}, path)


def _made(kind: type[T], values: Mapping[str, Any], path: Path) -> T:
    assert is_dataclass(kind), "recipes are made of dataclasses"
    known = [entry.name for entry in fields(kind)]
    for key in values:
        if key not in known:
            raise ConfigError(f"{path}: unknown key {key!r}. {did_you_mean(key, known)}")
    try:
        return kind(**{key: _frozen(value) for key, value in values.items()})
    except TypeError as error:
        raise ConfigError(f"{path}: {error}.") from error


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
