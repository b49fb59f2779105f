"""`mmovseg-compact`: MM-OVSeg with small convolutional encoders.

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

from mmovseg_geo.errors import WeightsError
from mmovseg_geo.models.mmovseg.features import OpticalFeatures, Pyramid, Size
from mmovseg_geo.models.mmovseg.head import CostHead
from mmovseg_geo.models.mmovseg.lite import Inverted, Lite0, Separable
from mmovseg_geo.models.mmovseg.network import Adapters, MMOVSeg
from mmovseg_geo.models.mmovseg.params import HeadParams
from mmovseg_geo.models.mmovseg.preprocessing import resize
from mmovseg_geo.models.mmovseg.text_tower import TextParams, TextTower
from mmovseg_geo.models.state_dict import load
from mmovseg_geo.models.weights import Weights

MEAN, STD = 115.0, 55.0
"""Of both sensors in 0..255."""
FINEST_M, COARSEST_M = 0.25, 40.0
"""Ground sampling distances beyond these are taken for the nearer one."""
EXTRA_PLANES = 2
NEARNESS = 0.1
"""Cosine by which one kind must be nearer to a word than another to say e times as much of it."""
COST_GAIN = 16.0
"""How steeply the fused cost answers to a cosine at first."""


@dataclass(frozen=True)
class TrunkParams:
    """Channels at strides 2, 4, 8, 16 and 32, of what is merged at stride 4, and of the guidance at stride 2."""

    widths: tuple[int, int, int, int, int]
    merged: int
    fine: int


@dataclass(frozen=True)
class CompactParams:
    """The numbers of a compact network; the cost grid has stride 4, guidance and logits stride 2.

    Attributes:
        kinds: of land cover, by which the encoders speak to the head.
    """

    optical: TrunkParams
    sar: TrunkParams
    text: TextParams
    head: HeadParams
    kinds: int = 59


def mmovseg_compact() -> CompactParams:
    """The numbers of the bundled weights.

    No aggregation layer: on a CPU one costs more than both encoders, and it can be added to trained weights later.
    """
    return CompactParams(
        optical=TrunkParams((16, 24, 40, 112, 320), merged=80, fine=24),
        sar=TrunkParams((16, 32, 64, 128, 128), merged=48, fine=16),
        text=TextParams(),
        head=HeadParams(
            text_dim=128,
            hidden_dim=24,
            appearance_dim=32,
            text_guidance_dim=32,
            guidance_dims=(24,),
            guidance_proj=(12,),
            decoder_dims=(16,),
            num_layers=0,
            num_heads=2,
            mlp_ratio=2,
            window=8,
            padded_classes=0,
            fusion_kernel=3,
            channels_per_group=4,
        ),
    )


def build(params: CompactParams) -> MMOVSeg:
    """The network with fresh weights."""
    optical, sar, head = params.optical, params.sar, params.head
    return MMOVSeg(
        optical=ConvOptical(optical, params.kinds),
        sar=Trunk(sar, PlainStages(2 + EXTRA_PLANES, sar.widths)),
        adapters=Adapters(
            clip=_to_guidance(optical, head),
            optical=[*_to_guidance(optical, head), nn.Conv2d(optical.merged, params.kinds, 1)],
            sar=[*_to_guidance(sar, head), nn.Conv2d(sar.merged, params.kinds, 1)],
        ),
        head=_sensitive(_without_tile_statistics(SpeakingHead(head, params.kinds))),
        text=TextTower(params.text),
    ).to(memory_format=torch.channels_last)


def trained(weights: Weights) -> MMOVSeg:
    """The network of a weights file.

    Raises:
        WeightsError: the file is damaged, is another network's, or was written before words were heard as now.
    """
    network, state = build(mmovseg_compact()), weights.tensors()
    if "head.leaning" in state and "head.heard" not in state:
        raise WeightsError(
            f"{weights.path}: written by an earlier version of mmovseg, in which words were heard otherwise.\n"
            "  Train again with this version (`mmovseg train`), or go back to the one that wrote the file."
        )
    load(network, state, source=str(weights.path))
    return network


class Trunk(nn.Module):
    """A hierarchical convolutional encoder whose coarse context flows back to strides 4 and 2.

    Args:
        stages: image planes in, maps at strides 2, 4, 8, 16 and 32 out.
    """

    def __init__(self, params: TrunkParams, stages: nn.Module) -> None:
        super().__init__()
        w2, *coarser = params.widths
        self.stages = stages
        self.laterals = nn.ModuleList(nn.Conv2d(width, params.merged, 1) for width in coarser)
        self.merges = nn.ModuleList(_conv(params.merged, params.merged) for _ in coarser[1:])
        self.to_fine = nn.Conv2d(params.merged, params.fine, 1)
        self.lateral2 = nn.Conv2d(w2, params.fine, 1)
        self.fine = _conv(params.fine, params.fine)

    def forward(self, image: Tensor, size: Size | None = None) -> Pyramid:
        """Features at strides 2 and 4 of image planes whose rows and columns are multiples of 32."""
        if self.training:
            seen_B = image[:, -EXTRA_PLANES].flatten(1).any(1)
            if seen_B.any() and not seen_B.all():
                return self._of_rows(image, size, seen_B)
        x2, *coarser = self.stages(resize(image, size).contiguous(memory_format=torch.channels_last))
        x = self.laterals[-1](coarser[-1])
        for level in (2, 1, 0):
            x = self.merges[level](_doubled(x) + self.laterals[level](coarser[level]))
        return self.fine(_doubled(self.to_fine(x)) + self.lateral2(x2)), x

    def _of_rows(self, image: Tensor, size: Size | None, seen_B: Tensor) -> Pyramid:
        """Features of the images that show something, zeros for others, which must not move the norms' statistics."""
        rows = seen_B.nonzero()[:, 0]
        maps: Pyramid = self(image[rows], size)
        return tuple(map_.new_zeros(len(image), *map_.shape[1:]).index_copy(0, rows, map_) for map_ in maps)


