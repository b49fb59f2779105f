"""Segmenters by name: options of a model."""

from __future__ import annotations

from typing import Any

import pytest

from mmovseg_geo.errors import ConfigError
from mmovseg_geo.models import load_segmenter


def with_options(vocabulary: Any, *, shade: str = "none", **settings: Any) -> Any:
    """A builder with an option."""
    return shade


def test_options_reach_the_builder() -> None:
    assert load_segmenter(f"{__name__}:with_options", "water", options={"shade": "dark"}) == "dark"  # type: ignore[comparison-overlap]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("no.such.room:builder", "Cannot load the model builder .* Give package.module:builder"),
        ("os:nothing", "has no attribute 'nothing'. Give package.module:builder"),
        ("os:path", "'os:path' builds no model: it is a module. Name a function"),
    ],
)
def test_a_builder_that_is_none_is_an_error(model: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_segmenter(model, "water")


@pytest.mark.parametrize(
    ("model", "option", "message"),
    [
        ("threshold", "factor", "threshold has no option 'factor'. It has none"),
        ("mmovseg-compact", "synonym", "has no option 'synonym'. Did you mean synonyms"),
        ("mmovseg-compact", "quality", "It has synonyms"),
    ],
)
def test_an_option_that_a_model_does_not_have_is_an_error(model: str, option: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_segmenter(model, "water,forest", options={option: "1"})
