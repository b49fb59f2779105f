"""The phrases a text tower learns: land cover, objects, whole words of the tokenizer, frequent words, combinations."""

from __future__ import annotations

import random
from pathlib import Path

import yaml

from mmovseg_geo.errors import ConfigError

Subjects = dict[str, list[str]]
MODIFIERS = ("adjectives", "places")
"""Subjects whose words only go with others."""

FORMS = (
    "{adjective} {noun}",
    "{adjective} {noun}",
    "{noun} {place}",
    "{noun} {place}",
    "{noun} and {other}",
    "{noun} with {other}",
    "{noun} near {other}",
    "{adjective} {noun} {place}",
    "{noun} without {other}",
    "area covered by {noun}",
)


def read_subjects(path: Path) -> Subjects:
    """The words of each subject of a phrase file: a YAML mapping from subject to words parted by commas.

    Raises:
        ConfigError: the file is missing or is not such a mapping.
    """
    try:
        listed = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as phrases ({error}). Give a YAML file of word lists.") from error
    if not isinstance(listed, dict) or not all(isinstance(words, str) for words in listed.values()):
        raise ConfigError(f"{path}: expected a mapping from subject to words parted by commas.")
    subjects = {name: [word.strip() for word in words.split(",") if word.strip()] for name, words in listed.items()}
    missing = [subject for subject in MODIFIERS if subject not in subjects]
    if missing:
        raise ConfigError(f"{path}: the subjects {', '.join(missing)} are needed; add them as word lists.")
    return subjects


def nouns(subjects: Subjects) -> list[str]:
    """Every listed phrase that stands for a thing, once, in the order of the file."""
    things = (words for subject, words in subjects.items() if subject not in MODIFIERS)
    return list(dict.fromkeys(word for words in things for word in words))


def whole_words() -> list[str]:
    """The tokens of the CLIP tokenizer that are words by themselves: letters only, two or more."""
    from open_clip.tokenizer import SimpleTokenizer

    ends = (token[: -len("</w>")] for token in SimpleTokenizer().encoder if token.endswith("</w>"))
    return [word for word in ends if len(word) > 1 and word.isascii() and word.isalpha()]


def frequent_words(count: int) -> list[str]:
    """English words of letters among the `count` most frequent ones of the package `wordfreq`, the commonest first.

    Many are several tokens ("timber" + "land"), and say something else than these do together.
    """
    try:
        from wordfreq import top_n_list
    except ImportError as error:
        raise ConfigError(f"The list of frequent words is not installed ({error}). pip install wordfreq") from error
    return [word for word in top_n_list("en", count) if len(word) > 2 and word.isascii() and word.isalpha()]


def combinations(subjects: Subjects, count: int, seed: int) -> list[str]:
    """`count` phrases made of listed words by simple forms ("flooded meadow area"), the same for the same seed."""
    rng = random.Random(seed)
    things = nouns(subjects)
    made = (
        rng.choice(FORMS).format(
            adjective=rng.choice(subjects["adjectives"]),
            noun=rng.choice(things),
            other=rng.choice(things),
            place=rng.choice(subjects["places"]),
        )
        for _ in range(count)
    )
    return list(dict.fromkeys(made))
