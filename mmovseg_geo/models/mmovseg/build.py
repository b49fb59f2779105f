"""The network of CLIP and two DINO encoders that a variant's numbers describe."""

from __future__ import annotations

from torch import nn

from mmovseg_geo.models.clip import CLIPText, DenseCLIP
from mmovseg_geo.models.mmovseg.encoders import CLIPAndDINO, dino
from mmovseg_geo.models.mmovseg.head import CostHead
from mmovseg_geo.models.mmovseg.network import Adapters, MMOVSeg
from mmovseg_geo.models.mmovseg.params import MMOVSegParams, hook_layers


def adapter(in_dim: int, out_dim: int, *, from_stride: int, to_stride: int) -> nn.Module:
    """A convolution, plain or transposed, from one grid to another whose cells divide it evenly (section 5)."""
    if from_stride > to_stride:
        ratio = from_stride // to_stride
        return nn.ConvTranspose2d(in_dim, out_dim, ratio, stride=ratio)
    ratio = to_stride // from_stride
    return nn.Conv2d(in_dim, out_dim, ratio, stride=ratio)


def build(params: MMOVSegParams) -> MMOVSeg:
    """The network of CLIP and two DINO encoders that a variant's numbers describe, with fresh weights."""
    clip, encoder, stride = params.clip, params.dino, params.stride
    visual = DenseCLIP(
        embed_dim=clip.embed_dim,
        image_size=clip.image_size,
        patch=clip.patch,
        width=clip.vision_width,
        layers=clip.vision_layers,
        hooks=hook_layers(clip.vision_layers)[:-1],
        head_width=clip.vision_head_width,
        mlp_ratio=clip.vision_mlp_ratio,
        quick_gelu=clip.quick_gelu,
    )
    text = CLIPText(
        embed_dim=clip.embed_dim,
        width=clip.text_width,
        heads=clip.text_heads,
        layers=clip.text_layers,
        context=clip.context,
        vocabulary=clip.vocabulary,
        quick_gelu=clip.quick_gelu,
    )
    layers = hook_layers(encoder.depth)
    return MMOVSeg(
        optical=CLIPAndDINO(visual, dino(encoder, layers), stride=stride),
        sar=dino(encoder, layers),
        adapters=_adapters(params),
        head=CostHead(params.head),
        text=text,
    )


def _adapters(params: MMOVSegParams) -> Adapters:
    stride, encoder = params.stride, params.dino
    finer = [(dim, stride // 2 ** (stage + 1)) for stage, dim in enumerate(params.head.guidance_dims)]

    def of(in_dim: int, from_stride: int, targets: list[tuple[int, int]]) -> list[nn.Module]:
        return [adapter(in_dim, dim, from_stride=from_stride, to_stride=to) for dim, to in targets]

    dense = [*finer, (params.head.text_dim, stride)]
    return Adapters(
        clip=of(params.clip.vision_width, stride, finer),
        optical=of(encoder.embed_dim, encoder.stride, dense),
        sar=of(encoder.embed_dim, encoder.stride, dense),
    )
