"""How a batch of tiles is shown to a network, and how its logits come back as scores of the tile's own pixels.

Shape suffixes: B tiles, C bands, T words, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from mmovseg_geo.models.mmovseg.compact import fuse_norms, image_planes, paired_bands
from mmovseg_geo.models.mmovseg.network import MMOVSeg
from mmovseg_geo.models.mmovseg.preprocessing import pad_to_multiple, scores_on_tile
from mmovseg_geo.models.mmovseg.text_tower import TextTower
from mmovseg_geo.tiles import Tiling

Forward: TypeAlias = Callable[..., Tensor]
"""`MMOVSeg.forward`, of a network or of what was compiled of it."""


class Pixels(NamedTuple):
    """One sensor of a batch: image (B, C, H, W) in 0..255 and validity (B, H, W), 1 where there is data."""

    image: Tensor
    valid: Tensor


def shape_of(*sensors: Pixels | None) -> tuple[int, int]:
    """Rows and columns of the tiles, of which at least one sensor saw something."""
    image = next(seen.image for seen in sensors if seen is not None)
    return image.shape[-2], image.shape[-1]


class View(Protocol):
    """What differs between the variants beside their networks.

    Attributes:
        sar_bands: of SAR that are looked at, at most.
    """

    sar_bands: int

    @property
    def provenance(self) -> dict[str, Any]:
        """What a map should say of the choices that were made here."""
        ...

    def prepared(self, network: MMOVSeg) -> MMOVSeg:
        """The network ready for inference."""
        ...

    def text(self, network: MMOVSeg, words: Sequence[str]) -> Tensor:
        """Unit vectors (T, C) of words."""
        ...

    def scores(
        self, network: Forward, optical: Pixels | None, sar: Pixels | None, text: Tensor, gsd_m: float
    ) -> Tensor:
        """Scores (B, T, H, W) in 0..1."""
        ...

    def tiling(self, gsd_m: float | None) -> Tiling:
        """Tiles for scenes of that ground sampling distance."""
        ...


class CompactView:
    """`mmovseg-compact`: finer scenes are averaged to the working distance; coarser ones are taken as they are."""

    WORKING_M = 0.3
    MULTIPLE = 32
    SIZE, OVERLAP = 512, 64
    LARGEST_TILE = 1024
    sar_bands: int = 2

    @property
    def provenance(self) -> dict[str, Any]:
        return {}

    def prepared(self, network: MMOVSeg) -> MMOVSeg:
        fuse_norms(network.eval())
        return network.to(memory_format=torch.channels_last)

    def text(self, network: MMOVSeg, words: Sequence[str]) -> Tensor:
        assert isinstance(network.text, TextTower), "a compact network carries its text tower"
        return network.text.embed(words)

    def scores(
        self, network: Forward, optical: Pixels | None, sar: Pixels | None, text: Tensor, gsd_m: float
    ) -> Tensor:
        factor = self.reduction(gsd_m)
        paired = None if sar is None else sar._replace(image=paired_bands(sar.image))
        shown = [None if seen is None else self._shown(seen, factor, gsd_m) for seen in (optical, paired)]
        (planes, valid), (sar_planes, sar_valid) = (pair or (None, None) for pair in shown)
        logits = network(planes, sar_planes, text, valid, sar_valid)
        rows, cols = next(image for image in (planes, sar_planes) if image is not None).shape[-2:]
        return scores_on_tile(logits, shape_of(optical, sar), (rows * factor, cols * factor))

    def tiling(self, gsd_m: float | None) -> Tiling:
        factor = self.reduction(gsd_m) if gsd_m else 1
        return Tiling(min(self.SIZE * factor, self.LARGEST_TILE), self.OVERLAP * min(factor, 2))

    def reduction(self, gsd_m: float) -> int:
        """Scene pixels along one axis that become one of the network's."""
        return max(1, round(self.WORKING_M / gsd_m)) if gsd_m > 0 else 1

    def _shown(self, seen: Pixels, factor: int, gsd_m: float) -> tuple[Tensor, Tensor]:
        image = pad_to_multiple(seen.image, self.MULTIPLE * factor)
        valid = pad_to_multiple(seen.valid, self.MULTIPLE * factor)
        if factor > 1:
            share = F.avg_pool2d(valid[:, None], factor)
            image = F.avg_pool2d(image, factor) / share.clamp(min=1e-3)
            valid = share[:, 0]
        return image_planes(image, valid, gsd_m * factor), valid
