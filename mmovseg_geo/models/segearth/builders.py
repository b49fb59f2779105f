"""The published training-free systems by name, put together from the weights on this machine."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from mmovseg_geo.errors import ConfigError, VocabularyError, WeightsError, did_you_mean
from mmovseg_geo.models import hub, registry
from mmovseg_geo.models.clip import dense_config
from mmovseg_geo.models.compute import device_of
from mmovseg_geo.models.segearth.encoder import load_encoder
from mmovseg_geo.models.segearth.recipe import SEGEARTH_OV, SEGEARTH_OV2_SAR, Recipe
from mmovseg_geo.models.segearth.segmenter import SegEarthSegmenter
from mmovseg_geo.models.segearth.upsampler import FACTOR, JointBilateralUpsampler, build_upsampler, load_upsampler
from mmovseg_geo.models.segearth.view import View
from mmovseg_geo.tiles import Sensor
from mmovseg_geo.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

UPSAMPLERS = {"jbu_one": "simfeatup-jbu-one", "jbu_stack": "featup-jbu-stack-clip"}
"""Kind to the name of its weights."""

OPENAI_CHANNELS = 512
"""Of the features that the published upsamplers were trained on."""

ENCODER_OPTIONS = ("encoder", "checkpoint", "activation")
OPTIONS = (*(entry.name for entry in fields(Recipe)), *ENCODER_OPTIONS)
"""What may be asked for of a sensor."""

FOREIGN = "ViT-B-16"
"""Architecture that a checkpoint given without one is taken for, as in the published program: with the exact GELU."""


@dataclass(frozen=True)
class Part:
    """One sensor of a published system.

    Attributes:
        encoder: its architecture; `weights`: the name of its weights.
    """

    sensor: Sensor
    encoder: str
    weights: str
    recipe: Recipe


OPTICAL = Part("optical", "ViT-B-16-quickgelu", "clip-vitb16-openai", SEGEARTH_OV)
SAR = Part("sar", "ViT-B-16", "alignearth-sar-vitb16", SEGEARTH_OV2_SAR)


def segearth_ov(
    vocabulary: Vocabulary | None = None, *, weights: Path | None = None, device: str = "auto",
    precision: str = "auto", gsd_m: float | None = None, **options: Any,
) -> SegEarthSegmenter:  # fmt: skip
    """SegEarth-OV: optical images; options are those of `Recipe`, `encoder`, `checkpoint` and `activation`."""
    return _built("segearth-ov", (OPTICAL,), vocabulary, weights, device, precision, options)


def segearth_ov2_sar(
    vocabulary: Vocabulary | None = None, *, weights: Path | None = None, device: str = "auto",
    precision: str = "auto", gsd_m: float | None = None, **options: Any,
) -> SegEarthSegmenter:  # fmt: skip
    """SegEarth-OV-2 with the AlignEarth encoder: SAR images; options as for `segearth_ov`."""
    return _built("segearth-ov2-sar", (SAR,), vocabulary, weights, device, precision, options)


def segearth_ov2(
    vocabulary: Vocabulary | None = None, *, weights: Path | None = None, device: str = "auto",
    precision: str = "auto", gsd_m: float | None = None, **options: Any,
) -> SegEarthSegmenter:  # fmt: skip
    """Both, their class values mixed: an addition of this project.

    An option means both sensors; `optical_NAME` and `sar_NAME` mean one. `optical_weight` is the share of the optical.
    """
    return _built("segearth-ov2", (OPTICAL, SAR), vocabulary, weights, device, precision, options)


def _built(
    name: str,
    parts: tuple[Part, ...],
    vocabulary: Vocabulary | None,
    weights: Path | None,
    device: str,
    precision: str,
    options: Mapping[str, Any],
) -> SegEarthSegmenter:
    if vocabulary is None:
        raise VocabularyError(f'{name} knows no classes of its own; give some: --classes "water,building|house".')
    if weights is not None:
        raise WeightsError(f"{name} takes its encoder by --model-option checkpoint=FILE, not as the model {weights}.")
    _check_names(name, parts, options)
    own, mixing = _by_sensor(name, parts, options)
    # All that was asked for is looked at, and every file found, before the first network is built.
    looks = [_look(part, own[part.sensor]) for part in parts]
    paths = _encoder_files(name, looks)
    words = [word for entry in vocabulary.classes for word in entry.words]
    views = {look.part.sensor: _view(look, path, words, device) for look, path in zip(looks, paths, strict=True)}
    return SegEarthSegmenter(name, views, vocabulary, device=device, precision=precision, **mixing)


def _check_names(name: str, parts: tuple[Part, ...], options: Mapping[str, Any]) -> None:
    of_one = [f"{part.sensor}_{option}" for part in parts for option in OPTIONS] if len(parts) > 1 else []
    known = [*OPTIONS, *of_one, *(["optical_weight"] if of_one else [])]
    others = "; optical_weight; and these with optical_ or sar_ before them for one sensor" if of_one else ""
    for option in options:
        if option not in known:
            advice = did_you_mean(option, known, otherwise=f"It has {', '.join(OPTIONS)}{others}.")
            raise ConfigError(f"{name} has no option {option!r}. {advice}")


def _by_sensor(
    name: str, parts: tuple[Part, ...], options: Mapping[str, Any]
) -> tuple[dict[Sensor, dict[str, Any]], dict[str, float]]:
    """The options of each sensor, and those of the mixture."""
    own: dict[Sensor, dict[str, Any]] = {part.sensor: {} for part in parts}
    if len(parts) == 1:
        own[parts[0].sensor].update(options)
        return own, {}
    mixing = {}
    for key, value in options.items():
        sensor, _, rest = key.partition("_")
        if key == "optical_weight":
            mixing[key] = _share(value)
        elif sensor in own and rest:
            own[sensor][rest] = value
        elif key in ENCODER_OPTIONS:
            raise ConfigError(f"{name} has two encoders: say which with optical_{key} or sar_{key}.")
        else:
            for of_sensor in own.values():
                of_sensor.setdefault(key, value)
    return own, mixing


def _share(value: Any) -> float:
    try:
        share = float(value)
    except (TypeError, ValueError):
        share = math.nan
    if not 0 <= share <= 1:
        raise ConfigError(f"model option optical_weight {value!r} is not a number of 0 to 1.")
    return share


class Look(NamedTuple):
    """How a sensor's images are looked at; `checkpoint` is None where the encoder's weights go by name."""

    part: Part
    recipe: Recipe
    encoder: str
    checkpoint: Path | None
    activation: str


def _look(part: Part, options: dict[str, Any]) -> Look:
    chosen: dict[str, str] = {key: str(options.pop(key)) for key in ENCODER_OPTIONS if key in options}
    recipe = part.recipe.with_options(options)
    known = ("auto", *UPSAMPLERS, "bilinear", "none")
    if recipe.upsampler not in known and not Path(recipe.upsampler).is_file():
        raise ConfigError(f"upsampler {recipe.upsampler!r} is neither a file nor known. Known: {', '.join(known)}.")
    checkpoint = Path(chosen["checkpoint"]) if "checkpoint" in chosen else None
    encoder = chosen.get("encoder", part.encoder if checkpoint is None else FOREIGN)
    dense_config(encoder)  # one that cannot be used needs no file
    return Look(part, recipe, encoder, checkpoint, chosen.get("activation", "auto"))


def _encoder_files(name: str, looks: list[Look]) -> list[Path]:
    """The weights of each encoder; one error tells of all that are missing."""
    found, missing = [], []
    for look in looks:
        if look.checkpoint is None and look.encoder != look.part.encoder:
            raise WeightsError(
                f"{name} has no weights for the encoder {look.encoder}.\n"
                "  Give the file too: --model-option checkpoint=FILE."
            )
        try:
            found.append(look.checkpoint or registry.weights_file(look.part.weights))
        except WeightsError as error:
            missing.append(str(error))
    if missing:
        raise WeightsError("\n".join(missing))
    return found


def _view(look: Look, path: Path, words: list[str], device: str) -> View:
    model = load_encoder(path, look.encoder, look.activation)
    visual = model.visual
    upsampler, about = _upsampler(look.recipe.upsampler, visual.output_dim, visual.patch_size[0])
    about |= {"encoder": look.encoder, "weights": path.name, "weights_sha256": hub.digest(path)}
    return View(model, upsampler, look.recipe, words, device=device_of(device), about=about)


def _upsampler(choice: str, channels: int, patch: int) -> tuple[nn.Module | None, dict[str, Any]]:
    """The module of a recipe's choice, None for none, and what the record of a run should say of it."""
    if choice == "auto":
        path, why = registry.cached(UPSAMPLERS["jbu_one"]), ""
        if patch != FACTOR or channels != OPENAI_CHANNELS:
            why = f"it was trained for patches of {FACTOR} pixels and {OPENAI_CHANNELS} channels"
        elif path is None:
            why = f"its weights are not on this machine: mmovseg models pull {UPSAMPLERS['jbu_one']}"
        if why:
            logger.warning("Features are upsampled bilinearly instead of by SimFeatUp, so edges are softer: %s.", why)
            return build_upsampler("bilinear", channels), {"upsampler": "bilinear", "upsampler_asked": choice}
        choice = "jbu_one"
    if choice == "none":
        return None, {}
    if choice == "bilinear":
        return build_upsampler("bilinear", channels), {}
    path = registry.weights_file(UPSAMPLERS[choice]) if choice in UPSAMPLERS else Path(choice)
    module = load_upsampler(path, patch=patch)
    if module.dim != channels:
        raise ConfigError(
            f"upsampler {path.name} is for {module.dim} channels, but the encoder has {channels}.\n"
            "  Give --model-option upsampler=bilinear, or another encoder."
        )
    return module, {"upsampler": _kind(module), "upsampler_sha256": hub.digest(path)}


def _kind(module: JointBilateralUpsampler) -> str:
    return "jbu_one" if hasattr(module, "up") else "jbu_stack"
