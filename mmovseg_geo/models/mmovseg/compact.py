"""`mmovseg-compact`: MM-OVSeg with small convolutional encoders, trained from scratch.

One optical trunk serves as CLIP (dense features in the space of the text, and a hook) and as optical DINO; a smaller
one reads SAR. Unlike the published variants the encoders know the ground sampling distance and which pixels are valid,
from further input planes (see `image_planes`).
Shape suffixes: B batch, C channels, H rows, W columns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mmovseg_geo.models.mmovseg.features import OpticalFeatures, Pyramid, Size
from mmovseg_geo.models.mmovseg.head import CostHead
from mmovseg_geo.models.mmovseg.network import Adapters, MMOVSeg
from mmovseg_geo.models.mmovseg.params import HeadParams
from mmovseg_geo.models.mmovseg.preprocessing import resize
from mmovseg_geo.models.mmovseg.text_tower import TextParams, TextTower

MEAN, STD = 115.0, 55.0
"""Of both sensors in 0..255."""
FINEST_M, COARSEST_M = 0.25, 40.0
"""Ground sampling distances beyond these are taken for the nearer one."""
EXTRA_PLANES = 2


@dataclass(frozen=True)
class TrunkParams:
    """Bands of the sensor, channels at strides 2, 4, 8, 16 and 32, residual blocks at strides 4, 8, 16 and 32."""

    bands: int
    widths: tuple[int, int, int, int, int]
    blocks: tuple[int, int, int, int] = (1, 2, 2, 1)


@dataclass(frozen=True)
class CompactParams:
    """The numbers of a compact network; the cost grid has stride 8, guidance and logits have stride 4."""

    optical: TrunkParams
    sar: TrunkParams
    text: TextParams
    head: HeadParams


def mmovseg_compact() -> CompactParams:
    """The numbers of the bundled weights.

    No aggregation layer: on a CPU one costs more than both encoders, and it can be added to trained weights later.
    """
    return CompactParams(
        optical=TrunkParams(3, (24, 48, 96, 160, 192)),
        sar=TrunkParams(2, (16, 32, 64, 128, 128)),
        text=TextParams(),
        head=HeadParams(
            text_dim=128,
            hidden_dim=24,
            appearance_dim=32,
            text_guidance_dim=32,
            guidance_dims=(48,),
            guidance_proj=(8,),
            decoder_dims=(16,),
            num_layers=0,
            num_heads=2,
            mlp_ratio=2,
            window=8,
            padded_classes=0,
            fusion_kernel=3,
            channels_per_group=8,
        ),
    )


def build(params: CompactParams) -> MMOVSeg:
    """The network with fresh weights."""
    optical, sar, head = params.optical, params.sar, params.head
    return MMOVSeg(
        optical=ConvOptical(optical, head.text_dim),
        sar=ConvTrunk(sar),
        adapters=Adapters(
            clip=[nn.Conv2d(optical.widths[1], head.guidance_dims[0], 1)],
            optical=_to_head(optical, head),
            sar=_to_head(sar, head),
        ),
        head=_without_tile_statistics(CostHead(head)),
        text=TextTower(params.text),
    ).to(memory_format=torch.channels_last)


class ConvTrunk(nn.Module):
    """A hierarchical convolutional encoder whose coarse context flows back to stride 8."""

    def __init__(self, params: TrunkParams) -> None:
        super().__init__()
        w2, w4, w8, w16, w32 = params.widths
        n4, n8, n16, n32 = params.blocks
        self.stride2 = nn.Sequential(_conv(params.bands + EXTRA_PLANES, w2, stride=2), _conv(w2, w2))
        self.stride4 = nn.Sequential(_conv(w2, w4, stride=2), *(Residual(w4) for _ in range(n4)))
        self.stride8 = nn.Sequential(_conv(w4, w8, stride=2), *(Residual(w8) for _ in range(n8)))
        self.stride16 = nn.Sequential(_conv(w8, w16, stride=2), *(Residual(w16) for _ in range(n16)))
        self.stride32 = nn.Sequential(_conv(w16, w32, stride=2), *(Residual(w32) for _ in range(n32)))
        self.lateral32 = nn.Conv2d(w32, w16, 1)
        self.lateral16 = nn.Conv2d(w16, w8, 1)
        self.merge = Residual(w8)

    def forward(self, image: Tensor, size: Size | None = None) -> Pyramid:
        """Features at strides 4 and 8 of image planes whose rows and columns are multiples of 32."""
        x4 = self.stride4(self.stride2(resize(image, size).contiguous(memory_format=torch.channels_last)))
        x8 = self.stride8(x4)
        x16 = self.stride16(x8)
        x16 = x16 + _doubled(self.lateral32(self.stride32(x16)))
        return x4, self.merge(x8 + _doubled(self.lateral16(x16)))


class ConvOptical(nn.Module):
    """One trunk in both optical roles."""

    def __init__(self, params: TrunkParams, text_dim: int) -> None:
        super().__init__()
        self.trunk = ConvTrunk(params)
        self.to_text = nn.Conv2d(params.widths[2], text_dim, 1)

    def forward(self, image: Tensor, size: Size | None = None) -> OpticalFeatures:
        x4, x8 = self.trunk(image, size)
        return OpticalFeatures(dense=self.to_text(x8), hooks=(x4,), pyramid=(x4, x8))


class Residual(nn.Module):
    """Two 3 x 3 convolutions beside an identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _conv(width, width)
        self.second = _conv(width, width, activate=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return F.relu(x_BCHW + self.second(self.first(x_BCHW)))


def image_planes(image_BCHW: Tensor, valid_BHW: Tensor | None, gsd_m: Tensor | float) -> Tensor:
    """What an encoder reads: the image in 0..255 normalized, its validity, and the logarithm of the ground sampling
    distance in -1..1; all of them 0 where the image is invalid. `gsd_m` is one number or one for each image (B,).
    """
    gsd = torch.as_tensor(gsd_m, dtype=image_BCHW.dtype, device=image_BCHW.device).clamp(FINEST_M, COARSEST_M)
    middle, reach = math.log(FINEST_M * COARSEST_M) / 2, math.log(COARSEST_M / FINEST_M) / 2
    shape = (len(image_BCHW), 1, *image_BCHW.shape[2:])
    valid = image_BCHW.new_ones(shape) if valid_BHW is None else valid_BHW[:, None].to(image_BCHW.dtype)
    scale = ((gsd.log() - middle) / reach).reshape(-1, 1, 1, 1).expand(shape)
    return torch.cat([(image_BCHW - MEAN) / STD, torch.ones_like(valid), scale], dim=1) * valid


def paired_bands(sar_BCHW: Tensor) -> Tensor:
    """Two bands of SAR: one that is alone stands for both, further ones are left out."""
    return sar_BCHW.expand(-1, 2, -1, -1) if sar_BCHW.shape[1] == 1 else sar_BCHW[:, :2]


def fuse_norms(module: nn.Module) -> nn.Module:
    """The same network for inference, with every batch norm folded into the convolution before it."""
    for name, child in module.named_children():
        if isinstance(child, nn.Sequential) and len(child) > 1 and isinstance(child[1], nn.BatchNorm2d):
            fused: nn.Module = fuse_conv_bn_eval(child[0], child[1])  # type: ignore[type-var]
            setattr(module, name, nn.Sequential(fused, *child[2:]))
        else:
            fuse_norms(child)
    return module


def _without_tile_statistics(head: CostHead) -> CostHead:
    """Batch norms in the place of the decoder's group norms.

    A group norm takes mean and spread from the tile: what is absent everywhere then looks like what is present, and a
    pixel's score depends on where its tile ends.
    """
    for stage in head.decoder.stages:
        for name in ("norm1", "norm2"):
            setattr(stage, name, nn.BatchNorm2d(getattr(stage, name).num_channels))
    return head


def _to_head(trunk: TrunkParams, head: HeadParams) -> list[nn.Module]:
    return [nn.Conv2d(trunk.widths[1], head.guidance_dims[0], 1), nn.Conv2d(trunk.widths[2], head.text_dim, 1)]


def _conv(inputs: int, outputs: int, *, stride: int = 1, activate: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if activate else nn.Sequential(*layers)


def _doubled(x_BCHW: Tensor) -> Tensor:
    return F.interpolate(x_BCHW, scale_factor=2, mode="bilinear", align_corners=False)
