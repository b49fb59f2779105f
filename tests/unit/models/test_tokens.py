"""Tokens without open_clip's package are those of open_clip, and the bundled model loads no library of networks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import open_clip
import pytest
import yaml

from mmovseg_geo.models import tokens

ROOT = Path(__file__).resolve().parents[3]
ODD = (
    "",
    " ",
    "!",
    "\x00",
    "лес и вода",
    "水域 水",
    "🌊🌊",
    "don't we'll",
    "<end_of_text> sea",
    "&amp;amp; caf\u00e9",
    "a\u0301b",
    "x" * 500,
)


@pytest.fixture
def tokenizer_of_its_file(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if nobody had imported open_clip yet."""
    monkeypatch.delitem(sys.modules, "open_clip.tokenizer")
    tokens._tokenizer.cache_clear()
    yield
    tokens._tokenizer.cache_clear()


def words(value: object) -> Iterator[str]:
    """Every text in a YAML tree."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from words(item)
    elif isinstance(value, list):
        for item in value:
            yield from words(item)
    else:
        yield from str(value).split(",")


def phrases() -> list[str]:
    trees = [
        yaml.safe_load((ROOT / "configs" / "train" / f"compact-{name}.yaml").read_text(encoding="utf-8"))
        for name in ("concepts", "phrases")
    ]
    found = list(dict.fromkeys(word for tree in trees for word in words(tree)))
    return [*found, *(f"A photo of a {word.title()} in the scene" for word in found), *ODD]


@pytest.mark.usefixtures("tokenizer_of_its_file")
def test_thousands_of_phrases_have_the_tokens_of_open_clip() -> None:
    asked = phrases()
    assert len(asked) > 2000
    assert tokens._tokenizer() is not open_clip.tokenizer
    for context in (8, 17, tokens.CONTEXT):
        assert tokens.tokenize(asked, context).equal(open_clip.tokenize(asked, context_length=context))


@pytest.mark.usefixtures("tokenizer_of_its_file")
def test_where_the_file_is_not_found_the_package_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmovseg_geo.models.tokens.find_spec", lambda name: None)
    assert tokens.tokenize(["water"], 8).equal(open_clip.tokenize(["water"], context_length=8))


def test_the_bundled_model_answers_words_without_the_libraries_of_networks() -> None:
    script = (
        "import sys; from mmovseg_geo.models import load_segmenter\n"
        "assert load_segmenter(classes='water,forest').planes == 2\n"
        "print([name for name in ('open_clip', 'timm', 'torchvision', 'transformers') if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.stdout.strip() == "[]", told.stdout + told.stderr
