"""Official checkpoints of MM-OVSeg: the table of their keys and ours, and networks filled without a second copy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from open_clip.transformer import TextTransformer
from timm.models.eva import EvaAttention
from torch import Tensor, nn

from mmovseg_geo.errors import WeightsError
from mmovseg_geo.models.mmovseg.build import build
from mmovseg_geo.models.mmovseg.network import MMOVSeg
from mmovseg_geo.models.mmovseg.params import MMOVSegParams
from mmovseg_geo.models.mmovseg.variants import PUBLISHED
from mmovseg_geo.models.state_dict import Rule, capture, load, same

_OPTICAL, _SAR = "dino_model.", "dino_sarmodel."
_CLIP = "sem_seg_head.predictor.clip_model."
_HEAD = "sem_seg_head.predictor.transformer."


def _joined_attention(theirs: str, ours: str) -> Rule:
    parts = tuple(f"{theirs}resblocks.{{}}.attn.{part}_proj_weight" for part in "qkv")
    return Rule(parts, (f"{ours}resblocks.{{}}.attn.in_proj_weight",))


IGNORED = {
    f"{_CLIP}logit_scale": "the temperature of CLIP's own loss; cosines enter the head as they are",
    f"{_HEAD}layers.{{}}.swin_block.block_{{}}.attn_mask": "computed for any grid",
    **{
        f"{encoder}{key}": why
        for encoder in (_OPTICAL, _SAR)
        for key, why in (
            ("blocks.{}.attn.qkv.bias_mask", "zeroes the bias of the keys, which is not kept; may hold NaN"),
            ("mask_token", "stands for hidden patches in the training of the encoder"),
            ("local_cls_norm.{*}", "a norm of that training, in one revision of the encoder"),
        )
    },
}
"""Keys of official checkpoints that are left out, and why; any other key that no rule knows is an error."""

CLIP_RULES = (
    _joined_attention(f"{_CLIP}visual.transformer.", "optical.clip.visual.transformer."),
    _joined_attention(f"{_CLIP}transformer.", "text.tower.transformer."),
    same(f"{_CLIP}visual.{{*}}", "optical.clip.visual.{*}"),
    same(f"{_CLIP}{{*}}", "text.tower.{*}"),
)

ADAPTER_RULES = (
    same("upsample1.{*}", "adapters.clip.0.{*}"),
    same("upsample2.{*}", "adapters.clip.1.{*}"),
    same("dino_decod_proj1.{*}", "adapters.optical.0.{*}"),
    same("dino_decod_proj2.{*}", "adapters.optical.1.{*}"),
    same("dino_down_sample.{*}", "adapters.optical.2.{*}"),
    same("dino_sardecod_proj1.{*}", "adapters.sar.0.{*}"),
    same("dino_sardecod_proj2.{*}", "adapters.sar.1.{*}"),
    same("dino_sardown_sample.{*}", "adapters.sar.2.{*}"),
)

HEAD_RULES = (
    same(f"{_HEAD}conv1.{{*}}", "head.fusion.clip.{*}"),
    same(f"{_HEAD}conv2.{{*}}", "head.fusion.dino.{*}"),
    same(f"{_HEAD}fusion_corr.{{*}}", "head.fusion.fuse.{*}"),
    same(f"{_HEAD}guidance_projection.{{*}}", "head.appearance.{*}"),
    same(f"{_HEAD}text_guidance_projection.{{*}}", "head.text_guidance.{*}"),
    same(f"{_HEAD}layers.{{}}.swin_block.block_{{}}.mlp.fc{{*}}", "head.layers.{}.spatial.block_{}.fc{*}"),
    same(f"{_HEAD}layers.{{}}.swin_block.{{*}}", "head.layers.{}.spatial.{*}"),
    *(
        same(f"{_HEAD}layers.{{}}.attention.attention.{part}.{{*}}", f"head.layers.{{}}.classes.{part}.{{*}}")
        for part in "qkv"
    ),
    same(f"{_HEAD}layers.{{}}.attention.MLP.0.{{*}}", "head.layers.{}.classes.fc1.{*}"),
    same(f"{_HEAD}layers.{{}}.attention.MLP.2.{{*}}", "head.layers.{}.classes.fc2.{*}"),
    same(f"{_HEAD}layers.{{}}.attention.{{*}}", "head.layers.{}.classes.{*}"),
    same(f"{_HEAD}CLIP_decoder_guidance_projection.{{*}}", "head.decoder.clip_projections.{*}"),
    same(f"{_HEAD}DINO_decoder_guidance_projection.{{*}}", "head.decoder.dino_projections.{*}"),
    *(
        same(f"{_HEAD}Fusiondecoder{stage + 1}.{theirs}.{{*}}", f"head.decoder.stages.{stage}.{ours}.{{*}}")
        for stage in (0, 1)
        for theirs, ours in (
            ("up", "up"),
            ("conv.double_conv.0", "conv1"),
            ("conv.double_conv.1", "norm1"),
            ("conv.double_conv.3", "conv2"),
            ("conv.double_conv.4", "norm2"),
        )
    ),
    same(f"{_HEAD}head.{{*}}", "head.decoder.head.{*}"),
)


def dino_rules(family: str, theirs: str, ours: str) -> tuple[Rule, ...]:
    """Rules of one DINO encoder under the two key prefixes."""
    rest = same(theirs + "{*}", ours + "{*}")
    if family != "dinov3":
        return (rest,)
    block = ours + "blocks.{}."
    return (
        same(theirs + "storage_tokens", ours + "reg_token"),
        same(theirs + "blocks.{}.ls1.gamma", block + "gamma_1"),
        same(theirs + "blocks.{}.ls2.gamma", block + "gamma_2"),
        Rule((theirs + "blocks.{}.attn.qkv.bias",), (block + "attn.q_bias", None, block + "attn.v_bias")),
        same(theirs + "rope_embed.periods", ours + "rope.periods"),
        rest,
    )


def rules(params: MMOVSegParams) -> tuple[Rule, ...]:
    """The whole table for a network of these numbers."""
    left_out = (Rule((theirs,), ()) for theirs in IGNORED)
    optical = dino_rules(params.dino.family, _OPTICAL, "optical.dino.vit.")
    sar = dino_rules(params.dino.family, _SAR, "sar.vit.")
    return (*left_out, *optical, *sar, *ADAPTER_RULES, *CLIP_RULES, *HEAD_RULES)


def ignored(official: Iterable[str]) -> list[str]:
    """The keys that are left out on purpose.

    >>> ignored(["dino_model.mask_token", "dino_model.cls_token"])
    ['dino_model.mask_token']
    """
    return [key for key in official if any(capture(theirs, key) is not None for theirs in IGNORED)]


def build_loaded(params: MMOVSegParams, state: Mapping[str, Tensor], *, source: str = "The state dict") -> MMOVSeg:
    """The network with these weights, in the memory of one copy of them."""
    with torch.device("meta"):
        network = build(params)
    load(network, state, source=source)
    _fill_constants(network)
    return network.eval()


def infer_variant(official: Mapping[str, Tensor]) -> str:
    """One of `PUBLISHED`, from the width of the CLIP that an official checkpoint adapts.

    Raises:
        WeightsError: neither.
    """
    adapter = official.get("upsample1.weight")
    widths = {params().clip.vision_width: name for name, params in PUBLISHED.items()}
    if adapter is None or adapter.shape[0] not in widths:
        found = "no upsample1.weight" if adapter is None else f"upsample1.weight of width {adapter.shape[0]}"
        expected = " or ".join(f"{width} ({name})" for width, name in widths.items())
        raise WeightsError(f"Not an official MM-OVSeg checkpoint: {found}; expected a width of {expected}.")
    return widths[adapter.shape[0]]


def _fill_constants(network: nn.Module) -> None:
    """Buffers that no checkpoint holds; on the meta device they have no values."""
    for module in network.modules():
        if isinstance(module, EvaAttention) and module.q_bias is not None:
            module.register_buffer("k_bias", torch.zeros_like(module.q_bias), persistent=False)
        if isinstance(module, TextTransformer) and module.attn_mask is not None:
            module.attn_mask = module.build_causal_mask().to(module.positional_embedding.device)
