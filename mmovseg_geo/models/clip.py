"""CLIP by open_clip, for dense prediction: features of every patch, embeddings of words, models by name.

Shape suffixes: B batch, C channels of the shared space, D channels of the visual tower, H rows and W columns of
patches, L text tokens, N image tokens, T texts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import torch
from einops import rearrange
from open_clip import CLIP, OPENAI_IMAGENET_TEMPLATES, get_model_config, list_models
from open_clip.model import resize_pos_embed
from open_clip.transformer import QuickGELU, TextTransformer, VisionTransformer, text_global_pool
from torch import Tensor, nn
from torch.nn import functional as F

from mmovseg_geo.errors import ConfigError, did_you_mean
from mmovseg_geo.models.state_dict import load
from mmovseg_geo.models.tokens import tokenize
from mmovseg_geo.models.transformers_layout import is_transformers, open_clip_layout

Grid: TypeAlias = tuple[int, int]
"""Rows and columns of patches."""
_HEAD_WIDTH = 64  # of every visual tower that OpenAI released
TEMPLATES = ("A photo of a {} in the scene",)
IMAGENET_TEMPLATES: tuple[str, ...] = tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)
"""The 80 prompts published with CLIP."""
NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size", "attn_mask")
"""What OpenAI's and other checkpoints carry beside the weights."""


class TextEncoder(Protocol):
    """Phrases to embeddings (T, C), of any length."""

    def encode(self, texts: Sequence[str]) -> Tensor: ...


