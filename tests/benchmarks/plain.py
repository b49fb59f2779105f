"""MM-OVSeg written down step by step as the method is described, to be measured beside ours.

Nothing is shared between classes and nothing is left out: the class attention carries its 256 classes, most of them
copies of one learned padding; every class gets its own copy of the guidance; attention makes its matrix. It reads the
weights of our modules, and gives their numbers (`tests/unit/models/mmovseg/test_plain.py`).

Shape suffixes: B batch, T classes, C channels, H rows, W columns, N tokens, M heads, D channels of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mmovseg_geo.models.mmovseg.network import MMOVSeg

OTHER_REGION = -100.0


def network(model: MMOVSeg, optical: Tensor, sar: Tensor, text_TC: Tensor) -> Tensor:
    """Logits (B, T, H, W) of normalized images (B, 3, H, W) at the size of the encoders, for the ViT-B variant."""
    optical_encoder: Any = model.optical
    adapters = model.adapters
    clip_dense, clip_hooks = clip_features(optical_encoder.clip, optical)
    pyramid, sar_pyramid = dino_features(optical_encoder.dino, optical), dino_features(model.sar, sar)
    dino_maps = [
        adapt(map_) + adapt_sar(map_sar)
        for adapt, adapt_sar, map_, map_sar in zip(adapters.optical, adapters.sar, pyramid, sar_pyramid, strict=True)
    ]
    clip_maps = [adapt(map_) for adapt, map_ in zip(adapters.clip, clip_hooks, strict=True)]
    return head(model.head, clip_dense, dino_maps[-1], text_TC, clip_maps, dino_maps[:-1])


def clip_features(clip: Any, image: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Section 4.2: dense features (B, C, H, W) and the outputs of the hook blocks."""
    visual = clip.visual
    x = visual.conv1(image)
    grid = (x.shape[-2], x.shape[-1])
    x = x.flatten(2).transpose(1, 2)
    cls = visual.class_embedding.expand(len(x), 1, -1)
    x = visual.ln_pre(torch.cat([cls, x], dim=1) + clip.positions(grid))
    hooks = []
    *blocks, last = visual.transformer.resblocks
    for index, block in enumerate(blocks):
        normed = block.ln_1(x)
        q, k, v = F.linear(normed, block.attn.in_proj_weight, block.attn.in_proj_bias).chunk(3, dim=-1)
        x = x + block.attn.out_proj(attention(q, k, v, block.attn.num_heads))
        x = x + block.mlp(block.ln_2(x))
        if index in clip.hooks:
            hooks.append(on_grid(x[:, 1:], grid))
    values = F.linear(last.ln_1(x), last.attn.in_proj_weight.chunk(3)[2], last.attn.in_proj_bias.chunk(3)[2])
    y = last.attn.out_proj(values) + x[:, :1]
    out = y + last.mlp(last.ln_2(y))
    return on_grid((visual.ln_post(out) @ visual.proj)[:, 1:], grid), hooks


def dino_features(encoder: Any, image: Tensor) -> list[Tensor]:
    """Section 4.3: normed outputs of three blocks (B, E, H, W)."""
    vit = encoder.vit
    x = vit.patch_embed.proj(image)
    grid = (x.shape[-2], x.shape[-1])
    x = torch.cat([vit.cls_token.expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], dim=1)
    x = x + encoder.positions(grid)
    taken = []
    for index, block in enumerate(vit.blocks):
        q, k, v = block.attn.qkv(block.norm1(x)).chunk(3, dim=-1)
        x = x + block.attn.proj(attention(q, k, v, block.attn.num_heads))
        x = x + block.mlp.fc2(F.gelu(block.mlp.fc1(block.norm2(x))))
        if index in encoder.layers:
            taken.append(on_grid(vit.norm(x)[:, 1:], grid))
    return taken


