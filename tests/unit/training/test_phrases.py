"""Which phrases the text tower learns."""

from __future__ import annotations

import sys

import pytest

from mmovseg_geo.errors import ConfigError
from mmovseg_geo.training.phrases import frequent_words, whole_words


def test_frequent_words_are_words_that_the_tokenizer_may_cut() -> None:
    pytest.importorskip("wordfreq", reason="the list of frequent words comes with the train extra")
    words = frequent_words(50_000)
    assert {"timberland", "edifice", "steppe"} <= set(words)
    assert len(set(words) - set(whole_words())) > 10_000
    assert all(word.isalpha() and word.isascii() and len(word) > 2 for word in words)


def test_a_missing_list_of_words_is_told_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wordfreq", None)
    with pytest.raises(ConfigError, match="pip install wordfreq"):
        frequent_words(10)
