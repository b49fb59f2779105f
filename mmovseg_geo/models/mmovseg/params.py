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
    """Widths of a CLIP model; the defaults are OpenAI's.

    Attributes:
        vision_head_width: channels of one attention head in the visual tower.
        vision_mlp_ratio: hidden channels of its MLPs to its width.
        quick_gelu: the activation of OpenAI's weights in both towers; else the exact GELU.
        architecture: the name it was read from, empty where the numbers were given.
    """

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
    vision_head_width: int = 64
    vision_mlp_ratio: float = 4.0
    quick_gelu: bool = True
    architecture: str = ""


@dataclass(frozen=True)
class DINOParams:
    """Widths of a DINO encoder.

    Attributes:
        family: `dinov1` and `dinov2` have a position table of `native_size`, `dinov3` has rotary positions.
        registers: tokens beside CLS of a `dinov2`; where there are any, its table is resampled differently.
        tile_pixels: pixels of the tile in one patch, along one axis; 0 for those of the patch. Where they differ, the
            encoder sees the tile at another size.
        architecture: the name by which timm builds it, empty where these numbers describe it wholly.
    """

    family: Literal["dinov1", "dinov2", "dinov3"]
    embed_dim: int
    depth: int
    num_heads: int
    patch: int
    native_size: int = 224
    registers: int = 0
    tile_pixels: int = 0
    architecture: str = ""

    @property
    def stride(self) -> int:
        """Pixels of the tile in one cell of its maps, along one axis."""
        return self.tile_pixels or self.patch


@dataclass(frozen=True)
class MMOVSegParams:
    """One variant of the published kind: a CLIP model, twice the same DINO encoder, and the cost head.

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