def head(
    module: Any,
    clip_dense: Tensor,
    dense: Tensor,
    text_TC: Tensor,
    clip_guidance: list[Tensor] | tuple[Tensor, ...],
    dino_guidance: list[Tensor] | tuple[Tensor, ...],
) -> Tensor:
    """Sections 6 to 8: logits (B, T, H, W)."""
    text_BTC = F.normalize(text_TC, dim=-1).expand(len(dense), -1, -1)
    x = cost(module.fusion, cosine(clip_dense, text_BTC), cosine(dense, text_BTC))
    appearance = module.appearance(clip_dense)
    text_guidance = module.text_guidance(text_BTC)
    for layer in module.layers:
        x = x_of_windows(layer.spatial, x, appearance, module.params.window)
        x = x_of_classes(layer.classes, x, text_guidance)
    return decoder(module.decoder, x, clip_guidance, dino_guidance)


def cosine(features_BCHW: Tensor, text_BTC: Tensor) -> Tensor:
    return torch.einsum("bchw,btc->bthw", F.normalize(features_BCHW, dim=1), text_BTC)


def cost(fusion: Any, corr_clip_BTHW: Tensor, corr_dino_BTHW: Tensor) -> Tensor:
    """Section 6: fused cost (B, C, T, H, W)."""
    batch = len(corr_clip_BTHW)
    pad = fusion.clip.kernel_size[0] // 2
    corr_clip, corr_dino = corr_clip_BTHW.flatten(0, 1)[:, None], corr_dino_BTHW.flatten(0, 1)[:, None]
    a = torch.sigmoid(F.conv2d(corr_clip, fusion.clip.weight, fusion.clip.bias, padding=pad))
    d = torch.sigmoid(F.conv2d(corr_dino, fusion.dino.weight, fusion.dino.bias, padding=pad))
    fused = torch.sigmoid(fusion.fuse(torch.cat([a, d], dim=1))) + a
    return fused.unflatten(0, (batch, -1)).transpose(1, 2)


