"""The image encoders of MM-OVSeg: a DINO of any generation, and CLIP beside DINO for optical.

Shape suffixes: B batch, D channels, H rows and W columns of patches, N tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import timm
import torch
from einops import rearrange
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from mmovseg_geo.models.clip import DenseCLIP
from mmovseg_geo.models.mmovseg.features import OpticalFeatures, Pyramid, Size
from mmovseg_geo.models.mmovseg.params import DINOParams
from mmovseg_geo.models.mmovseg.preprocessing import resize


class DINOv1(nn.Module):
    """A plain ViT by timm; chosen block outputs after the final norm (section 4.3). DINOv2 without registers is one."""

    def __init__(self, params: DINOParams, layers: Sequence[int]) -> None:
        super().__init__()
        self.params = params
        self.layers = tuple(layers)
        self.vit: Any = (
            _by_name(params)
            if params.architecture
            else VisionTransformer(
                img_size=params.native_size,
                patch_size=params.patch,
                embed_dim=params.embed_dim,
                depth=params.depth,
                num_heads=params.num_heads,
                num_classes=0,
                dynamic_img_size=True,
            )
        )

    def forward(self, image: Tensor, size: Size | None = None) -> Pyramid:
        vit = self.vit
        patches_BHWD = vit.patch_embed(_shown(image, size, self.params))
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


class Registered(nn.Module):
    """A ViT whose positions timm brings to the grid as the authors do; chosen block outputs after the final norm.

    So are DINOv2 with registers (its table is resampled by size, with antialiasing, unlike that of DINOv1) and DINOv3.
    """

    def __init__(self, params: DINOParams, layers: Sequence[int], vit: nn.Module | None = None) -> None:
        super().__init__()
        self.params = params
        self.layers = tuple(layers)
        self.vit: Any = _by_name(params) if vit is None else vit

    def forward(self, image: Tensor, size: Size | None = None) -> Pyramid:
        taken: list[Tensor] = self.vit.forward_intermediates(
            _shown(image, size, self.params),
            indices=list(self.layers),
            norm=True,
            stop_early=True,
            intermediates_only=True,
        )
        return tuple(taken)


class DINOv3(Registered):
    """A ViT with registers and rotary positions by timm (section 4.4)."""

    REGISTERS = 4
    ROPE_BASE = 100.0
    LAYER_SCALE = 1e-5

    def __init__(self, params: DINOParams, layers: Sequence[int]) -> None:
        if params.architecture:
            super().__init__(params, layers)
        else:
            super().__init__(params, layers, self._of_numbers(params))
        # Released weights carry periods rounded to bfloat16, so they belong to the state.
        rope: nn.Module = self.vit.rope
        rope.register_buffer("periods", rope.get_buffer("periods"), persistent=True)

    @classmethod
    def _of_numbers(cls, params: DINOParams) -> nn.Module:
        vit: nn.Module = Eva(
            img_size=params.native_size,
            patch_size=params.patch,
            embed_dim=params.embed_dim,
            depth=params.depth,
            num_heads=params.num_heads,
            num_classes=0,
            qkv_bias=True,
            init_values=cls.LAYER_SCALE,
            num_reg_tokens=cls.REGISTERS,
            use_abs_pos_emb=False,
            use_rot_pos_emb=True,
            rope_type="dinov3",
            rope_temperature=cls.ROPE_BASE,
            rope_rotate_half=True,
            use_fc_norm=False,
            dynamic_img_size=True,
            norm_layer=partial(nn.LayerNorm, eps=1e-5),
        )
        return vit


def dino(params: DINOParams, layers: Sequence[int]) -> DINOv1 | Registered:
    """The encoder of a family, returning the outputs of `layers` (0-based blocks)."""
    if params.family == "dinov3":
        return DINOv3(params, layers)
    return Registered(params, layers) if params.registers else DINOv1(params, layers)


def _by_name(params: DINOParams) -> nn.Module:
    """What timm builds under a name, for images of any size, with fresh weights."""
    vit: nn.Module = timm.create_model(params.architecture, pretrained=False, num_classes=0, dynamic_img_size=True)
    return vit


def _shown(image: Tensor, size: Size | None, params: DINOParams) -> Tensor:
    """The image at the size an encoder sees, where a patch is `params.stride` pixels of the tile."""
    if params.stride == params.patch:
        return resize(image, size)
    return _in_patches(image, size, params.stride, params.patch)


def _in_patches(image: Tensor, size: Size | None, stride: int, patch: int) -> Tensor:
    """The image at the size where each `stride` pixels of `size` become one patch.

    Raises:
        ValueError: a size of broken cells.
    """
    height, width = size or (image.shape[-2], image.shape[-1])
    if height % stride or width % stride:
        raise ValueError(f"image of {height} x {width} pixels; both sides must be multiples of {stride}")
    return resize(image, (height // stride * patch, width // stride * patch))


class CLIPAndDINO(nn.Module):
    """The optical encoder of the published variants.

    CLIP sees the image at `stride / patch` of DINO's size where its patch is not the stride, so that both make the
    same cost grid.
    """

    def __init__(self, clip: DenseCLIP, dino: DINOv1 | Registered, *, stride: int) -> None:
        super().__init__()
        self.clip = clip
        self.dino = dino
        self.stride = stride

    def forward(self, image: Tensor, size: Size | None = None) -> OpticalFeatures:
        dense, hooks = self.clip(_in_patches(image, size, self.stride, self.clip.patch))
        return OpticalFeatures(dense, hooks, self.dino(image, size))
