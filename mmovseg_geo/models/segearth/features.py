"""Dense features of a CLIP ViT: its last blocks changed so that every patch keeps its own place.

Shape suffixes: B images, C channels shared with words, D channels of the tower, H rows and W columns of patches,
N tokens (CLS first).
"""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from mmovseg_geo.errors import ConfigError
from mmovseg_geo.models.clip import Grid, first_tokens, fuse_attention, on_grid
from mmovseg_geo.models.segearth.attention import gem_attention, mixed_values
from mmovseg_geo.models.segearth.recipe import Attention

GEM_BLOCKS = 6
"""Last blocks that GEM changes; its papers count one more."""


class DenseFeatures(nn.Module):
    """Patch vectors and the CLS vector that belongs to them, both in the space of the words.

    Args:
        visual: the image tower of an `open_clip.CLIP`.
        last: the changed outputs of so many last blocks are summed.
        residual: keep the skip connection and the MLP in what is put out; the stream itself always has them.

    Raises:
        ConfigError: more layers than the tower has.
    """

    def __init__(self, visual: Any, attention: Attention = "segearth", *, last: int = 1, residual: bool = False):
        super().__init__()
        blocks = len(visual.transformer.resblocks)
        if not 1 <= last <= blocks:
            raise ConfigError(f"last {last} does not fit an image tower of {blocks} blocks; give 1 to {blocks}.")
        fuse_attention(visual)
        self.visual = visual
        self.attention = attention
        self.last = last
        self.residual = residual
        self.patch: int = visual.patch_size[0]
        self.channels: int = visual.output_dim

    def forward(self, image_B3HW: Tensor) -> tuple[Tensor, Tensor | None]:
        """Vectors (B, C, H, W) of the patches and (B, C) of CLS, not normalized; GEM has no CLS vector.

        Both sides of the image are multiples of the patch.
        """
        visual = self.visual
        x_BND, grid = first_tokens(visual, image_B3HW, self.positions)
        tokens_BNC = visual.ln_post(self._changed(x_BND, grid)) @ visual.proj
        return on_grid(tokens_BNC, grid), None if self.attention == "gem" else tokens_BNC[:, 0]

    def positions(self, grid: Grid) -> Tensor:
        """Position table (1 + H * W, D): CLS first, patches resampled bicubically where their number differs.

        The published program resamples by scale, not by size: the 0.1 that kept its output from rounding down also
        moves the sample points. It looks at the number of patches only, so a grid of as many cells is taken as it is.
        """
        table_ND: Tensor = self.visual.positional_embedding
        native = tuple(self.visual.grid_size)
        if grid[0] * grid[1] == len(table_ND) - 1 and (self.attention != "gem" or grid == native):
            return table_ND
        patches = rearrange(table_ND[1:], "(h w) d -> 1 d h w", h=native[0])
        if self.attention == "gem":
            patches = F.interpolate(patches, size=grid, mode="bicubic", align_corners=False, antialias=True)
        else:
            scale = tuple((cells + 0.1) / of for cells, of in zip(grid, native, strict=True))
            patches = F.interpolate(patches, scale_factor=scale, mode="bicubic", align_corners=False)
        return torch.cat([table_ND[:1], rearrange(patches, "1 d h w -> (h w) d")])

    def _changed(self, x_BND: Tensor, grid: Grid) -> Tensor:
        """Sum (B, N, D) of what the last blocks put out."""
        blocks = self.visual.transformer.resblocks
        first = max(len(blocks) - (GEM_BLOCKS if self.attention == "gem" else self.last), 0)
        for block in blocks[:first]:
            x_BND = block(x_BND)
        return (
            self._gem(blocks[first:], x_BND) if self.attention == "gem" else self._summed(blocks[first:], x_BND, grid)
        )

    def _summed(self, blocks: Any, x_BND: Tensor, grid: Grid) -> Tensor:
        total_BND = torch.zeros_like(x_BND)
        for index, block in enumerate(blocks, start=1):
            y_BND = mixed_values(block, x_BND, self.attention, grid)
            if self.residual:
                y_BND = x_BND + y_BND
                y_BND = y_BND + block.ls_2(block.mlp(block.ln_2(y_BND)))
            total_BND = total_BND + y_BND
            if index < len(blocks):
                x_BND = block(x_BND)
        return total_BND

    def _gem(self, blocks: Any, x_BND: Tensor) -> Tensor:
        stream_BND = x_BND
        for block in blocks:
            gathered_BND = gem_attention(block, x_BND)
            stream_BND = stream_BND + gathered_BND if self.residual else gathered_BND
            x_BND = block(x_BND)
        return stream_BND
