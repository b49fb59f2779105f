"""The numbers that make a variant of MM-OVSeg."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class HeadParams:
    """Widths and depths of the cost head (paper section 3.3); the defaults are the published ones.

    Attributes:
        text_dim: C, the channels that image and text features share.
        guidance_dims: channels of the guidance maps, coarse to fine; one map for each decoder stage.
        guidance_proj: what each of them is projected to before it meets the classes.
        window: longest side of an attention window, in cells of the cost grid.
        pooling: the class attention sees the mean of `pooling` x `pooling` cells.
        padded_classes: the class attention is filled up with a learned class to this number; 0 for none.
        channels_per_group: of the group norms in the decoder.
    """

    text_dim: int = 512
    hidden_dim: int = 128
    appearance_dim: int = 128
    text_guidance_dim: int = 128
    guidance_dims: tuple[int, ...] = (256, 128)
    guidance_proj: tuple[int, ...] = (32, 16)
    decoder_dims: tuple[int, ...] = (64, 32)
    num_layers: int = 2
    num_heads: int = 4
    mlp_ratio: int = 4
    window: int = 12
    pooling: int = 2
    padded_classes: int = 256
    fusion_kernel: int = 7
    channels_per_group: int = 16

    @property
    def upsampling(self) -> int:
        """Logits per cost cell along one axis: each decoder stage doubles the grid."""
        return int(2 ** len(self.decoder_dims))


@dataclass(frozen=True)
class CLIPParams:
    """Widths of a CLIP model as OpenAI made them; the heads of the visual tower are 64 wide."""

    embed_dim: int
    image_size: int
    patch: int
    vision_width: int
    vision_layers: int
    text_width: int
    text_heads: int
    text_layers: int
    context: int = 77
    vocabulary: int = 49408


@dataclass(frozen=True)
class DINOParams:
    """Widths of a DINO encoder: `dinov1` has a position table of `native_size`, `dinov3` rotary positions."""

    family: Literal["dinov1", "dinov3"]
    embed_dim: int
    depth: int
    num_heads: int
    patch: int
    native_size: int = 224


@dataclass(frozen=True)
class MMOVSegParams:
    """One published-style variant: a CLIP model, twice the same DINO encoder, and the cost head.

    Attributes:
        stride: pixels of the tile in one cell of the cost grid, along one axis.
        native_size: tile height and width the weights were trained at.
    """

    clip: CLIPParams
    dino: DINOParams
    head: HeadParams
    stride: int = 16
    native_size: int = 384


def hook_layers(depth: int) -> tuple[int, int, int]:
    """Blocks (0-based) that end the first, second and last third of an encoder."""
    return depth // 3 - 1, 2 * depth // 3 - 1, depth - 1
