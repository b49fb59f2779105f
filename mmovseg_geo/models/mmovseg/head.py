"""The cost head: how much every image cell resembles every word, refined to logits.

Shape suffixes: B batch, T classes, H rows, W columns, C channels shared by image and text, D hidden channels,
A appearance and G text guidance channels.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from mmovseg_geo.models.mmovseg.aggregator import AggregationLayer
from mmovseg_geo.models.mmovseg.chunks import CPU_BYTES, GPU_BYTES, by_class, classes_at_once
from mmovseg_geo.models.mmovseg.decoder import Decoder
from mmovseg_geo.models.mmovseg.params import HeadParams


def cosine(features_BCHW: Tensor, text_BTC: Tensor) -> Tensor:
    """Cosine of every cell with every class (B, T, H, W); 0 where the features are zero."""
    unit_BCHW = F.normalize(features_BCHW, dim=1, eps=1e-12)
    unit_BTC = F.normalize(text_BTC, dim=-1, eps=1e-12)
    return torch.einsum("bchw,btc->bthw", unit_BCHW, unit_BTC)


class CostFusion(nn.Module):
    """Similarities to CLIP features and to DINO features become one cost embedding, class by class."""

    def __init__(self, hidden_dim: int, kernel: int) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.clip = nn.Conv2d(1, hidden_dim, kernel)
        self.dino = nn.Conv2d(1, hidden_dim, kernel)
        self.fuse = nn.Conv2d(2 * hidden_dim, hidden_dim, kernel, padding=kernel // 2)

    def forward(self, corr_clip_BTHW: Tensor, corr_dino_BTHW: Tensor) -> Tensor:
        """Fused cost (B, T, H, W, D), values in (0, 2)."""
        corr = torch.stack([corr_clip_BTHW, corr_dino_BTHW], dim=2)
        pairs = zip(self.clip.parameters(), self.dino.parameters(), strict=True)
        weight, bias = (torch.cat(pair) for pair in pairs)
        both = F.conv2d(rearrange(corr, "b t two h w -> (b t) two h w"), weight, bias, padding="same", groups=2)
        both = torch.sigmoid(both.contiguous(memory_format=torch.channels_last))
        fused = torch.sigmoid(self.fuse(both)) + both[:, : self.hidden_dim]
        return rearrange(fused, "(b t) d h w -> b t h w d", b=corr_clip_BTHW.shape[0]).contiguous()


class CostHead(nn.Module):
    """Cost fusion, aggregation and decoder; any grid, any number of classes.

    Inputs of `forward`, with H x W the cost grid:
        clip_dense (B, C, H, W): image features in the space of the text, from optical alone.
        dense (B, C, H, W): image features in the space of the text, from optical and SAR.
        text (T, C), or (B, T, C) for a class list per image: one embedding per class.
        clip_guidance, dino_guidance: `len(guidance_dims)` maps each, map i (B, guidance_dims[i], H * 2 ** (i + 1),
            W * 2 ** (i + 1)), coarse to fine.
        appearance (B, C, H, W): what guides the window attention; `clip_dense` when left out.
        radar (B, C, H, W): the part of SAR in `dense`, for heads to which it matters who sees something; this one adds
            nothing for it.
    Zero features, as where a sensor is missing, are allowed. Output: logits (B, T, H, W times `upsampling`).

    In inference a few classes are taken at a time, so that those at work take no more than `chunk_bytes` (None: what
    is fast on the device); numbers are the same.
    """

    chunk_bytes: int | None = None

    def __init__(self, params: HeadParams) -> None:
        super().__init__()
        self.params = params
        self.fusion = CostFusion(params.hidden_dim, params.fusion_kernel)
        self.appearance = nn.Sequential(nn.Conv2d(params.text_dim, params.appearance_dim, 3, padding=1), nn.ReLU())
        self.text_guidance = nn.Sequential(nn.Linear(params.text_dim, params.text_guidance_dim), nn.ReLU())
        self.layers = nn.ModuleList(AggregationLayer(params) for _ in range(params.num_layers))
        self.decoder = Decoder(params)

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
        text_BTC = F.normalize(text if text.ndim == 3 else text.expand(len(dense), -1, -1), dim=-1)
        at_once = self._classes_at_once(dense)
        x_BTHWD = by_class(self.fusion, at_once, cosine(clip_dense, text_BTC), cosine(dense, text_BTC))
        appearance_BAHW = self.appearance(clip_dense if appearance is None else appearance)
        appearance_BHWA = rearrange(appearance_BAHW, "b a h w -> b h w a")
        text_BTG = self.text_guidance(text_BTC)
        for layer in self.layers:
            x_BTHWD = layer(x_BTHWD, appearance_BHWA, text_BTG, at_once)
        logits: Tensor = self.decoder(x_BTHWD, clip_guidance, dino_guidance, at_once)
        return logits

    def _classes_at_once(self, dense_BCHW: Tensor) -> int | None:
        # Training keeps all activations anyway, and a batch norm learns from all classes.
        if self.training or torch.is_grad_enabled():
            return None
        images, _, height, width = dense_BCHW.shape
        budget = self.chunk_bytes or (CPU_BYTES if dense_BCHW.device.type == "cpu" else GPU_BYTES)
        return classes_at_once(self.params, images, height * width, budget)