class PlainStages(nn.Module):
    """Residual blocks at strides 2 to 32."""

    def __init__(self, planes: int, widths: tuple[int, int, int, int, int]) -> None:
        super().__init__()
        w2, w4, w8, w16, w32 = widths
        self.stride2 = nn.Sequential(_conv(planes, w2, stride=2), _conv(w2, w2))
        self.stride4 = nn.Sequential(_conv(w2, w4, stride=2), Residual(w4))
        self.stride8 = nn.Sequential(_conv(w4, w8, stride=2), Residual(w8), Residual(w8))
        self.stride16 = nn.Sequential(_conv(w8, w16, stride=2), Residual(w16), Residual(w16))
        self.stride32 = nn.Sequential(_conv(w16, w32, stride=2), Residual(w32))

    def forward(self, planes: Tensor) -> list[Tensor]:
        """Maps at strides 2, 4, 8, 16 and 32."""
        maps = [self.stride2(planes)]
        for stage in (self.stride4, self.stride8, self.stride16, self.stride32):
            maps.append(stage(maps[-1]))
        return maps


class ConvOptical(nn.Module):
    """One trunk in both optical roles."""

    def __init__(self, params: TrunkParams, kinds: int) -> None:
        super().__init__()
        self.trunk = Trunk(params, Lite0(3 + EXTRA_PLANES))
        self.to_kinds = nn.Conv2d(params.merged, kinds, 1)

    def forward(self, image: Tensor, size: Size | None = None) -> OpticalFeatures:
        x2, x4 = self.trunk(image, size)
        return OpticalFeatures(dense=self.to_kinds(x4), hooks=(x2,), pyramid=(x2, x4))


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
    """The same network for inference, with every batch norm of the encoders folded into the convolution before it."""
    before: tuple[str, nn.Module] | None = None
    for name, child in module.named_children():
        if isinstance(child, nn.Sequential) and len(child) > 1 and isinstance(child[1], nn.BatchNorm2d):
            fused: nn.Module = fuse_conv_bn_eval(child[0], child[1])  # type: ignore[type-var]
            setattr(module, name, nn.Sequential(fused, *child[2:]))
        elif isinstance(child, nn.BatchNorm2d) and isinstance(module, Lite0 | Separable | Inverted):
            assert before is not None, "a convolution stands before every norm"
            setattr(module, before[0], fuse_conv_bn_eval(before[1], child))  # type: ignore[type-var]
            setattr(module, name, nn.Identity())
        else:
            fuse_norms(child)
        before = name, child
    return module


