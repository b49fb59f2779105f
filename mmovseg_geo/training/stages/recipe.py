"""The YAML of a stage's run, read and checked: an error names the file and the key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml

from mmovseg_geo.errors import ConfigError, did_you_mean
from mmovseg_geo.text_file import strict_yaml
from mmovseg_geo.training.loop_batches import Samples
from mmovseg_geo.training.loop_settings import LoopSettings
from mmovseg_geo.training.stages.augment import Augmentation
from mmovseg_geo.training.stages.images import Data, Pair
from mmovseg_geo.training.stages.networks import Encoders, Start
from mmovseg_geo.training.stages.stage import Stage

STAGES = {
    "mmovseg": "mmovseg_geo.training.stages.mmovseg",
    "cmu": "mmovseg_geo.training.stages.cmu",
    "alignearth": "mmovseg_geo.training.stages.alignearth",
    "simfeatup": "mmovseg_geo.training.stages.simfeatup",
}
"""Stage to its module, which has `Settings`, `OPTIMIZATION`, `prepare`, and `AUGMENTATION` where it is its own."""

KEYS = ("stage", "network", "start", "data", "augmentation", "settings", "optimization", "licence", "sources")


@dataclass(frozen=True)
class StageRecipe:
    """Everything a run of a stage needs.

    Attributes:
        settings: the stage's own.
        text: the file as it was written.
        licence: of the weights that come out; `sources`: what they were made from, in words.
    """

    stage: str
    network: str | Encoders
    start: Start
    data: Data
    augmentation: Augmentation
    settings: Any
    optimization: LoopSettings
    licence: str = "unknown"
    sources: tuple[str, ...] = ()
    text: str = field(default="", compare=False)

    def values(self) -> dict[str, Any]:
        """All settings by key, as plain values."""
        listed = asdict(replace(self, text=""))
        listed.pop("text")
        return {key: _plain(value) for key, value in listed.items()}


@dataclass(frozen=True)
class Begin:
    """A stage with what it learns from and is validated on; `files` are all images, for their fingerprint."""

    stage: Stage
    samples: Samples
    validation: Samples | None
    files: list[Pair]


def stage_of(path: Path) -> str | None:
    """The stage that a recipe is of; None for one without the key.

    Raises:
        ConfigError: it cannot be read, or names a stage that is unknown.
    """
    loaded = strict_yaml(path, "the recipe")
    if not isinstance(loaded, dict) or "stage" not in loaded:
        return None
    stage = loaded["stage"]
    if stage not in STAGES:
        raise ConfigError(f"{path}: unknown stage {stage!r}. {did_you_mean(str(stage), STAGES)}")
    return str(stage)


def read_stage_recipe(path: Path, *, folder: Path | None = None) -> StageRecipe:
    """The recipe of a YAML file; files in it are relative to it.

    Args:
        folder: instead of `data.folder`.

    Raises:
        ConfigError: a file that cannot be read, an unknown key, a value that does not fit.
    """
    stage = stage_of(path)
    if stage is None:
        raise ConfigError(f"{path} names no stage. Known: {', '.join(STAGES)}.")
    given: dict[str, Any] = strict_yaml(path, "the recipe")
    _check_keys(given, KEYS, "", path)
    module = import_module(STAGES[stage])
    here = path.parent
    listed = {**given, "data": {**_mapping(given.get("data"), "data", path)}}
    if folder is not None:
        listed["data"]["folder"] = str(folder.absolute())
    network = listed.get("network", "mmovseg-vitb16")
    start = _files(_mapping(listed.get("start"), "start", path), ("clip", "dino", "sar", "weights"), here)
    try:
        return StageRecipe(
            stage=stage,
            network=network if isinstance(network, str) else _made(Encoders(), network, "network", path),
            start=_made(Start(), start, "start", path),
            data=_data(_files(listed["data"], ("dataset", "folder"), here), path),
            augmentation=_made(
                getattr(module, "AUGMENTATION", Augmentation()), listed.get("augmentation"), "augmentation", path
            ),
            settings=_made(module.Settings(), listed.get("settings"), "settings", path),
            optimization=_made(module.OPTIMIZATION, listed.get("optimization"), "optimization", path),
            licence=str(listed.get("licence", "unknown")),
            sources=tuple(map(str, listed.get("sources", ()))),
            text=path.read_text(encoding="utf-8"),
        )
    except ConfigError as error:
        said = str(error)
        raise ConfigError(said if said.startswith(str(path)) else f"{path}: {said}") from error


def _data(values: Mapping[str, Any], path: Path) -> Data:
    """Data have no defaults to start from: a set, or patterns, must be given."""
    checked = _checked(Data, values, "data", path)
    return Data(**checked)


def _made(default: Any, given: Any, where: str, path: Path) -> Any:
    """The default with what is given in its place."""
    return replace(default, **_checked(type(default), _mapping(given, where, path), where, path))


def _checked(kind: type, values: Mapping[str, Any], where: str, path: Path) -> dict[str, Any]:
    assert is_dataclass(kind), "recipes are made of dataclasses"
    _check_keys(values, [entry.name for entry in fields(kind)], f"{where}.", path)
    hints = get_type_hints(kind)
    return {key: _fitted(value, hints[key], f"{where}.{key}", path) for key, value in values.items()}


def _fitted(value: Any, hint: Any, where: str, path: Path) -> Any:
    """A value of YAML as a field wants it; YAML reads 1e-4 as text."""
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if value is None and type(None) in options:
        return None
    for option in options:
        plain = get_origin(option) or option
        if plain is tuple and isinstance(value, list):
            return tuple(value)
        if plain is Path and isinstance(value, (str, Path)):
            return Path(value)
        if plain is float and not isinstance(value, bool) and _is_number(value):
            return float(value)
        if isinstance(plain, type) and type(value) is plain:
            return value
        if not isinstance(plain, type) and isinstance(value, str):  # one of some words, checked by the settings
            return value
    raise ConfigError(f"{path}: {where} cannot be {value!r}.")


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _files(values: Mapping[str, Any], names: tuple[str, ...], here: Path) -> dict[str, Any]:
    """Files beside the recipe by their place; what lies nowhere stays as it is, for it may be a published name."""
    placed = dict(values)
    for name in names:
        value = placed.get(name)
        if isinstance(value, str) and (name in ("dataset", "folder", "weights") or (here / value).is_file()):
            placed[name] = str(here / value)
    return placed


def _check_keys(values: Mapping[Any, Any], known: Any, parent: str, path: Path) -> None:
    for key in values:
        if key not in known:
            raise ConfigError(f"{path}: unknown key {parent}{key}. {did_you_mean(str(key), known)}")


def _mapping(given: Any, where: str, path: Path) -> Mapping[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise ConfigError(f"{path}: {where} should hold `key: value` lines, not a {type(given).__name__}.")
    return given


def _plain(value: Any) -> Any:
    """Without paths and tuples, as JSON and YAML keep it."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def as_yaml(values: Mapping[str, Any]) -> str:
    """Settings as the YAML that gives them."""
    text: str = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)
    return text