class DenseCLIP(nn.Module):
    """The visual tower with its last block reduced to values, so that every patch keeps its own place (section 4.2).

    Weights keep open_clip's names. Any image whose sides are multiples of the patch fits: the position table is
    resampled.
    """

    def __init__(
        self, *, embed_dim: int, image_size: int, patch: int, width: int, layers: int, hooks: Sequence[int],
        head_width: int = _HEAD_WIDTH, mlp_ratio: float = 4.0, quick_gelu: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.patch = patch
        self.hooks = tuple(hooks)
        self.visual = VisionTransformer(
            image_size=image_size,
            patch_size=patch,
            width=width,
            layers=layers,
            heads=width // head_width,
            mlp_ratio=mlp_ratio,
            output_dim=embed_dim,
            act_layer=QuickGELU if quick_gelu else nn.GELU,
        )
        fuse_attention(self.visual)

    def forward(self, image_B3HW: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Dense features (B, C, H, W) and the outputs of the hook blocks (B, D, H, W)."""
        visual = self.visual
        x_BND, grid = first_tokens(visual, image_B3HW, self.positions)
        hooked = []
        *blocks, last = visual.transformer.resblocks
        for index, block in enumerate(blocks):
            x_BND = block(x_BND)
            if index in self.hooks:
                hooked.append(on_grid(x_BND, grid))
        dense_BNC = visual.ln_post(_value_only(last, x_BND)) @ visual.proj
        return on_grid(dense_BNC, grid), tuple(hooked)

    def positions(self, grid: Grid) -> Tensor:
        """Position table (1 + H * W, D): CLS first, patches resampled bicubically to the grid."""
        table_ND: Tensor = self.visual.positional_embedding
        native = self.visual.grid_size
        if grid == native:
            return table_ND
        patches = rearrange(table_ND[1:], "(h w) d -> 1 d h w", h=native[0])
        patches = F.interpolate(patches, size=grid, mode="bicubic", align_corners=False)
        return torch.cat([table_ND[:1], rearrange(patches, "1 d h w -> (h w) d")])


class FusedAttention(nn.MultiheadAttention):
    """Attention of tokens to each other without their matrix, under the names and the arguments of torch's module.

    In inference torch's own makes the matrix on a CPU, and copies more than it must on a GPU.
    """

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__(attention.embed_dim, attention.num_heads, batch_first=True, device="meta")
        self.in_proj_weight, self.in_proj_bias = attention.in_proj_weight, attention.in_proj_bias
        self.out_proj = attention.out_proj

    def forward(  # type: ignore[override]
        self, query: Tensor, key: Tensor, value: Tensor, *, need_weights: bool = False, attn_mask: Tensor | None = None
    ) -> tuple[Tensor, None]:
        if key is not query or value is not query or need_weights:
            raise ValueError("tokens attend to each other here, and their weights are not made")
        qkv = F.linear(query, self.in_proj_weight, self.in_proj_bias)
        q, k, v = rearrange(qkv, "b n (qkv m e) -> qkv b m n e", qkv=3, m=self.num_heads)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
        return self.out_proj(rearrange(mixed, "b m n e -> b n (m e)")), None


def fuse_attention(visual: VisionTransformer) -> None:
    """Put fused attention into every block of an image tower; weights, names and numbers stay."""
    for block in visual.transformer.resblocks:
        block.attn = FusedAttention(block.attn)


def first_tokens(visual: Any, image_B3HW: Tensor, positions: Callable[[Grid], Tensor]) -> tuple[Tensor, Grid]:
    """What the first block of a visual tower gets (B, N, D), CLS first, and the grid of its patches.

    Args:
        positions: table (N, D) for a grid.
    """
    patches_BDHW = visual.conv1(image_B3HW)
    grid = patches_BDHW.shape[-2], patches_BDHW.shape[-1]
    patches_BND = rearrange(patches_BDHW, "b d h w -> b (h w) d")
    cls_B1D = visual.class_embedding.expand(len(patches_BND), 1, -1)
    return visual.ln_pre(torch.cat([cls_B1D, patches_BND], dim=1) + positions(grid)), grid


def on_grid(tokens_BND: Tensor, grid: Grid) -> Tensor:
    """Tokens of patches as a map (B, D, H, W), without CLS."""
    return rearrange(tokens_BND[:, 1:], "b (h w) d -> b d h w", h=grid[0], w=grid[1])


class CLIPText(nn.Module):
    """The text tower with OpenAI's byte pair tokens."""

    def __init__(
        self, *, embed_dim: int, width: int, heads: int, layers: int, context: int = 77, vocabulary: int = 49408,
        quick_gelu: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.tower = TextTransformer(
            context_length=context,
            vocab_size=vocabulary,
            width=width,
            heads=heads,
            layers=layers,
            output_dim=embed_dim,
            act_layer=QuickGELU if quick_gelu else nn.GELU,
        )

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Embeddings (T, C), not normalized; a text longer than the context is cut."""
        out: Tensor = self(self.tokens(texts).to(self.tower.token_embedding.weight.device))
        return out

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """Token ids (T, context), zero padded."""
        return tokenize(texts, self.tower.context_length)

    def forward(self, tokens_TN: Tensor) -> Tensor:
        out: Tensor = self.tower(tokens_TN)
        return out


class CLIPWords:
    """The text tower of a whole `open_clip.CLIP`, no further than the longest text goes.

    Attention looks back only, so what follows the end of a text changes nothing; prompts of ten tokens cost a
    seventh of the full context.
    """

    CHUNK = 128
    """Texts at once: their activations take some tens of megabytes."""

    def __init__(self, model: CLIP) -> None:
        self.model = model

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """Token ids (T, context), zero padded."""
        return tokenize(texts, self.model.context_length)

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Embeddings (T, C), not normalized; a text longer than the context is cut."""
        ids_TL = self.tokens(texts)
        ids_TL = ids_TL[:, : int((ids_TL != 0).sum(dim=1).max())].to(self.model.positional_embedding.device)
        return torch.cat([self._encoded(chunk_TL) for chunk_TL in torch.split(ids_TL, self.CHUNK)])

    def _encoded(self, ids_TL: Tensor) -> Tensor:
        model, length = self.model, ids_TL.shape[1]
        x_TLD = model.token_embedding(ids_TL) + model.positional_embedding[:length]
        causal_LL = torch.full((length, length), -torch.inf, device=x_TLD.device).triu(1)
        x_TLD = model.ln_final(model.transformer(x_TLD, attn_mask=causal_LL))
        pooled_TD = text_global_pool(x_TLD, ids_TL, model.text_pool_type, eos_token_id=model.text_eos_id)
        out_TC: Tensor = pooled_TD @ model.text_projection
        return out_TC


def dense_config(architecture: str) -> dict[str, Any]:
    """What open_clip knows of an architecture, where patches and words can be compared directly.

    Raises:
        ConfigError: an unknown name, or why the method cannot use the architecture.
    """
    if architecture.startswith("hf-hub:"):
        raise ConfigError(f"encoder {architecture!r} would be fetched. Give its open_clip name and a checkpoint file.")
    config: dict[str, Any] | None = get_model_config(architecture)
    if config is None:
        if "dino" in architecture.lower():
            reason = "a DINO encoder shares no space with words; the method needs a CLIP model"
            raise ConfigError(f"encoder {architecture!r} cannot be used: {reason}, such as ViT-B-16-quickgelu.")
        advice = did_you_mean(architecture, list_models(), otherwise="`open_clip.list_models()` lists them.")
        raise ConfigError(f"encoder {architecture!r} is no architecture that open_clip knows. {advice}")
    reason = _unusable(config)
    if reason:
        raise ConfigError(
            f"encoder {architecture!r} cannot be used: {reason}.\n  Give a plain CLIP ViT, such as ViT-B-16-quickgelu."
        )
    return config


def _unusable(config: dict[str, Any]) -> str:
    """Why an architecture of open_clip cannot be used for every patch, or nothing."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    if isinstance(vision.get("layers"), list):
        return "its image tower is a ResNet, which has no patch tokens"
    if "siglip" in str(text.get("hf_tokenizer_name", "")).lower() or vision.get("timm_pool") == "map":
        return (
            "it has no class token, and its patches reach the space of the words only through an attention pool "
            "over the whole image, as in SigLIP"
        )
    if vision.get("timm_model_name"):
        return f"its image tower is timm's {vision['timm_model_name']}, whose last block is not that of CLIP"
    if "multimodal_cfg" in config or vision.get("attentional_pool"):
        return "its patches reach the space of the words only through an attention pool, as in CoCa"
    if vision.get("pool_type", "tok") != "tok":
        return "it has no class token of its own: it averages the patches"
    if text.get("hf_model_name") or text.get("hf_tokenizer_name") or config.get("custom_text"):
        return "its words need a tokenizer or a text tower that open_clip does not bring along"
    return ""


def with_weights(config: Mapping[str, object], state: Mapping[str, Tensor], *, source: str = "The state dict") -> CLIP:
    """A model of a configuration with these weights, in open_clip's layout or in that of `transformers`.

    A position table of another grid is resampled.

    Raises:
        WeightsError: missing, unexpected or differently shaped entries.
    """
    with torch.device("meta"):
        model = CLIP(**config)
    known = open_clip_layout(state) if is_transformers(state) else state
    weights = {
        key: value.float() if value.is_floating_point() else value
        for key, value in known.items()
        if key not in NOT_WEIGHTS
    }
    resize_pos_embed(weights, model)
    load(model, weights, source=source)
    # The one buffer that no checkpoint holds; our text tower makes its own.
    model.attn_mask = None
    return model.eval().requires_grad_(False)


def embed_texts(encoder: TextEncoder, texts: Sequence[str], templates: Sequence[str] = TEMPLATES) -> Tensor:
    """Unit embeddings (T, C); several templates are an ensemble: their unit embeddings are averaged."""
    prompts = [template.format(text) for template in templates for text in texts]
    unit = F.normalize(encoder.encode(prompts), dim=-1)
    mean_TC = rearrange(unit, "(templates t) c -> templates t c", templates=len(templates)).mean(dim=0)
    return F.normalize(mean_TC, dim=-1)


def _value_only(block: Any, x_BND: Tensor) -> Tensor:
    """The last block without its attention matrix; the residual is the CLS token, not each token's own."""
    attention = block.attn
    _, _, v_weight = attention.in_proj_weight.chunk(3)
    _, _, v_bias = attention.in_proj_bias.chunk(3)
    values = F.linear(block.ln_1(x_BND), v_weight, v_bias)
    y = x_BND[:, :1] + attention.out_proj(values)
    out: Tensor = y + block.mlp(block.ln_2(y))
    return out