def x_of_windows(spatial: Any, x_BCTHW: Tensor, appearance_BCHW: Tensor, window: int) -> Tensor:
    """Section 7.1: two window blocks, the guidance repeated for every class."""
    batch, _, classes, height, width = x_BCTHW.shape
    x = x_BCTHW.transpose(1, 2).flatten(0, 1).permute(0, 2, 3, 1)
    guidance = appearance_BCHW[:, None].expand(-1, classes, -1, -1, -1).flatten(0, 1).permute(0, 2, 3, 1)
    guidance = spatial.guidance_norm(guidance)
    for block, shift in ((spatial.block_1, 0), (spatial.block_2, window // 2)):
        y = torch.cat([block.norm1(x), guidance], dim=-1)
        if shift:
            y = torch.roll(y, (-shift, -shift), dims=(1, 2))
        y = windows(y, window)
        values = y[..., : x.shape[-1]]
        mask = region_scores(height, width, window, shift, y.device) if shift else None
        y = attention(block.attn.q(y), block.attn.k(y), block.attn.v(values), block.attn.num_heads, mask)
        y = whole(block.attn.proj(y), window, height, width)
        if shift:
            y = torch.roll(y, (shift, shift), dims=(1, 2))
        x = x + y
        x = x + block.fc2(F.gelu(block.fc1(block.norm2(x))))
    return x.permute(0, 3, 1, 2).unflatten(0, (batch, classes)).transpose(1, 2)


def x_of_classes(module: Any, x_BCTHW: Tensor, text_BTG: Tensor) -> Tensor:
    """Section 7.2: linear attention among 256 classes for every pooled pixel, the padding computed like the others."""
    batch, _, classes, height, width = x_BCTHW.shape
    pooled = F.avg_pool2d(x_BCTHW.transpose(1, 2).flatten(0, 1), module.pooling)
    rows, cols = pooled.shape[-2:]
    tokens = pooled.unflatten(0, (batch, classes)).permute(0, 3, 4, 1, 2).flatten(0, 2)
    guidance = text_BTG[:, None].expand(-1, rows * cols, -1, -1).flatten(0, 1)
    missing = module.padded_classes - classes
    if missing > 0:
        tokens = torch.cat([tokens, module.padding_tokens.expand(len(tokens), missing, -1)], dim=1)
        guidance = torch.cat([guidance, module.padding_guidance.expand(len(guidance), missing, -1)], dim=1)
    normed = module.norm1(tokens)
    with_text = torch.cat([normed, guidance], dim=-1)
    heads = (module.num_heads, -1)
    q = F.elu(module.q(with_text).unflatten(-1, heads)) + 1
    k = F.elu(module.k(with_text).unflatten(-1, heads)) + 1
    v = module.v(normed).unflatten(-1, heads)
    length = v.shape[1]
    context = torch.einsum("nshd,nshv->nhdv", k, v / length)
    norm = 1 / (torch.einsum("nlhd,nhd->nlh", q, k.sum(dim=1)) + 1e-6)
    tokens = tokens + (torch.einsum("nlhd,nhdv,nlh->nlhv", q, context, norm) * length).flatten(2)
    tokens = tokens + module.fc2(F.relu(module.fc1(module.norm2(tokens))))
    pooled = tokens[:, :classes].unflatten(0, (batch, rows, cols)).permute(0, 3, 4, 1, 2).flatten(0, 1)
    upsampled = F.interpolate(pooled, size=(height, width), mode="bilinear", align_corners=True)
    return x_BCTHW + upsampled.unflatten(0, (batch, classes)).transpose(1, 2)


def decoder(
    module: Any,
    x_BCTHW: Tensor,
    clip_guidance: list[Tensor] | tuple[Tensor, ...],
    dino_guidance: list[Tensor] | tuple[Tensor, ...],
) -> Tensor:
    """Section 8: two stages, the guidance repeated over classes."""
    batch, _, classes = x_BCTHW.shape[:3]
    x = x_BCTHW.transpose(1, 2).flatten(0, 1)
    parts = zip(
        module.stages, module.clip_projections, module.dino_projections, clip_guidance, dino_guidance, strict=True
    )
    for stage, project_clip, project_dino, clip, dino in parts:
        maps = [project_clip(clip), project_dino(dino)]
        repeated = [map_[:, None].expand(-1, classes, -1, -1, -1).flatten(0, 1) for map_ in maps]
        x = stage.conv1(torch.cat([stage.up(x), *repeated], dim=1))
        x = F.relu(stage.norm2(stage.conv2(F.relu(stage.norm1(x)))))
    return module.head(x).unflatten(0, (batch, classes))[:, :, 0]


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    """Softmax attention (.., N, C) with its matrix; `mask` (windows, N, N) is added to the scores."""
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(-3, -2) for part in (q, k, v))
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if mask is not None:
        scores = scores.unflatten(0, (-1, len(mask))) + mask[:, None]
        scores = scores.flatten(0, 1)
    return (scores.softmax(dim=-1) @ v).transpose(-3, -2).flatten(-2)


def windows(x_BHWC: Tensor, size: int) -> Tensor:
    """Windows (B * windows, size * size, C)."""
    batch, height, width, channels = x_BHWC.shape
    cut = x_BHWC.view(batch, height // size, size, width // size, size, channels)
    return cut.permute(0, 1, 3, 2, 4, 5).reshape(-1, size * size, channels)


def whole(x_NSC: Tensor, size: int, height: int, width: int) -> Tensor:
    """The grid (B, H, W, C) that `windows` cut."""
    cut = x_NSC.view(-1, height // size, width // size, size, size, x_NSC.shape[-1])
    return cut.permute(0, 1, 3, 2, 4, 5).reshape(-1, height, width, x_NSC.shape[-1])


def region_scores(height: int, width: int, window: int, shift: int, device: torch.device) -> Tensor:
    """-100 (windows, N, N) between cells that only the roll brought together."""
    regions = torch.zeros(1, height, width, 1, device=device)
    for row, rows in enumerate((slice(0, -window), slice(-window, -shift), slice(-shift, None))):
        for col, cols in enumerate((slice(0, -window), slice(-window, -shift), slice(-shift, None))):
            regions[:, rows, cols] = 3 * row + col
    cut = windows(regions, window)[..., 0]
    return torch.where(cut[:, None] != cut[:, :, None], OTHER_REGION, 0.0)


def on_grid(tokens_BNC: Tensor, grid: tuple[int, int]) -> Tensor:
    return tokens_BNC.transpose(1, 2).unflatten(-1, grid)
