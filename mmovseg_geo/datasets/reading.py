"""The YAML that describes a set of labelled images, read and checked: an error names the file and the key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from mmovseg_geo.datasets.codes import IGNORE, Color, LabelCode
from mmovseg_geo.datasets.description import DatasetConfig, Split, as_vocabulary
from mmovseg_geo.datasets.methods import COMMON, MethodSettings, MMOVSegSettings, Words
from mmovseg_geo.errors import ConfigError, VocabularyError, did_you_mean
from mmovseg_geo.text_file import strict_yaml

KEYS = ("title", "about", "unknown", "classes", "seen", "unseen", "labels", "splits", "evaluate", "methods")
LABEL_KEYS = ("colors", "reduce_zero", "at_least")
SPLIT_KEYS = ("optical", "sar", "labels", "list", "places", "count", "classes")
PLACEHOLDER = "{id}"


def read_dataset(path: str | Path) -> DatasetConfig:
    """The set that a YAML describes.

    Raises:
        ConfigError: a file that cannot be read, an unknown key, a key twice, a missing class, a value that cannot be.

    >>> read_dataset("configs/datasets/potsdam.yaml").settings("segearth-ov").threshold    # doctest: +SKIP
    0.1
    """
    path = Path(path)
    loaded = _mapping(strict_yaml(path, "the description of a set"), "the file", path)
    _known(loaded, KEYS, "", path)
    missing = [key for key in ("title", "classes", "splits", "evaluate") if key not in loaded]
    if missing:
        raise ConfigError(f"{path} lacks `{missing[0]}`; a set needs title, classes, splits and evaluate.")
    classes = _classes(loaded["classes"], path)
    names = [group[0] for group in classes]
    seen, unseen = (_texts(loaded.get(key, []), key, path) for key in ("seen", "unseen"))
    _check_seen(seen, unseen, names, path)
    splits = {
        str(name): _split(str(name), entry, bool(seen), path)
        for name, entry in _mapping(loaded["splits"], "splits", path).items()
    }
    dataset = DatasetConfig(
        path=path,
        title=_text(loaded["title"], "title", path),
        about=_text(loaded.get("about", ""), "about", path),
        unknown=_texts(loaded.get("unknown", []), "unknown", path),
        classes=classes,
        seen=seen,
        unseen=unseen,
        labels=_code(_mapping(loaded.get("labels", {}), "labels", path), len(classes), path),
        splits=splits,
        evaluate=_text(loaded["evaluate"], "evaluate", path),
        methods={
            str(name): _method(str(name), entry, classes, path)
            for name, entry in _mapping(loaded.get("methods", {}), "methods", path).items()
        },
    )
    dataset.split()
    return dataset


def _classes(given: Any, path: Path) -> tuple[Words, ...]:
    """Words by index; `classes` is a mapping, so that the file is also one for `--classes-file`."""
    entries = _mapping(given, "classes", path)
    indices = [index for index in entries if isinstance(index, int) and not isinstance(index, bool)]
    if len(indices) < len(entries) or not indices:
        raise ConfigError(f"{path}: `classes` should give words by class index, such as `0: [water, lake]`.")
    absent = sorted(set(range(max(indices) + 1)) - set(indices))
    if absent or min(indices) < 0 or max(indices) >= IGNORE:
        what = f"class {absent[0]} is missing" if absent else "a class index is out of range"
        raise ConfigError(f"{path}: {what}; indices run from 0 without a gap, up to {IGNORE - 1}.")
    words = tuple(_words(entries[index], f"classes.{index}", path) for index in range(len(entries)))
    _check_words(words, path)
    return words


def _check_words(words: tuple[Words, ...], path: Path) -> None:
    try:
        as_vocabulary(words)
    except VocabularyError as error:
        raise ConfigError(f"{path}: {error}") from error


def _check_seen(seen: Words, unseen: Words, names: list[str], path: Path) -> None:
    for key, given in (("seen", seen), ("unseen", unseen)):
        for name in given:
            if name not in names:
                raise ConfigError(f"{path}: {key} names {name!r}, which is no class. {did_you_mean(name, names)}")
        if len(set(given)) < len(given):
            raise ConfigError(f"{path}: {key} names a class twice: {', '.join(given)}.")
    if set(seen) & set(unseen):
        raise ConfigError(f"{path}: {sorted(set(seen) & set(unseen))[0]!r} is both seen and unseen.")
    forgotten = [name for name in names if seen and name not in (*seen, *unseen)]
    if forgotten:
        raise ConfigError(f"{path}: {forgotten[0]!r} is neither seen nor unseen; name every class in one of them.")


def _code(given: Mapping[str, Any], count: int, path: Path) -> LabelCode:
    _known(given, LABEL_KEYS, "labels.", path)
    reduce_zero, at_least = given.get("reduce_zero", False), given.get("at_least")
    if not isinstance(reduce_zero, bool):
        raise ConfigError(f"{path}: labels.reduce_zero is true or false, not {reduce_zero!r}.")
    if at_least is not None:
        if not _fits(at_least, int) or count != 2 or reduce_zero or "colors" in given:
            raise ConfigError(f"{path}: labels.at_least is one number for a set of two classes, without other rules.")
        return LabelCode(at_least=at_least)
    colors = {}
    for value, entry in _mapping(given.get("colors", {}), "labels.colors", path).items():
        shades = entry if isinstance(entry, list) else [entry]
        colors[value] = tuple(_color(shade, path) for shade in shades)
    if colors:
        _check_colors(colors, count + int(reduce_zero), path)
    return LabelCode(colors=colors, reduce_zero=reduce_zero)


def _check_colors(colors: Mapping[Any, tuple[Color, ...]], count: int, path: Path) -> None:
    strange = [value for value in colors if value not in (*range(count), IGNORE) or isinstance(value, bool)]
    if strange:
        raise ConfigError(f"{path}: labels.colors has the value {strange[0]!r}; stored values are 0 to {count - 1}.")
    absent = [value for value in range(count) if not colors.get(value)]
    if absent:
        raise ConfigError(f"{path}: labels.colors has no color for the stored value {absent[0]}.")
    shades = [shade for entry in colors.values() for shade in entry]
    twice = [shade for shade in shades if shades.count(shade) > 1]
    if twice:
        raise ConfigError(f"{path}: labels.colors gives the color #{bytes(twice[0]).hex()} twice.")


def _color(text: Any, path: Path) -> Color:
    match = re.fullmatch(r"#([0-9a-fA-F]{6})", str(text))
    if not match:
        raise ConfigError(f"{path}: {text!r} in labels.colors is not a color; write '#ff0000' with the quotes.")
    red, green, blue = bytes.fromhex(match[1])
    return red, green, blue


def _split(name: str, given: Any, has_seen: bool, path: Path) -> Split:
    where = f"splits.{name}"
    entry = _mapping(given, where, path)
    _known(entry, SPLIT_KEYS, f"{where}.", path)
    patterns = {}
    for kind in ("optical", "sar", "labels"):
        value = entry.get(kind, [])
        patterns[kind] = _texts([value] if isinstance(value, str) else value, f"{where}.{kind}", path)
        for pattern in patterns[kind]:
            if not re.fullmatch(r"(?!/)(.*/)?[^/{}]*\{id\}[^/{}]*\.\w+", pattern):
                raise ConfigError(
                    f"{path}: {where}.{kind} {pattern!r} should be a path below the set's folder with {PLACEHOLDER} "
                    f"once, in a file name that has a suffix: val/images/{PLACEHOLDER}.png"
                )
    if not patterns["labels"] or not (patterns["optical"] or patterns["sar"]):
        raise ConfigError(f"{path}: {where} needs `labels`, and `optical`, `sar` or both.")
    count, classes = entry.get("count"), entry.get("classes", "all")
    if count is not None and not _fits(count, int):
        raise ConfigError(f"{path}: {where}.count is a number of images, not {count!r}.")
    if classes not in ("all", "seen") or (classes == "seen" and not has_seen):
        raise ConfigError(f"{path}: {where}.classes is `all`, or `seen` in a set that names seen classes.")
    return Split(
        name,
        **patterns,
        listing=_text(entry["list"], f"{where}.list", path) if "list" in entry else None,
        places=_texts(entry.get("places", []), f"{where}.places", path),
        count=count,
        classes=classes,
    )


def _method(name: str, given: Any, classes: tuple[Words, ...], path: Path) -> MethodSettings:
    if name not in COMMON:
        raise ConfigError(f"{path}: unknown method {name!r}. {did_you_mean(name, COMMON)}")
    where = f"methods.{name}"
    entry = dict(_mapping({} if given is None else given, where, path))
    common = COMMON[name]
    _known(entry, tuple(f.name for f in fields(common)), f"{where}.", path)
    others = {}
    for index, words in _mapping(entry.pop("classes", {}), f"{where}.classes", path).items():
        if index not in range(len(classes)):
            raise ConfigError(
                f"{path}: {where}.classes has {index!r}, but the set's classes are 0 to {len(classes) - 1}."
            )
        others[index] = _words(words, f"{where}.classes.{index}", path)
    _check_words(tuple(others.get(index, words) for index, words in enumerate(classes)), path)
    hints = get_type_hints(type(common))
    for key, value in entry.items():
        if not _fits(value, hints[key]):
            raise ConfigError(f"{path}: {where}.{key} cannot be {value!r}; expected {_described(hints[key])}.")
    settings = replace(common, **entry, classes=others)
    if isinstance(settings, MMOVSegSettings):
        if not settings.checkpoint:
            raise ConfigError(f"{path}: {where} names no checkpoint; the published weights differ from set to set.")
    elif settings.background not in range(len(classes)) or not 0 <= settings.threshold <= 1:
        raise ConfigError(f"{path}: {where} needs a threshold of 0 to 1 and a background among the classes.")
    elif (settings.window is None) != (settings.stride is None):
        raise ConfigError(f"{path}: {where} gives window or stride as null; both are, or neither.")
    return settings


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a plain type, a Literal, or one of several."""
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    if isinstance(value, bool) or hint is bool:
        return hint is bool and isinstance(value, bool)
    return isinstance(value, (int, float) if hint is float else hint)


