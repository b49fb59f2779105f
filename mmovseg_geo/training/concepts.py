"""What words are true of a pixel: concepts are sets of land covers, labels are what a pixel may be.

Land covers are those of the simulator and the broad ones of real maps (`kinds.KINDS`).
Shape suffixes: L labels, K concepts, V land covers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from mmovseg_geo.errors import ConfigError, did_you_mean
from mmovseg_geo.training.chips import UNKNOWN
from mmovseg_geo.training.kinds import KINDS

TRUE, FALSE, UNASKED = 1, 0, -1
WATER, DRY = "worldcover 80", "dry"
"""Labels of which nothing more is known."""


@dataclass(frozen=True)
class Concept:
    """Words that say the same, how often they are asked for, and whether every chip is."""

    words: tuple[str, ...]
    weight: float
    on_map: bool = False


@dataclass(frozen=True, eq=False)
class Concepts:
    """The words of training and their truth.

    Attributes:
        truth: (L, K) int8: 1 where the concept holds for the label, 0 where it does not, -1 where it is not asked.
        possible: (L, V) bool: the land covers that a label may be.
        labels: names of the L labels; the first are the simulated land covers, in their order.
        absurd: words that are true nowhere.
        held_out: words that training never uses.
    """

    concepts: tuple[Concept, ...]
    truth: NDArray[np.int8]
    possible: NDArray[np.bool_]
    labels: tuple[str, ...]
    absurd: tuple[str, ...]
    held_out: tuple[str, ...]

    def number(self, label: str) -> int:
        """The number of a label, as chips hold it.

        Raises:
            ConfigError: there is no such label.
        """
        if label not in self.labels:
            raise ConfigError(
                f"The concepts have no label {label!r}. {did_you_mean(label, self.labels)}\n"
                "  Add it to their `labels`, or give one of those in the recipe's `values`."
            )
        return self.labels.index(label)

    @cached_property
    def water_or_dry(self) -> NDArray[np.uint8]:
        """For every label (256,) the number of the one that says no more than whether it is water; 255 if it may be."""
        found = np.full(256, UNKNOWN, np.uint8)
        for name in (WATER, DRY):
            number = self.number(name)
            found[: len(self.possible)][~(self.possible & ~self.possible[number]).any(1)] = number
        return found

    @property
    def words(self) -> list[str]:
        """Every word of training once."""
        return list(dict.fromkeys([word for concept in self.concepts for word in concept.words] + list(self.absurd)))


def read_concepts(path: Path) -> Concepts:
    """The concepts of a YAML file, whose comments say what it may hold.

    Raises:
        ConfigError: an unknown land cover, or a word that is held out and used.
    """
    try:
        listed: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as concepts ({error}).") from error
    covers = list(KINDS)
    sets = _Sets(path, covers, listed["groups"])
    real = {name: sets.of(members) for name, members in listed["labels"].items()}
    possible = np.stack([*np.eye(len(covers), dtype=bool), *real.values()])
    concepts = [
        Concept(_words(entry["words"]), float(entry["weight"]), bool(entry.get("map"))) for entry in listed["concepts"]
    ]
    truth = [
        _truth(possible, sets.of(entry["covers"]), sets.of(entry.get("maybe", ()))) for entry in listed["concepts"]
    ]
    found = Concepts(
        tuple(concepts),
        np.stack(truth, axis=1),
        possible,
        (*covers, *real),
        _words(listed["absurd"]),
        tuple(listed["held_out"]),
    )
    leaked = sorted(set(found.held_out) & set(found.words))
    if leaked:
        raise ConfigError(f"{path}: {', '.join(leaked)} are held out and used; take them from one of the two.")
    return found


@dataclass(frozen=True)
class _Sets:
    """Sets of land covers by names of covers and groups."""

    path: Path
    covers: Sequence[str]
    groups: dict[str, list[str]]

    def of(self, names: Sequence[str]) -> NDArray[np.bool_]:
        chosen = np.zeros(len(self.covers), bool)
        for name in names:
            for cover in self.groups.get(name, [name]):
                if cover not in self.covers:
                    raise ConfigError(
                        f"{self.path}: {cover!r} is no simulated land cover. Known: {', '.join(self.covers)}."
                    )
                chosen[self.covers.index(cover)] = True
        return chosen


def _truth(possible_LV: NDArray[np.bool_], covers_V: NDArray[np.bool_], maybe_V: NDArray[np.bool_]) -> NDArray[np.int8]:
    hits_L = (possible_LV & covers_V).sum(1)
    always = (2 * hits_L >= possible_LV.sum(1)) & ~(possible_LV & ~(covers_V | maybe_V)).any(1)
    never = (hits_L == 0) & (possible_LV & ~maybe_V).any(1)
    return np.where(always, TRUE, np.where(never, FALSE, UNASKED)).astype(np.int8)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())
