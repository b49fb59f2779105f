"""The numbers of the training-free methods: one recipe for optical images, one for SAR."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Literal, get_args

from mmovseg_geo.errors import ConfigError, did_you_mean
from mmovseg_geo.models import switch
from mmovseg_geo.tiles import Tiling

Attention = Literal["vanilla", "maskclip", "clearclip", "sclip", "segearth", "naclip", "gem"]
Upsampling = Literal["jbu_one", "jbu_stack", "bilinear"]

LARGEST_IMAGE = 8192
"""Pixels along a side of an image that is scaled as a whole."""


@dataclass(frozen=True)
class Recipe:
    """How an image is seen, scored and decided; the defaults are those of SegEarth-OV.

    Attributes:
        attention: of the changed last blocks.
        last: how many last blocks are changed, their outputs summed.
        residual: keep skip connection and MLP in those outputs.
        bias: factor of the similarity of CLS, which is added; negative takes away what the whole image says. 0: off.
        temperature: of the softmax over all words.
        upsampler: `auto`, `jbu_one`, `jbu_stack`, `bilinear`, `none` or a checkpoint file. `auto` is `jbu_one` where
            its weights are at hand. Without one, the scores are resized instead of the features.
        window, stride: of the windows, in working pixels; a window of 0 is the whole image.
        factor: working pixels to one pixel of the scene, along an axis: the published 448 for an image of 1000 pixels.
        long_edge: where not 0, each image's longer side becomes this many working pixels, whatever `factor` says. The
            published programs do so with the images of a data set; tiles of a scene should have one scale.

    Raises:
        ConfigError: numbers that do not go together.
    """

    attention: Attention = "segearth"
    last: int = 1
    residual: bool = False
    bias: float = -0.3
    temperature: float = 50.0
    upsampler: str = "auto"
    window: int = 224
    stride: int = 112
    factor: float = 0.448
    long_edge: int = 0

    def __post_init__(self) -> None:
        if self.attention == "gem" and self.bias:
            raise ConfigError(f"attention gem has no CLS vector, so a bias of {self.bias:g} cannot be: give bias=0.")
        for name, value, least in (
            ("last", self.last, 1),
            ("window", self.window, 0),
            ("long_edge", self.long_edge, 0),
        ):
            if value < least:
                raise ConfigError(f"{name} {value} is too small; give at least {least}.")
        if self.window and not 0 < self.stride <= self.window:
            raise ConfigError(f"stride {self.stride} does not fit windows of {self.window}; give 1 to {self.window}.")
        if not math.isfinite(self.bias):
            raise ConfigError(f"bias {self.bias:g} is not a finite number; give 0 to leave it out.")
        for name, number in (("factor", self.factor), ("temperature", self.temperature)):
            if not (math.isfinite(number) and number > 0):
                raise ConfigError(f"{name} {number:g} is not a positive number.")

    def with_options(self, options: Mapping[str, Any]) -> Recipe:
        """The recipe with values, or their text, in the place of its own.

        Raises:
            ConfigError: an unknown name or a value that cannot be meant.

        >>> Recipe().with_options({"bias": "0", "attention": "sclip"}).bias
        0.0
        """
        known = [entry.name for entry in fields(self)]
        for name in options:
            if name not in known:
                raise ConfigError(f"model option {name!r} is unknown. {did_you_mean(name, known)}")
        return replace(self, **{name: READERS[name](value) for name, value in options.items()})

    def tiling(self) -> Tiling:
        """Tiles that are one window each, so that blending them is the published average over windows.

        Where the whole image is one window, it is a tile of two published windows a side, as the images were; with a
        `long_edge`, tiles are whole images.
        """
        if self.long_edge:
            return Tiling(LARGEST_IMAGE, 0, "uniform")
        size = self.window or 2 * Recipe.window
        step = self.stride if self.window else size // 2
        return Tiling(max(round(size / self.factor), 1), round((size - step) / self.factor), "uniform")


def _number(value: Any, *, name: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ConfigError(f"model option {name} {value!r} is not a number.") from None


def _whole(value: Any, *, name: str) -> int:
    number = _number(value, name=name)
    if not number.is_integer():
        raise ConfigError(f"model option {name} {value!r} is not a whole number.")
    return int(number)


def _attention(value: Any) -> str:
    if value not in get_args(Attention):
        raise ConfigError(f"attention {value!r} is unknown. {did_you_mean(str(value), get_args(Attention))}")
    return str(value)


READERS: dict[str, Callable[[Any], Any]] = {
    "attention": _attention,
    "upsampler": str,
    "residual": partial(switch, "residual"),
    **{name: partial(_whole, name=name) for name in ("last", "window", "stride", "long_edge")},
    **{name: partial(_number, name=name) for name in ("bias", "temperature", "factor")},
}

SEGEARTH_OV = Recipe()
SEGEARTH_OV2_SAR = Recipe(attention="sclip", last=2)
