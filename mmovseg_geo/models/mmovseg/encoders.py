"""The image encoders of the published variants: DINOv1, DINOv3, and CLIP beside DINO for optical.

Shape suffixes: B batch, D channels, H rows and W columns of patches, N tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeAlias

import torch
from einops import rearrange
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from mmovseg_geo.models.clip import DenseCLIP
from mmovseg_geo.models.mmovseg.params import DINOParams
from mmovseg_geo.models.mmovseg.preprocessing import resize

Size: TypeAlias = tuple[int, int]
Pyramid: TypeAlias = tuple[Tensor, ...]
"""Maps (B, D, H, W) for the guidance, coarse to fine in use, then the one that becomes dense features."""


class OpticalFeatures(NamedTuple):
    """What the head needs of the optical image.

    Attributes:
        dense: (B, C, H, W) on the cost grid, in the space of the text.
        hooks: maps in the role of CLIP's block outputs, one for each decoder stage, coarse to fine in use.
        pyramid: maps in the role of DINO's: one for each decoder stage, then the last one.
    """

    dense: Tensor
    hooks: Pyramid
    pyramid: Pyramid


class OpticalEncoder(Protocol):
    """A module; `size` is the height and width to bring the image to, None to take it as it is."""

    def __call__(self, image: Tensor, size: Size | None = None) -> OpticalFeatures: ...


class SarEncoder(Protocol):
    """A module that returns a pyramid with the grids of the optical one."""

    def __call__(self, image: Tensor, size: Size | None = None) -> Pyramid: ...


class DINOv1(nn.Module):
    """A plain ViT by timm; chosen block outputs after the final norm (section 4.3)."""

    def __init__(self, params: DINOParams, layers: Sequence[int]) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.vit: Any = VisionTransformer(
            img_size=params.native_size,
            patch_size=params.patch,
            embed_dim=params.embed_dim,
            depth=params.depth,
            num_heads=params.num_heads,
            num_classes=0,
            dynamic_img_size=True,
        )

    def forward(self, image: Tensor, size: Size | None = None) -> Pyramid:
        vit = self.vit
        patches_BHWD = vit.patch_embed(resize(image, size))
        _, height, width, _ = patches_BHWD.shape
        cls_token: Tensor = vit.cls_token
        tokens_BND = torch.cat([cls_token.expand(len(image), -1, -1), patches_BHWD.flatten(1, 2)], dim=1)
        x_BND = tokens_BND + self.positions((height, width))
        taken = []
        for index, block in enumerate(vit.blocks[: max(self.layers) + 1]):
            x_BND = block(x_BND)
            if index in self.layers:
                taken.append(rearrange(vit.norm(x_BND)[:, 1:], "b (h w) d -> b d h w", h=height))
        return tuple(taken)

    def positions(self, grid: Size) -> Tensor:
        """Position table (1, 1 + H * W, D), CLS first.

        DINO resamples by scale, not by size: the 0.1 that kept its output from rounding down also moves the sample
        points, and the weights were trained with that.
        """
        table: Tensor = self.vit.pos_embed
        native = self.vit.patch_embed.grid_size
        if grid == tuple(native):
            return table
        patches = rearrange(table[:, 1:], "1 (h w) d -> 1 d h w", h=native[0])
        scale = tuple((cells + 0.1) / of for cells, of in zip(grid, native, strict=True))
        patches = F.interpolate(patches, scale_factor=scale, mode="bicubic", align_corners=False)
        return torch.cat([table[:, :1], rearrange(patches, "1 d h w -> 1 (h w) d")], dim=1)


class DINOv3(nn.Module):
    """A ViT with registers and rotary positions by timm; chosen block outputs after the final norm (section 4.4)."""

    REGISTERS = 4
    ROPE_BASE = 100.0
    LAYER_SCALE = 1e-5

    def __init__(self, params: DINOParams, layers: Sequence[int]) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.vit: Any = Eva(
            img_size=params.native_size,
            patch_size=params.patch,
            embed_dim=params.embed_dim,
            depth=params.depth,
            num_heads=params.num_heads,
            num_classes=0,
            qkv_bias=True,
            init_values=self.LAYER_SCALE,
            num_reg_tokens=self.REGISTERS,
            use_abs_pos_emb=False,
            use_rot_pos_emb=True,
            rope_type="dinov3",
            rope_temperature=self.ROPE_BASE,
            rope_rotate_half=True,
            use_fc_norm=False,
            dynamic_img_size=True,
            norm_layer=partial(nn.LayerNorm, eps=1e-5),
        )
        # Released weights carry periods rounded to bfloat16, so they belong to the state.
        rope: nn.Module = self.vit.rope
        rope.register_buffer("periods", rope.get_buffer("periods"), persistent=True)

    def forward(self, image: Tensor, size: Size | None = None) -> Pyramid:
        taken: list[Tensor] = self.vit.forward_intermediates(
            resize(image, size), indices=list(self.layers), norm=True, stop_early=True, intermediates_only=True
        )
        return tuple(taken)


def dino(params: DINOParams, layers: Sequence[int]) -> DINOv1 | DINOv3:
    """The encoder of a family, returning the outputs of `layers` (0-based blocks)."""
    return DINOv1(params, layers) if params.family == "dinov1" else DINOv3(params, layers)


class CLIPAndDINO(nn.Module):
    """The optical encoder of the published variants.

    CLIP sees the image at `stride / patch` of DINO's size where its patch is not the stride, so that both make the
    same cost grid.
    """

    def __init__(self, clip: DenseCLIP, dino: nn.Module, *, stride: int) -> None:
        super().__init__()
        self.clip = clip
        self.dino = dino
        self.stride = stride

    def forward(self, image: Tensor, size: Size | None = None) -> OpticalFeatures:
        height, width = size or (image.shape[-2], image.shape[-1])
        if height % self.stride or width % self.stride:
            raise ValueError(f"image of {height} x {width} pixels; both sides must be multiples of {self.stride}")
        clip_size = height // self.stride * self.clip.patch, width // self.stride * self.clip.patch
        dense, hooks = self.clip(resize(image, clip_size))
        return OpticalFeatures(dense, hooks, self.dino(image, size))
