"""From aggregated cost to logits: each stage doubles the grid and looks at finer image features.

Shape suffixes: B batch, T classes, H rows, W columns, C channels of the cost, G of the guidance.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from mmovseg_geo.models.mmovseg.chunks import by_class
from mmovseg_geo.models.mmovseg.params import HeadParams


class DecoderStage(nn.Module):
    """Upsample by two, join CLIP and DINO guidance, and mix with two convolutions.

    A convolution of `concat(x, clip, dino)` is the sum of one of x and one of the guidance: the second is the same for
    every class of an image and computed once.
    """

    def __init__(self, in_dim: int, out_dim: int, guidance_dim: int, channels_per_group: int) -> None:
        super().__init__()
        self.up_dim = in_dim - guidance_dim
        groups = max(1, out_dim // channels_per_group)
        self.up = nn.ConvTranspose2d(in_dim, self.up_dim, 2, stride=2)
        self.conv1 = nn.Conv2d(self.up_dim + 2 * guidance_dim, out_dim, 3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(groups, out_dim)
        self.conv2 = nn.Conv2d(out_dim, out_dim, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(groups, out_dim)

    def guided(self, clip_BGHW: Tensor, dino_BGHW: Tensor) -> Tensor:
        """What the guidance adds to the first convolution of every class (B, C, H, W)."""
        guidance = torch.cat([clip_BGHW, dino_BGHW], dim=1).contiguous(memory_format=torch.channels_last)
        return F.conv2d(guidance, self.conv1.weight[:, self.up_dim :], padding=1)

    def forward(self, x_BTCHW: Tensor, guided_BCHW: Tensor) -> Tensor:
        num_images = x_BTCHW.shape[0]
        x = self.up(rearrange(x_BTCHW, "b t c h w -> (b t) c h w"))
        x = F.conv2d(x, self.conv1.weight[:, : self.up_dim], padding=1)
        x = rearrange(x, "(b t) c h w -> b t c h w", b=num_images) + guided_BCHW[:, None]
        x = F.relu(self.norm1(rearrange(x, "b t c h w -> (b t) c h w")), inplace=True)
        x = F.relu(self.norm2(self.conv2(x)), inplace=True)
        return rearrange(x, "(b t) c h w -> b t c h w", b=num_images)


class Decoder(nn.Module):
    """Stages from the cost grid to the finest guidance map, then one logit per class and pixel.

    Guidance maps come coarse to fine; map i has 2 ** (i + 1) times the rows and columns of the cost grid.
    """

    def __init__(self, params: HeadParams) -> None:
        super().__init__()
        dims = (params.hidden_dim, *params.decoder_dims)
        self.clip_projections = _projections(params)
        self.dino_projections = _projections(params)
        self.stages: Any = nn.ModuleList(
            DecoderStage(in_dim, out_dim, guidance_dim, params.channels_per_group)
            for (in_dim, out_dim), guidance_dim in zip(pairwise(dims), params.guidance_proj, strict=True)
        )
        self.head = nn.Conv2d(dims[-1], 1, 3, padding=1)

    def forward(
        self,
        x_BTHWC: Tensor,
        clip_guidance: tuple[Tensor, ...],
        dino_guidance: tuple[Tensor, ...],
        classes_at_once: int | None = None,
    ) -> Tensor:
        projections = zip(self.clip_projections, self.dino_projections, strict=True)
        maps = zip(self.stages, projections, clip_guidance, dino_guidance, strict=True)
        guided: list[Tensor] = [
            stage.guided(project_clip(clip_BGHW), project_dino(dino_BGHW))
            for stage, (project_clip, project_dino), clip_BGHW, dino_BGHW in maps
        ]
        return by_class(lambda part: self._logits(part, guided), classes_at_once, x_BTHWC)

    def _logits(self, x_BTHWC: Tensor, guided: list[Tensor]) -> Tensor:
        x_BTCHW = rearrange(x_BTHWC, "b t h w c -> b t c h w")
        for stage, guided_BCHW in zip(self.stages, guided, strict=True):
            x_BTCHW = stage(x_BTCHW, guided_BCHW)
        logits: Tensor = self.head(rearrange(x_BTCHW, "b t c h w -> (b t) c h w"))
        return logits.view(*x_BTHWC.shape[:2], *logits.shape[2:])


def _projections(params: HeadParams) -> nn.ModuleList:
    """One 3 x 3 convolution with ReLU for each guidance map."""
    return nn.ModuleList(
        nn.Sequential(nn.Conv2d(in_dim, out_dim, 3, padding=1), nn.ReLU())
        for in_dim, out_dim in zip(params.guidance_dims, params.guidance_proj, strict=True)
    )