class SpeakingHead(CostHead):
    """A cost head for encoders that tell kinds of land cover apart, and whose logits lean.

    Its dense inputs (B, K, H, W) are logits of K kinds. What they say in the space of the text is the mean of the
    kinds' vectors, each as likely as it is (a convex combination of semantic embeddings, arXiv:1312.5650): words that
    mean nearly the same find the same places, whether they were trained or not. Logits of two sensors add up to what
    both together say, and logits of zero, as where a sensor is missing, say nothing. Words are heard half as they are,
    half as their nearest kinds, see `hear`.

    A word leans as the kinds nearest to it do, in the mean, so that new words lean too.

    Attributes:
        vectors: (K, C) of the kinds, as the encoders mean them.
        heard: (K, C) the same, as users mean them: a desert is bare ground on most maps. They are those of `vectors`
            until they are set, see `training.calibration`.
        leaning: (K) how far the logits of each kind lean where the optical image alone shows something. Training asks
            for rare and frequent words alike; how often each is true in the end is for `leaning` to say. It is zero
            until it is set, see `training.calibration`.
        claiming: (K) the same, wherever a word is told from a background: whoever asks for water alone has more of it
            than the world; see `lean_for`.
    """

    def __init__(self, params: HeadParams, kinds: int) -> None:
        super().__init__(params)
        self.vectors = nn.Parameter(torch.randn(kinds, params.text_dim) * params.text_dim**-0.5, requires_grad=False)
        self.heard = nn.Parameter(self.vectors.detach().clone(), requires_grad=False)
        self.leaning = nn.Parameter(torch.zeros(kinds), requires_grad=False)
        self.claiming = nn.Parameter(torch.zeros(kinds), requires_grad=False)

    @torch.no_grad()
    def name(self, vectors_KC: Tensor) -> None:
        """Give the kinds vectors, as which they are heard too."""
        self.vectors.copy_(vectors_KC)
        self.heard.copy_(vectors_KC)

    @torch.no_grad()
    def lean_for(self, *, background: bool) -> None:
        """Keep what words claim where each is told from a `background`, or drop it where one of the words is true."""
        if not background:
            self.claiming.zero_()

    def speak(self, dense_BKHW: Tensor) -> Tensor:
        """Logits of kinds in the space of the text (B, C, H, W); zero where all are alike."""
        shares_BKHW = dense_BKHW.softmax(1) - 1 / dense_BKHW.shape[1]
        return F.conv2d(shares_BKHW, self.vectors.T[..., None, None])

    def forward(
        self,
        clip_dense: Tensor,
        dense: Tensor,
        text: Tensor,
        clip_guidance: tuple[Tensor, ...],
        dino_guidance: tuple[Tensor, ...],
        appearance: Tensor | None = None,
        *,
        radar: Tensor | None = None,
    ) -> Tensor:
        """As `CostHead`."""
        said, nearest = (self.speak(clip_dense), self.speak(dense)), self.nearest(text)
        logits = super().forward(*said, self.hear(text), clip_guidance, dino_guidance, appearance)
        # Chips that only the optical image shows say how words lean. Features of what is not seen are zero.
        alone = clip_dense.any(1, keepdim=True)
        if radar is not None:
            alone &= ~radar.any(1, keepdim=True)
        seen = F.interpolate(alone.to(logits.dtype), logits.shape[-2:])
        return logits + (nearest @ self.leaning)[..., None, None] * seen + (nearest @ self.claiming)[..., None, None]

    def nearest(self, text: Tensor) -> Tensor:
        """Shares (..., K) of the kinds in what words mean, the nearest counting most; they add up to 1."""
        cosines = F.normalize(text, dim=-1) @ F.normalize(self.vectors, dim=-1).T
        return (cosines / NEARNESS).softmax(-1)

    def hear(self, text: Tensor) -> Tensor:
        """Unit vectors (..., C) of words, half their own and half the mean of the kinds, the nearest counting most.

        Much of a rare word's vector ("steppe", "copse") points where no kind does. By its own it would be weakly true
        of its kind and lose every pixel to a word that training asked for; an absurd one stays far from all kinds.
        """
        own, kinds_KC = F.normalize(text, dim=-1), F.normalize(self.heard, dim=-1)
        return F.normalize(own + F.normalize(self.nearest(text) @ kinds_KC, dim=-1), dim=-1)


def _without_tile_statistics(head: CostHead) -> CostHead:
    """Batch norms in the place of the decoder's group norms.

    A group norm takes mean and spread from the tile: what is absent everywhere then looks like what is present, and a
    pixel's score depends on where its tile ends.
    """
    for stage in head.decoder.stages:
        for name in ("norm1", "norm2"):
            setattr(stage, name, nn.BatchNorm2d(getattr(stage, name).num_channels))
    return head


@torch.no_grad()
def _sensitive(head: CostHead) -> CostHead:
    """Cosines that move the cost from the first step on: each channel answers around a cosine of its own.

    With the usual start the cost hardly answers to the few tenths by which cosines differ, and encoders that are
    trained from nothing learn next to nothing through it.
    """
    centers = torch.linspace(0, 0.9, head.fusion.hidden_dim)
    for convolution in (head.fusion.clip, head.fusion.dino):
        convolution.weight += COST_GAIN / convolution.weight[0].numel()
        convolution.bias.copy_(-COST_GAIN * centers)  # type: ignore[union-attr]
    return head


def _to_guidance(trunk: TrunkParams, head: HeadParams) -> list[nn.Module]:
    """From stride 2."""
    return [nn.Conv2d(trunk.fine, dim, 1) for dim in head.guidance_dims]


def _conv(inputs: int, outputs: int, *, stride: int = 1, activate: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if activate else nn.Sequential(*layers)


def _doubled(x_BCHW: Tensor) -> Tensor:
    return F.interpolate(x_BCHW, scale_factor=2, mode="bilinear", align_corners=False)
