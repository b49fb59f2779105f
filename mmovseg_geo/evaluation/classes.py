"""What the values of a file mean: stored values and names to indices of the classes that are scored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmovseg_geo.datasets.codes import IGNORE, Indices
from mmovseg_geo.errors import ConfigError, SceneError, VocabularyError, a_few
from mmovseg_geo.vocabulary import Vocabulary

MOST_CLASSES = 254
STRANGE = 254
"""Stands for a value of no class; indices end below it."""


@dataclass(frozen=True)
class Meaning:
    """What stored values of one file stand for.

    Attributes:
        path: of the file, for messages.
        index: stored value to class index.
        names: stored value to the name that the file gives it, of values that are no class of the list.
        ignored: stored values that are not scored.
    """

    path: str
    classes: Vocabulary
    index: Mapping[int, int]
    names: Mapping[int, str]
    ignored: frozenset[int] = frozenset()

    def indices(self, stored: NDArray[Any], valid: NDArray[np.bool_]) -> Indices:
        """Class indices (H, W); 255 where not valid or ignored.

        Raises:
            SceneError: a value that stands for no class; the message names the file.
        """
        if stored.dtype.kind == "f":
            stored = self._whole(stored, valid)
        coded = self._table[stored] if stored.dtype == np.uint8 else self._coded(stored)
        coded[~valid] = IGNORE
        strange = coded == STRANGE
        if strange.any():
            raise SceneError(self._unknown(stored[strange]))
        return coded

    @cached_property
    def _table(self) -> Indices:
        """What each byte stands for."""
        return self._coded(np.arange(256))

    def _coded(self, stored: NDArray[Any]) -> Indices:
        """Class indices, `IGNORE` for ignored values and `STRANGE` for unknown ones."""
        known = np.array(sorted(self.index), np.int64)
        to = np.array([self.index[value] for value in known.tolist()], np.uint8)
        at = np.minimum(np.searchsorted(known, stored), len(known) - 1)
        coded: Indices = np.where(known[at] == stored, to[at], np.uint8(STRANGE))
        coded[np.isin(stored, list(self.ignored))] = IGNORE
        return coded

    def index_of(self, value: Any) -> int | None:
        """The class index of a value of a vector file: a name, a further word, or an id; 255 for an ignored one."""
        text = str(value).strip()
        number = int(float(text)) if _is_whole(text) else None
        if number is not None and number in self.ignored:
            return IGNORE
        for index, entry in enumerate(self.classes.classes):
            if text.casefold() in {word.casefold() for word in entry.words}:
                return index
        return None if number is None else self.index.get(number)

    def _whole(self, stored: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.int64]:
        whole = np.where(valid & np.isfinite(stored), stored, -1)
        if (whole != np.round(whole)).any():
            raise SceneError(f"{self.path} holds fractions; labels are whole numbers. Name the labels, not scores.")
        return np.asarray(whole, np.int64)

    def _unknown(self, strange: NDArray[Any]) -> str:
        values, counts = np.unique(strange, return_counts=True)
        told = [f"{value} ({self.names[value]!r})" if value in self.names else f"{value}" for value in values.tolist()]
        listed = ", ".join(f"{entry.id} {entry.name}" for entry in self.classes.classes[:8])
        more = ", …" if len(self.classes) > 8 else ""
        return (
            f"{self.path} holds {a_few(told)} ({int(counts.sum())} pixels), which is no class of the list: "
            f"{listed}{more}.\n  Add it to the classes (--classes-file), or leave it out with --ignore "
            f"{','.join(str(value) for value in values[:6].tolist())}."
        )


def meaning(path: str, classes: Vocabulary, own: Vocabulary | None, ignored: Iterable[int | str] = ()) -> Meaning:
    """How a file's values are read: by the names of its own vocabulary where it has one, else as ids of `classes`.

    Args:
        own: the classes that the file's tags tell.
        ignored: values, or names of classes, whose pixels are not scored.
    """
    by_word = {word.casefold(): index for index, entry in enumerate(classes.classes) for word in entry.words}
    index: dict[int, int] = {}
    names: dict[int, str] = {}
    for entry in (own or classes).classes:
        found = by_word.get(entry.name.casefold())
        if found is None:
            found = next((by_word[word.casefold()] for word in entry.synonyms if word.casefold() in by_word), None)
        if found is None:
            names[entry.id] = entry.name
        else:
            index[entry.id] = found
    # Every map and most labels mark pixels that nobody knows so; of a class it is the id only where the list says so.
    unknown = {IGNORE, *([own.ignore] if own is not None else [])} - set(index)
    left_out = {*unknown, *(value for value in ignored if isinstance(value, int))}
    for word in (value for value in ignored if isinstance(value, str)):
        values = [entry.id for entry in (own or classes).classes if word.casefold() in map(str.casefold, entry.words)]
        if not values and word.casefold() not in by_word:
            raise ConfigError(f"--ignore {word}: no class has this name; classes are {', '.join(classes.names)}.")
        left_out.update(values)
    if not index:
        raise VocabularyError(
            f"{path} has the classes {', '.join(names.values())}; none of them is among {', '.join(classes.names)}.\n"
            "  Give classes that name both, with synonyms where the words differ (--classes-file)."
        )
    return Meaning(path, classes, index, names, frozenset(left_out))


def require_countable(classes: Vocabulary) -> None:
    """Refuse lists that do not fit class indices of one byte."""
    if len(classes) > MOST_CLASSES:
        raise VocabularyError(f"{len(classes)} classes were given; at most {MOST_CLASSES} can be scored together.")


def _is_whole(text: str) -> bool:
    try:
        return float(text) == int(float(text))
    except (ValueError, OverflowError):
        return False
