"""The MM-OVSeg network that a stage begins with, and the file that it becomes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmovseg_geo.errors import ConfigError, WeightsError, did_you_mean
from mmovseg_geo.models.convert import CHECKSUM, Converted, checksum, write
from mmovseg_geo.models.mmovseg import named, variants
from mmovseg_geo.models.mmovseg.checkpoint import build_loaded
from mmovseg_geo.models.mmovseg.network import MMOVSeg
from mmovseg_geo.models.mmovseg.params import MMOVSegParams
from mmovseg_geo.models.mmovseg.start import with_encoders
from mmovseg_geo.models.weights import Weights, open_weights
from mmovseg_geo.training.stages.attention_rows import joined_state

logger = logging.getLogger(__name__)

NAMES = {
    "mmovseg-vitb16": (named.CLIP, named.DINO, 384),
    "mmovseg-vitl14": ("ViT-L-14-336-quickgelu", "vit_large_patch16_dinov3_qkvb.sat493m", 384),
}
"""The published variants by the names of their encoders: open_clip's, timm's, and the size of tiles."""


@dataclass(frozen=True)
class Encoders:
    """A network by its parts, where it is no published variant: see `named.named`."""

    clip: str = named.CLIP
    dino: str = named.DINO
    size: int = named.SIZE


@dataclass(frozen=True)
class Start:
    """What a network begins with; what is not given starts at random.

    Attributes:
        clip, dino, sar: files, or names of published sets that are on this machine; see `start.with_encoders`.
        weights: a weights file of mmovseg for the whole network; it also says which network it is.
    """

    clip: str | None = None
    dino: str | None = None
    sar: str | None = None
    weights: Path | None = None


@dataclass(frozen=True)
class Begun:
    """A network, its numbers, the variant that its weights are for, and what they say of themselves so far."""

    network: MMOVSeg
    params: MMOVSegParams
    variant: str
    details: Mapping[str, str]


def begin(network: str | Encoders, start: Start, *, needed: Sequence[str] = ("clip", "dino", "sar")) -> Begun:
    """The network of a recipe.

    Args:
        needed: encoders that a stage makes no sense without; a line says which of them start at random.

    Raises:
        ConfigError: an unknown network, or parts that do not go together.
        WeightsError: weights that are missing or for another network.
    """
    if start.weights is not None:
        return _continued(open_weights(start.weights))
    if isinstance(network, str) and network not in NAMES:
        known = (*NAMES, "or clip, dino and size")
        raise ConfigError(f"network {network!r} is unknown. {did_you_mean(network, known)}")
    parts = Encoders(*NAMES[network]) if isinstance(network, str) else network
    params = named.named(parts.clip, parts.dino, size=parts.size)
    for role, given in (("clip", start.clip), ("dino", start.dino), ("sar", start.sar)):
        if given is None:
            logger.warning(
                "start.%s is not given: that encoder starts at random, and stays so where it is frozen.", role
            )
    begun = with_encoders(params, clip=start.clip, dino=start.dino, sar=start.sar)
    return Begun(begun, params, network if isinstance(network, str) else named.VARIANT, {})


def published_params(variant: str) -> MMOVSegParams | None:
    """The numbers of a published variant, None for others."""
    return variants.PUBLISHED[variant]() if variant in variants.PUBLISHED else None


def write_network(path: Path, network: MMOVSeg, begun: Begun, about: Mapping[str, str]) -> Path:
    """Write a trained network as `--model PATH` takes it.

    Raises:
        OutputError: it cannot be written.
    """
    tensors = {name: value.cpu() for name, value in joined_state(network).items()}
    of_numbers = named.to_metadata(begun.params) if begun.variant == named.VARIANT else {"variant": begun.variant}
    metadata = {**of_numbers, "trained": "yes", **about, CHECKSUM: checksum(tensors)}
    return write(Converted(begun.variant, tensors, metadata), path, overwrite=True)


def _continued(found: Weights) -> Begun:
    params = published_params(found.variant)
    if params is None and found.variant == named.VARIANT:
        params = named.from_metadata(found.details, found.path)
    if params is None:
        raise WeightsError(
            f"{found.path}: weights of {found.variant}, which this stage cannot train; it trains networks of CLIP and\n"
            "  DINO: mmovseg-vitb16, mmovseg-vitl14 and mmovseg-custom."
        )
    return Begun(build_loaded(params, found.tensors(), source=str(found.path)), params, found.variant, found.details)
