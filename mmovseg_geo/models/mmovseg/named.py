"""A variant of MM-OVSeg from the names of its encoders: any CLIP ViT of open_clip, any DINO ViT of timm.

Its numbers are read off the libraries' own descriptions, without weights. They are kept in the metadata of its weights
files, so that a file needs no names to be read again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from timm.models import model_entrypoint

from mmovseg_geo.errors import ConfigError, WeightsError, did_you_mean
from mmovseg_geo.models.clip import dense_config
from mmovseg_geo.models.mmovseg.params import CLIPParams, DINOParams, HeadParams, MMOVSegParams

VARIANT = "mmovseg-custom"
CLIP, DINO, SIZE = "ViT-B-16-quickgelu", "vit_base_patch8_224.dino", 384
"""The names and the size of the published ViT-B variant."""
STRIDE = 16
_VISION = {"image_size", "patch_size", "width", "layers", "head_width", "mlp_ratio"}
_TEXT = {"context_length", "vocab_size", "width", "heads", "layers"}
_VIT_ROOMS = ("vision_transformer", "eva")
_DEEP_ENOUGH = 3  # one block for each third, see `hook_layers`


def named(clip: str = CLIP, dino: str = DINO, size: int | str = SIZE) -> MMOVSegParams:
    """The numbers of a variant.

    Args:
        clip: an open_clip architecture, such as `ViT-L-14`.
        dino: a timm name with its tag, such as `vit_base_patch14_dinov2.lvd142m`; the tag matters for DINOv1 only.
        size: height and width in pixels to which tiles are brought.

    Raises:
        ConfigError: an unknown name, or why it cannot be used.

    >>> named("ViT-L-14", "vit_small_patch14_dinov2.lvd142m").dino.embed_dim
    384
    """
    side = tile_size(size)
    words = clip_params(clip)
    return MMOVSegParams(
        clip=words, dino=dino_params(dino), head=HeadParams(text_dim=words.embed_dim), stride=STRIDE, native_size=side
    )


def clip_params(name: str) -> CLIPParams:
    """The numbers of an open_clip architecture.

    Raises:
        ConfigError: an unknown name, or an architecture without patches that can be compared with words: a ResNet,
            SigLIP, CoCa, ...
    """
    config = dense_config(name)
    vision, text = config["vision_cfg"], config["text_cfg"]
    further = sorted({*vision} - _VISION | {*text} - _TEXT)
    if further:
        raise ConfigError(
            f"encoder {name!r} cannot be used: MM-OVSeg builds plain CLIP towers, "
            f"and this one has {', '.join(further)}."
        )
    params = CLIPParams(
        embed_dim=config["embed_dim"],
        image_size=vision["image_size"],
        patch=vision["patch_size"],
        vision_width=vision["width"],
        vision_layers=vision["layers"],
        text_width=text["width"],
        text_heads=text["heads"],
        text_layers=text["layers"],
        context=text.get("context_length", 77),
        vocabulary=text.get("vocab_size", 49408),
        vision_head_width=vision.get("head_width", 64),
        vision_mlp_ratio=vision.get("mlp_ratio", 4.0),
        quick_gelu=bool(config.get("quick_gelu", False)),
        architecture=name,
    )
    _check_depth(name, params.vision_layers)
    return params


def dino_params(name: str) -> DINOParams:
    """The numbers of a DINO, DINOv2 or DINOv3 by timm; a patch that does not divide the cost cell is shown more pixels.

    Raises:
        ConfigError: an unknown name, a network that is no DINO, or a DINO that is no ViT.
    """
    family = _family(name)
    architecture = name.partition(".")[0]
    with torch.device("meta"):
        vit: Any = timm.create_model(architecture, pretrained=False, num_classes=0, dynamic_img_size=True)
    _check_depth(name, len(vit.blocks))
    patch = int(vit.patch_embed.patch_size[0])
    return DINOParams(
        family,
        embed_dim=vit.embed_dim,
        depth=len(vit.blocks),
        num_heads=vit.blocks[0].attn.num_heads,
        patch=patch,
        native_size=int(vit.patch_embed.img_size[0]),
        registers=vit.num_prefix_tokens - 1,
        tile_pixels=0 if STRIDE % patch == 0 else STRIDE,
        architecture=architecture,
    )


def _family(name: str) -> Literal["dinov1", "dinov2", "dinov3"]:
    known = dino_names()
    if name not in known:
        if timm.is_model(name.partition(".")[0]) and "dino" not in name:
            tag = next((found for found in known if found.startswith(f"{name}.")), None)
            advice = f"With DINO's weights it is {tag}." if tag else "Give one such as vit_base_patch14_dinov2.lvd142m."
            raise ConfigError(f"dino {name!r} is a network of timm, but no DINO. {advice}")
        lists = '`timm.list_models("*dino*", pretrained=True)` lists them.'
        raise ConfigError(f"dino {name!r} is no DINO that timm knows. {did_you_mean(name, known, otherwise=lists)}")
    room = model_entrypoint(name.partition(".")[0]).__module__.rpartition(".")[2]
    if room not in _VIT_ROOMS:
        raise ConfigError(
            f"dino {name!r} cannot be used: it is a {room}, no ViT. The method takes three block outputs of one width\n"
            "  on one grid of patches. Give a DINO ViT, such as vit_small_patch16_dinov3.lvd1689m."
        )
    if "dinov3" in name:
        return "dinov3"
    return "dinov2" if "dinov2" in name else "dinov1"


def dino_names() -> list[str]:
    """Names of timm that are a DINO, with their tags, and without where the architecture alone says so."""
    return [*timm.list_models("*dino*", pretrained=True), *timm.list_models("*dino*")]


def to_metadata(params: MMOVSegParams) -> dict[str, str]:
    """What a weights file says of these numbers."""
    return {
        "variant": VARIANT,
        "clip": params.clip.architecture,
        "dino": params.dino.architecture,
        "params": json.dumps(asdict(params)),
    }


def from_metadata(details: Mapping[str, str], source: str | Path) -> MMOVSegParams:
    """The numbers that a weights file was written with.

    Raises:
        WeightsError: it lacks them, or was written by another version.
    """
    if "params" not in details:
        raise WeightsError(f"{source}: says it is {VARIANT}, but not of which numbers (no `params` in its metadata).")
    try:
        found = json.loads(details["params"])
        head: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in found["head"].items()
        }
        return MMOVSegParams(
            clip=CLIPParams(**found["clip"]),
            dino=DINOParams(**found["dino"]),
            head=HeadParams(**head),
            stride=found["stride"],
            native_size=found["native_size"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{source}: its `params` cannot be read ({type(error).__name__}: {error}).\n"
            "  It was written by another version of mmovseg; use that one, or write the file again."
        ) from error


def check_same(asked: MMOVSegParams, found: MMOVSegParams, source: str | Path) -> None:
    """Refuse weights of other encoders than those asked for.

    Raises:
        WeightsError: says which encoder differs, and in what.
    """
    pairs = (("clip", asked.clip, found.clip), ("dino", asked.dino, found.dino))
    for option, wanted, has in pairs:
        ours, theirs = asdict(wanted), asdict(has)
        differs = [f"{key} {theirs[key]}, not {ours[key]}" for key in ours if ours[key] != theirs[key]]
        if differs:
            raise WeightsError(
                f"{source}: made with another {option} ({has.architecture}) than {wanted.architecture}: "
                f"{'; '.join(differs)}.\n"
                f"  Leave the option {option} out, or give weights of {wanted.architecture}."
            )


def _check_depth(name: str, depth: int) -> None:
    if depth < _DEEP_ENOUGH:
        raise ConfigError(
            f"encoder {name!r} cannot be used: it has {depth} blocks, and the method takes the outputs of "
            f"{_DEEP_ENOUGH} of them."
        )


def tile_size(size: int | str) -> int:
    """A height and width of tiles in pixels that is whole in cost cells, and in those that the class attention pools.

    Raises:
        ConfigError: it is not.
    """
    step = STRIDE * HeadParams().pooling
    try:
        side = int(size)
    except ValueError:
        raise ConfigError(f"model option size {size!r} is not a number of pixels.") from None
    if side < step or side % step:
        near = max(step, round(side / step) * step)
        raise ConfigError(
            f"model option size {side} does not fit: patches and cost cells divide multiples of {step} only. "
            f"The nearest is {near}."
        )
    return side
