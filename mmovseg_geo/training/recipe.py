"""The settings of a training run, read from YAML."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import yaml

from mmovseg_geo.datasets import PairedDataset
from mmovseg_geo.errors import ConfigError, did_you_mean
from mmovseg_geo.training.augment import Augmentation
from mmovseg_geo.training.chips import SimulatedChips
from mmovseg_geo.training.distillation import TextTraining
from mmovseg_geo.training.real import RadarWater, RealChips

T = TypeVar("T")

NEEDED = ("concepts", "text", "classes", "licence", "sources")
"""What a recipe must say."""
EXTENDS, WITHOUT, REAL = "extends", "without", "real"
"""Keys of a recipe that differs from another one: the file of that one, names of real chips it goes without, and those
it changes."""


@dataclass(frozen=True)
class Optimization:
    """The image side's training.

    Attributes:
        steps: those before the rounds of a recipe.
        warmup_steps: first steps, in which the encoders learn alone, by plain cosines.
        flat_steps: first steps with the full learning rate, those included; it falls along a cosine after them.
        statistics_batches: batches that the norms' statistics are taken of before they rest, and for every check.
        questions: words that the cost head is asked of a chip.
        text_noise: deviation of what is added to each number of a text vector.
        joined: share of the questions that are the mean of several synonyms.
        average: how much of the averaged weights stays at a step.
        blend_step: the weights that come out are midway between those of this step and the last (arXiv 2109.01903):
            what was trained further knows more, what was trained less is surer at places neither has seen.
        dice, edges: see `questions.answer_loss`.
        ranking, side_loss: share of `questions.ranking_loss` of the cost head's logits and of the cosines.
        head_rate, encoder_rate: learning rates of the cost head and of the optical encoder, which is trained already,
            in that of the rest.
        precision: `bf16` computes the forward pass in bfloat16 (twice as fast on processors made for it), or `fp32`.
    """

    steps: int = 2600
    warmup_steps: int = 1200
    flat_steps: int = 0
    statistics_batches: int = 60
    batch_size: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    gradient_clip: float = 1.0
    average: float = 0.998
    blend_step: int | None = None
    questions: int = 6
    text_noise: float = 0.01
    joined: float = 0.0
    dice: float = 0.25
    edges: float = 0.0
    head_rate: float = 1.0
    encoder_rate: float = 1.0
    ranking: float = 0.3
    side_loss: float = 0.3
    precision: str = "fp32"
    check_every: int = 200
    seed: int = 3

    def __post_init__(self) -> None:
        if self.precision not in ("fp32", "bf16"):
            raise ConfigError(f"Unknown precision {self.precision!r} for training. Known: fp32, bf16.")


@dataclass(frozen=True)
class Round:
    """Further steps, which start from the averaged weights and leave the statistics of the batch norms as they are:
    batches of few and very different scenes make poor statistics.

    Attributes:
        rate: share of the learning rate, at first; it falls to nothing along a cosine.
        encoders_only: the encoders learn alone, by plain cosines, in less time.
        learns: parts of the network that learn, such as `sar` and `adapters.sar`, where the others rest.
        blended: begins midway between the weights after `blend_step` and those before the round.
        shares: of the sources by name, where they are not those of the start.
        augmentation: what differs from that of the start.
    """

    steps: int
    rate: float = 0.4
    encoders_only: bool = False
    learns: tuple[str, ...] | None = None
    blended: bool = False
    shares: Mapping[str, float] | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)


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
    real: tuple[RealChips | RadarWater, ...] = ()
    augmentation: Augmentation = field(default_factory=Augmentation)
    optimization: Optimization = field(default_factory=Optimization)
    rounds: tuple[Round, ...] = ()
    processes: int = 2
    digest: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        blend = self.optimization.blend_step
        if blend is not None and not 0 <= blend < self.num_steps:
            raise ConfigError(
                f"blend_step is {blend}; give one of the recipe's steps, 0 to {self.num_steps - 1}, or none."
            )
        begins = self.optimization.steps
        for current in self.rounds:
            if current.blended and (blend is None or blend >= begins):
                raise ConfigError(
                    f"A round that begins after step {begins} is `blended`, but blend_step is {blend}; "
                    "give an earlier step as blend_step."
                )
            begins += current.steps

    @property
    def num_steps(self) -> int:
        """All steps, those of the rounds too."""
        return self.optimization.steps + sum(each.steps for each in self.rounds)


def read_recipe(path: Path) -> Recipe:
    """The recipe of a YAML file. Files in it are relative to it; MMOVSEG_SHARED stands for the data folder's parent.

    A recipe with `extends: FILE` has the settings of that one, from the same folder, except for those it gives itself:
    single ones of `text`, `simulated`, `augmentation` and `optimization`, lists as a whole. `real: {NAME: {...}}`
    changes single settings of real chips by their name, `without: [NAMES]` leaves some out, in the rounds too.

    Raises:
        ConfigError: a file that cannot be read, an unknown key, a value that does not fit.
    """
    listed, texts = _listed(path)
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
    values["rounds"] = tuple(_round(entry, listed.get("augmentation", {}), path) for entry in values.get("rounds", ()))
    values["real"] = tuple(_real(entry, path) for entry in values.get("real", ()))
    values["classes"] = tuple((group,) if isinstance(group, str) else tuple(group) for group in values["classes"])
    values["digest"] = sha256("".join(texts).encode()).hexdigest()
    return _without(values.pop(WITHOUT, ()), _made(Recipe, values, path), path)


def _listed(path: Path, *extending: str) -> tuple[dict[str, Any], list[str]]:
    """The settings of a file over those of the one that it extends, and the texts of both."""
    try:
        text = path.read_text(encoding="utf-8")
        listed = yaml.safe_load(text)
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as a training recipe ({error}).") from error
    if not isinstance(listed, dict):
        raise ConfigError(f"{path}: expected a mapping of settings.")
    if EXTENDS not in listed:
        if isinstance(listed.get(REAL), dict):
            raise ConfigError(f"{path}: `{REAL}` changes real chips by name; say which recipe's with `extends: FILE`.")
        return listed, [text]
    other = listed.pop(EXTENDS)
    # Files in a recipe are relative to it, so those of one in another folder would be looked for in the wrong place.
    extending = (*extending, path.name)
    if not isinstance(other, str) or Path(other).name != other or other in extending:
        raise ConfigError(f"{path}: `extends` is {other!r}; give the name of another recipe in the same folder.")
    extended, texts = _listed(path.parent / other, *extending)
    if isinstance(listed.get(REAL), dict):
        listed[REAL] = _changed(extended.get(REAL, []), listed[REAL], path)
    return _over(extended, listed), [*texts, text]


def _changed(entries: list[dict[str, Any]], changes: Mapping[str, Any], path: Path) -> list[dict[str, Any]]:
    """Real chips with changes to those named."""
    known = [str(entry.get("name")) for entry in entries]
    for name, change in changes.items():
        if name not in known:
            raise ConfigError(f"{path}: there are no real chips named {name!r} to change. Named: {', '.join(known)}.")
        if not isinstance(change, dict):
            raise ConfigError(f"{path}: `{name}` of `{REAL}` is {change!r}; give a mapping of settings.")
    return [entry | changes.get(name, {}) for name, entry in zip(known, entries, strict=True)]


def _over(extended: Mapping[str, Any], listed: Mapping[str, Any]) -> dict[str, Any]:
    """Settings over others; those of a group, such as `optimization`, one by one."""
    merged = dict(extended)
    for key, value in listed.items():
        group = merged.get(key)
        merged[key] = group | value if isinstance(group, dict) and isinstance(value, dict) else value
    return merged


def _without(names: Any, recipe: Recipe, path: Path) -> Recipe:
    """The recipe without some of its real chips; simulated ones fill their share."""
    if not isinstance(names, list | tuple):
        raise ConfigError(f"{path}: `without` is {names!r}; give a list of the names of real chips.")
    known = [source.name for source in recipe.real]
    for name in names:
        if name not in known:
            raise ConfigError(
                f"{path}: there are no real chips named {name!r} to go without. Named: {', '.join(known)}."
            )
    return replace(recipe, real=tuple(source for source in recipe.real if source.name not in names))


def _round(entry: Mapping[str, Any], augmentation: Mapping[str, Any], path: Path) -> Round:
    changed = _made(Augmentation, {**augmentation, **entry.get("augmentation", {})}, path)
    return _made(Round, {**entry, "augmentation": changed}, path)


def _real(entry: Mapping[str, Any], path: Path) -> RealChips | RadarWater:
    if "water_below_db" in entry:
        return _made(RadarWater, entry, path)
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
