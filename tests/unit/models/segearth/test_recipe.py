"""Numbers of a recipe: what goes together, how options are read, which tiles follow."""

from __future__ import annotations

from typing import Any

import pytest

from mmovseg_geo.errors import ConfigError
from mmovseg_geo.models.segearth.recipe import SEGEARTH_OV, Recipe
from mmovseg_geo.tiles import Tiling


def test_text_of_options_becomes_values() -> None:
    recipe = SEGEARTH_OV.with_options(
        {"attention": "sclip", "last": "2", "residual": "true", "bias": "-0.1", "window": 0, "upsampler": "none"}
    )
    assert recipe == Recipe("sclip", last=2, residual=True, bias=-0.1, window=0, upsampler="none")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"biass": 0}, "'biass' is unknown. Did you mean bias"),
        ({"quality": 0}, "Known: attention, last"),
        ({"attention": "segert"}, "Did you mean segearth"),
        ({"bias": "much"}, "bias 'much' is not a number"),
        ({"last": 1.5}, "last 1.5 is not a whole number"),
        ({"residual": "perhaps"}, "neither true nor false"),
        ({"attention": "gem"}, "gem has no CLS vector.*bias=0"),
        ({"window": 100, "stride": 101}, "stride 101 does not fit windows of 100"),
        ({"factor": 0}, "factor 0 is not a positive number"),
        ({"temperature": "nan"}, "temperature nan"),
        ({"last": 0}, "last 0 is too small"),
        ({"last": "inf"}, "last 'inf' is not a whole number"),
        ({"window": -1}, "window -1 is too small"),
        ({"bias": "nan"}, "bias nan is not a finite number"),
    ],
)
def test_what_cannot_be_meant_is_an_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SEGEARTH_OV.with_options(options)


def test_gem_goes_with_a_bias_of_nothing() -> None:
    assert SEGEARTH_OV.with_options({"attention": "gem", "bias": 0}).attention == "gem"


@pytest.mark.parametrize(
    ("options", "tiling"),
    [
        ({}, Tiling(500, 250, "uniform")),
        ({"factor": 1}, Tiling(224, 112, "uniform")),
        ({"factor": 2}, Tiling(112, 56, "uniform")),
        ({"window": 0}, Tiling(1000, 500, "uniform")),
        ({"long_edge": 448}, Tiling(8192, 0, "uniform")),
    ],
)
def test_a_tile_is_one_window_at_the_scale_of_the_scene(options: dict[str, Any], tiling: Tiling) -> None:
    assert SEGEARTH_OV.with_options(options).tiling() == tiling
