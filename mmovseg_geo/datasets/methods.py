"""How published methods were run on the sets they were scored on: common settings here, exceptions in a set's file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from mmovseg_geo.models.segearth.recipe import Attention, Upsampling
from mmovseg_geo.tiles import Sensors

Words: TypeAlias = tuple[str, ...]
"""One class: its name, then its synonyms."""


@dataclass(frozen=True)
class SegEarthSettings:
    """A run of SegEarth-OV (arXiv 2410.01768) or SegEarth-OV-2 (arXiv 2508.18067); defaults are those of optical sets.

    Attributes:
        resize: pixels of the longer side that an image is resized to.
        window, stride: pixels of a square window and of the steps between windows; None for the whole image at once.
        last_n: number of last blocks whose outputs are summed.
        bias: lambda of the global bias alleviation.
        scale: what similarities are multiplied by before the softmax over query words.
        threshold: a pixel whose best class value is below becomes class `background`.
        classes: class index to words, where the method's differ from the set's.
    """

    sensors: Sensors = "optical"
    encoder: str = "clip-vitb16-openai"
    resize: int = 448
    window: int | None = 224
    stride: int | None = 112
    attention: Attention = "segearth"
    last_n: int = 1
    residual: bool = False
    upsampler: Upsampling = "jbu_one"
    bias: float = -0.3
    scale: float = 50.0
    threshold: float = 0.0
    background: int = 0
    classes: Mapping[int, Words] = field(default_factory=dict)


@dataclass(frozen=True)
class MMOVSegSettings:
    """A run of MM-OVSeg (arXiv 2603.17528), whole tile at once.

    Attributes:
        checkpoint: the official weights that were made for the set, as ARCHIVE/FILE.
        resize: pixels of the shorter side of the optical image before it is padded or cut to a square of `tile`.
        sar_alignment: `reference` leaves SAR at its own size (as published), `aligned` resizes it like the optical.
        prompt: the only template; `{}` is the class name.
        classes: class index to words, where the method's differ from the set's.
    """

    checkpoint: str
    sensors: Sensors = "both"
    resize: int = 384
    tile: int = 384
    sar_alignment: Literal["reference", "aligned"] = "reference"
    prompt: str = "A photo of a {} in the scene"
    classes: Mapping[int, Words] = field(default_factory=dict)


MethodSettings: TypeAlias = SegEarthSettings | MMOVSegSettings

COMMON: dict[str, MethodSettings] = {
    "mmovseg-vitb16": MMOVSegSettings(checkpoint=""),
    "mmovseg-vitl14": MMOVSegSettings(checkpoint=""),
    "segearth-ov": SegEarthSettings(),
    "segearth-ov2": SegEarthSettings(),
    "segearth-ov2-sar": SegEarthSettings(sensors="sar", encoder="alignearth-sar-vitb16", attention="sclip", last_n=2),
}
"""Method to the settings it had unless a set's file says otherwise."""