def _described(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return " or ".join(map(str, get_args(hint)))
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_described(part) for part in get_args(hint))
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    return names.get(hint, str(hint))


def _words(given: Any, where: str, path: Path) -> Words:
    return _texts([given] if not isinstance(given, list) else given, where, path)


def _texts(given: Any, where: str, path: Path) -> tuple[str, ...]:
    """A list of texts. Numbers are refused, for YAML reads the place 2_13 as the number 213."""
    if not isinstance(given, list) or not all(isinstance(item, str) and item.strip() for item in given):
        raise ConfigError(f"{path}: {where} should be text or a list of texts (in quotes if numbers), not {given!r}.")
    return tuple(item.strip() for item in given)


def _text(given: Any, where: str, path: Path) -> str:
    if not isinstance(given, str):
        raise ConfigError(f"{path}: {where} should be text, not {given!r}.")
    return given.strip()


def _mapping(given: Any, where: str, path: Path) -> Mapping[Any, Any]:
    if not isinstance(given, dict):
        raise ConfigError(f"{path}: {where} should hold `key: value` lines, not a {type(given).__name__}.")
    return given


def _known(given: Mapping[Any, Any], keys: tuple[str, ...], parent: str, path: Path) -> None:
    for key in given:
        if key not in keys:
            raise ConfigError(f"{path}: unknown key {parent}{key}. {did_you_mean(str(key), keys)}")
