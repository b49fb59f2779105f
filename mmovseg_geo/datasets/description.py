"""One set of labelled images in words: classes, how labels are stored, where files lie, how methods were run on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mmovseg_geo.datasets.codes import LabelCode
from mmovseg_geo.datasets.methods import MethodSettings, Words
from mmovseg_geo.errors import ConfigError
from mmovseg_geo.vocabulary import Vocabulary


@dataclass(frozen=True)
class Split:
    """Where the files of one split lie, below the folder that holds the set.

    Attributes:
        optical, sar, labels: patterns with `{id}` in the file name, paired by it; of several the first that exists
            counts. Empty where there is no such sensor.
        listing: a file with one name a line; only these images belong to the split.
        places: first parts of the names of the images that belong to the split; all of them where empty.
        count: how many images the published split has.
        classes: `seen` where labels are indices into the seen classes, as in training.
    """

    name: str
    labels: tuple[str, ...]
    optical: tuple[str, ...] = ()
    sar: tuple[str, ...] = ()
    listing: str | None = None
    places: tuple[str, ...] = ()
    count: int | None = None
    classes: Literal["all", "seen"] = "all"

    @property
    def patterns(self) -> dict[str, tuple[str, ...]]:
        """Patterns by what they find: `optical`, `sar` (each only where there is one) and `labels`."""
        found = {"optical": self.optical, "sar": self.sar, "labels": self.labels}
        return {kind: patterns for kind, patterns in found.items() if patterns}


@dataclass(frozen=True)
class DatasetConfig:
    """A set of labelled images, as a file of `configs/datasets/` describes it; `read_dataset` reads one.

    Attributes:
        classes: words of each class, by index: the name, then synonyms.
        seen, unseen: names of classes that the published training knew, in the order of its labels, and did not know.
        evaluate: the split that published scores are of.
        methods: method to how it was run.
        unknown: what the published documents do not tell, in sentences; what stands here instead is ours.
    """

    path: Path
    title: str
    classes: tuple[Words, ...]
    splits: Mapping[str, Split]
    evaluate: str
    labels: LabelCode = field(default_factory=LabelCode)
    methods: Mapping[str, MethodSettings] = field(default_factory=dict)
    seen: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    about: str = ""
    unknown: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The file's name without its suffix."""
        return self.path.stem

    def words(self, method: str | None = None, split: str | None = None) -> tuple[Words, ...]:
        """Words of each class in label order: those a method was run with, and of a split's classes.

        Raises:
            ConfigError: a method or split that the set does not have.
        """
        words = list(self.classes)
        if method is not None:
            for index, others in self.settings(method).classes.items():
                words[index] = others
        if split is not None and self.split(split).classes == "seen":
            names = [group[0] for group in self.classes]
            words = [words[names.index(name)] for name in self.seen]
        return tuple(words)

    def vocabulary(self, method: str | None = None, split: str | None = None) -> Vocabulary:
        """The classes as a map has them: ids are class indices.

        >>> read_dataset("configs/datasets/ddhr-sk.yaml").vocabulary().names      # doctest: +SKIP
        ('city', 'road', 'forest', 'water', 'farmland')
        """
        return as_vocabulary(self.words(method, split))

    def settings(self, method: str) -> MethodSettings:
        """How a method was run on this set."""
        if method not in self.methods:
            known = ", ".join(self.methods) or "none"
            raise ConfigError(f"{self.path} has no settings of {method!r}; it has those of: {known}.")
        return self.methods[method]

    def split(self, name: str | None = None) -> Split:
        """A split by name; without one, the split that published scores are of."""
        name = self.evaluate if name is None else name
        if name not in self.splits:
            raise ConfigError(f"{self.path} has no split {name!r}; it has: {', '.join(self.splits)}.")
        return self.splits[name]


def as_vocabulary(words: tuple[Words, ...]) -> Vocabulary:
    """Classes whose ids are their places in the list, from 0."""
    return Vocabulary.from_entries(
        [{"id": index, "name": group[0], "synonyms": group[1:]} for index, group in enumerate(words)]
    )
