"""Which words: the classes of a map, their ids, synonyms and colors."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mmovseg_geo.errors import VocabularyError
from mmovseg_geo.palette import BACKGROUND_COLOR, color_wheel, expected_color, normalized_color

LONGEST_NAME = 100
LARGEST_ID = 65534
BACKGROUND_NAMES = frozenset({"background", "unlabeled", "unlabelled", "other"})
"""A class of one of these names is what is left over; it is not scored against the image."""


@dataclass(frozen=True)
class MapClass:
    """One class of a map: the value of its pixels, its name, further words for it, its color `#rrggbb`."""

    id: int
    name: str
    synonyms: tuple[str, ...] = ()
    color: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        """The name and the synonyms."""
        return self.name, *self.synonyms

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Color as three values 0..255."""
        return int(self.color[1:3], 16), int(self.color[3:5], 16), int(self.color[5:7], 16)


@dataclass(frozen=True)
class Vocabulary:
    """Ordered classes. `background`, where there is one, takes the pixels that no other class claims.

    Raises:
        VocabularyError: no class to look for, an empty, overlong or repeated word, a repeated or impossible id.

    >>> Vocabulary.of("water,building|house").names
    ('water', 'building')
    """

    classes: tuple[MapClass, ...]

    def __post_init__(self) -> None:
        _check(self.classes)
        colors = {c.id: normalized_color(c.color, c.name) for c in self.classes if c.color}
        taken, wheel = set(colors.values()), color_wheel()
        for entry in self.classes:
            if entry.id not in colors:
                left_over = entry.name.lower() in BACKGROUND_NAMES
                color = BACKGROUND_COLOR if left_over else expected_color(entry.words, taken)
                colors[entry.id] = color or next(color for color in wheel if color not in taken)
                taken.add(colors[entry.id])
        object.__setattr__(self, "classes", tuple(replace(c, color=colors[c.id]) for c in self.classes))

    @classmethod
    def of(cls, classes: str | Sequence[str | Sequence[str]], *, background: bool = False) -> Vocabulary:
        """Classes from `"water,building|house"` or from `["water", ["building", "house"]]`.

        Ids are 1 to K in the order given; a background class, asked for or named, has id 0.
        """
        groups = [part.split("|") for part in classes.split(",")] if isinstance(classes, str) else classes
        words = [[group] if isinstance(group, str) else list(group) or [""] for group in groups]
        if words == [[""]] or not words:
            raise VocabularyError('No classes were given. Name at least one: --classes "water,building|house".')
        return cls.from_entries([{"name": group[0], "synonyms": group[1:]} for group in words], background=background)

    @classmethod
    def from_entries(cls, entries: Iterable[dict[str, Any]], *, background: bool = False) -> Vocabulary:
        """Classes from records with `name` and, where wanted, `id`, `synonyms` and `color`.

        Ids that are not given are the free ones from 1 on, in order; a background class without an id has 0.
        """
        entries = list(entries)
        named = [str(entry.get("name", "")).strip() for entry in entries]
        if background and not any(name.lower() in BACKGROUND_NAMES for name in named):
            entries, named = [{"name": "background"}, *entries], ["background", *named]
        taken = {_whole(entry["id"]) for entry in entries if entry.get("id") not in (None, "")}
        free = (number for number in range(1, LARGEST_ID + len(entries) + 2) if number not in taken)
        classes = []
        for name, entry in zip(named, entries, strict=True):
            if entry.get("id") not in (None, ""):
                number = _whole(entry["id"])
            else:
                number = 0 if name.lower() in BACKGROUND_NAMES and 0 not in taken else next(free)
            synonyms = tuple(str(word).strip() for word in entry.get("synonyms") or ())
            classes.append(MapClass(number, name, synonyms, str(entry.get("color") or "")))
        return cls(tuple(classes))

    @classmethod
    def from_file(cls, path: str | Path, *, background: bool = False) -> Vocabulary:
        """Classes from a YAML, JSON or CSV file, or a text file with one class a line and commas before synonyms."""
        from mmovseg_geo.classes_file import read_entries

        return cls.from_entries(read_entries(Path(path)), background=background)

    @classmethod
    def from_json(cls, text: str) -> Vocabulary:
        """The vocabulary that `to_json` wrote."""
        return cls.from_entries(json.loads(text))

    def to_json(self) -> str:
        """`[{"id": 1, "name": "water", "synonyms": [], "color": "#..."}]`, as kept in map tags."""
        return json.dumps([asdict(entry) for entry in self.classes], ensure_ascii=False)

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(entry.name for entry in self.classes)

    @cached_property
    def background(self) -> MapClass | None:
        """The class of pixels that no other class claims, where there is one."""
        return next((entry for entry in self.classes if entry.name.lower() in BACKGROUND_NAMES), None)

    @cached_property
    def scored(self) -> tuple[MapClass, ...]:
        """The classes that are looked for: all but the background."""
        return tuple(entry for entry in self.classes if entry != self.background)

    @property
    def ignore(self) -> int:
        """The value of pixels without data: 255, or 65535 where ids do not fit a byte."""
        return 255 if max(entry.id for entry in self.classes) < 255 else 65535

    @property
    def dtype(self) -> str:
        """Data type of the label raster: `uint8` or `uint16`."""
        return "uint8" if self.ignore == 255 else "uint16"

    def with_background(self) -> Vocabulary:
        """The same classes and a background class."""
        return Vocabulary.from_entries([asdict(entry) for entry in self.classes], background=True)


def _check(classes: tuple[MapClass, ...]) -> None:
    left_over = [entry.name for entry in classes if entry.name.lower() in BACKGROUND_NAMES]
    if len(left_over) > 1:
        raise VocabularyError(f"{' and '.join(left_over)} all mean the background; give one of them.")
    owner: dict[str, str] = {}
    ids: dict[int, str] = {}
    for entry in classes:
        for word in entry.words:
            if not word.strip():
                raise VocabularyError("A class name is empty. Check for doubled commas or bars: water,building|house.")
            if not any(map(str.isalnum, word)):
                raise VocabularyError(
                    f"The class name {word!r} has neither letter nor digit, so it means nothing; name a thing."
                )
            if len(word) > LONGEST_NAME:
                raise VocabularyError(
                    f"The class name {word[:40]!r}… has {len(word)} characters; at most {LONGEST_NAME} are allowed."
                )
            if word.casefold() in owner:
                where = f"of {owner[word.casefold()]!r} and of {entry.name!r}"
                raise VocabularyError(f"The word {word!r} stands twice: in the words {where}. Name each word once.")
            owner[word.casefold()] = entry.name
        if not 0 <= entry.id <= LARGEST_ID:
            raise VocabularyError(
                f"Class {entry.name!r} has id {entry.id}; a 16-bit label raster holds 0 to {LARGEST_ID}."
            )
        if entry.id in ids:
            raise VocabularyError(f"Classes {ids[entry.id]!r} and {entry.name!r} share the id {entry.id}.")
        ids[entry.id] = entry.name
    if len(classes) == len(left_over):
        raise VocabularyError("There is no class to look for. Name at least one beside the background.")
    if 255 in ids and max(ids) == 255:
        raise VocabularyError(f"Class {ids[255]!r} has id 255, which marks pixels without data. Choose another id.")


def _whole(value: Any) -> int:
    try:
        return int(str(value))
    except ValueError:
        raise VocabularyError(f"The class id {value!r} is not a whole number.") from None
