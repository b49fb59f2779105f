"""Official checkpoints: their keys to ours and back, and strict loading.

A rule reads (their keys, our keys). `{}` stands for a number and `{*}` for anything, the same on both sides. One to
one renames; several of theirs to one of ours are joined along rows; one of theirs to several of ours is cut into equal
rows; theirs without ours is left out on purpose: see `IGNORED`. The first rule that fits wins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from open_clip.transformer import TextTransformer
from timm.models.eva import EvaAttention
from torch import Tensor, nn

from mmovseg_geo.errors import WeightsError, a_few
from mmovseg_geo.models.mmovseg.network import MMOVSeg, build
from mmovseg_geo.models.mmovseg.params import MMOVSegParams
from mmovseg_geo.models.mmovseg.variants import PUBLISHED

_OPTICAL, _SAR = "dino_model.", "dino_sarmodel."
_CLIP = "sem_seg_head.predictor.clip_model."
_HEAD = "sem_seg_head.predictor.transformer."


class Rule(NamedTuple):
    """Keys of the official checkpoint and the keys of ours they become; `None` is a part that is not kept."""

    theirs: tuple[str, ...]
    ours: tuple[str | None, ...]


def _same(theirs: str, ours: str) -> Rule:
    return Rule((theirs,), (ours,))


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
    _same(f"{_CLIP}visual.{{*}}", "optical.clip.visual.{*}"),
    _same(f"{_CLIP}{{*}}", "text.tower.{*}"),
)

ADAPTER_RULES = (
    _same("upsample1.{*}", "adapters.clip.0.{*}"),
    _same("upsample2.{*}", "adapters.clip.1.{*}"),
    _same("dino_decod_proj1.{*}", "adapters.optical.0.{*}"),
    _same("dino_decod_proj2.{*}", "adapters.optical.1.{*}"),
    _same("dino_down_sample.{*}", "adapters.optical.2.{*}"),
    _same("dino_sardecod_proj1.{*}", "adapters.sar.0.{*}"),
    _same("dino_sardecod_proj2.{*}", "adapters.sar.1.{*}"),
    _same("dino_sardown_sample.{*}", "adapters.sar.2.{*}"),
)

HEAD_RULES = (
    _same(f"{_HEAD}conv1.{{*}}", "head.fusion.clip.{*}"),
    _same(f"{_HEAD}conv2.{{*}}", "head.fusion.dino.{*}"),
    _same(f"{_HEAD}fusion_corr.{{*}}", "head.fusion.fuse.{*}"),
    _same(f"{_HEAD}guidance_projection.{{*}}", "head.appearance.{*}"),
    _same(f"{_HEAD}text_guidance_projection.{{*}}", "head.text_guidance.{*}"),
    _same(f"{_HEAD}layers.{{}}.swin_block.block_{{}}.mlp.fc{{*}}", "head.layers.{}.spatial.block_{}.fc{*}"),
    _same(f"{_HEAD}layers.{{}}.swin_block.{{*}}", "head.layers.{}.spatial.{*}"),
    *(
        _same(f"{_HEAD}layers.{{}}.attention.attention.{part}.{{*}}", f"head.layers.{{}}.classes.{part}.{{*}}")
        for part in "qkv"
    ),
    _same(f"{_HEAD}layers.{{}}.attention.MLP.0.{{*}}", "head.layers.{}.classes.fc1.{*}"),
    _same(f"{_HEAD}layers.{{}}.attention.MLP.2.{{*}}", "head.layers.{}.classes.fc2.{*}"),
    _same(f"{_HEAD}layers.{{}}.attention.{{*}}", "head.layers.{}.classes.{*}"),
    _same(f"{_HEAD}CLIP_decoder_guidance_projection.{{*}}", "head.decoder.clip_projections.{*}"),
    _same(f"{_HEAD}DINO_decoder_guidance_projection.{{*}}", "head.decoder.dino_projections.{*}"),
    *(
        _same(f"{_HEAD}Fusiondecoder{stage + 1}.{theirs}.{{*}}", f"head.decoder.stages.{stage}.{ours}.{{*}}")
        for stage in (0, 1)
        for theirs, ours in (
            ("up", "up"),
            ("conv.double_conv.0", "conv1"),
            ("conv.double_conv.1", "norm1"),
            ("conv.double_conv.3", "conv2"),
            ("conv.double_conv.4", "norm2"),
        )
    ),
    _same(f"{_HEAD}head.{{*}}", "head.decoder.head.{*}"),
)


def dino_rules(family: str, theirs: str, ours: str) -> tuple[Rule, ...]:
    """Rules of one DINO encoder under the two key prefixes."""
    rest = _same(theirs + "{*}", ours + "{*}")
    if family != "dinov3":
        return (rest,)
    block = ours + "blocks.{}."
    return (
        _same(theirs + "storage_tokens", ours + "reg_token"),
        _same(theirs + "blocks.{}.ls1.gamma", block + "gamma_1"),
        _same(theirs + "blocks.{}.ls2.gamma", block + "gamma_2"),
        Rule((theirs + "blocks.{}.attn.qkv.bias",), (block + "attn.q_bias", None, block + "attn.v_bias")),
        _same(theirs + "rope_embed.periods", ours + "rope.periods"),
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
    return [key for key in official if any(_capture(theirs, key) is not None for theirs in IGNORED)]


def rename(official: Mapping[str, Tensor], table: Iterable[Rule]) -> dict[str, Tensor]:
    """The tensors of an official state dict under our keys.

    Raises:
        WeightsError: a key that no rule knows, or a joined key of which a part is missing.
    """
    table = tuple(table)
    renamed: dict[str, Tensor] = {}
    unknown = []
    for key in official:
        found = _match(key, table)
        if found is None:
            unknown.append(key)
            continue
        rule, slot, filling = found
        if slot or not rule.ours:
            continue
        sources = [_fill(theirs, filling) for theirs in rule.theirs]
        absent = [source for source in sources if source not in official]
        if absent:
            raise WeightsError(f"The checkpoint has {key} without {a_few(absent)}.")
        parts = [official[source] for source in sources]
        whole = parts[0] if len(parts) == 1 else torch.cat(parts)
        for ours, rows in zip(rule.ours, whole.chunk(len(rule.ours)) if len(rule.ours) > 1 else (whole,), strict=True):
            if ours is not None:
                renamed[_fill(ours, filling)] = rows
    if unknown:
        raise WeightsError(f"Not a checkpoint of this network: unknown keys {a_few(unknown)}.")
    return renamed


def official_shapes(ours: Mapping[str, tuple[int, ...]], table: Iterable[Rule]) -> dict[str, tuple[int, ...]]:
    """Official keys and shapes of a network, from its own keys and shapes; without the dropped ones.

    Raises:
        WeightsError: a key of ours that no official key fills.
    """
    table = tuple(table)
    shapes: dict[str, tuple[int, ...]] = {}
    for key, shape in ours.items():
        for rule in table:
            fillings = [(part, _capture(part, key)) for part in rule.ours if part is not None]
            filling = next((found for _, found in fillings if found is not None), None)
            if filling is not None:
                break
        else:
            raise WeightsError(f"No official key fills {key}.")
        rows = shape[0] * len(rule.ours) // len(rule.theirs) if shape else 0
        for theirs in rule.theirs:
            shapes[_fill(theirs, filling)] = (rows, *shape[1:]) if shape else ()
    return shapes


def build_loaded(params: MMOVSegParams, state: Mapping[str, Tensor], *, source: str = "The state dict") -> MMOVSeg:
    """The network with these weights, in the memory of one copy of them."""
    with torch.device("meta"):
        network = build(params)
    load(network, state, source=source)
    _fill_constants(network)
    return network.eval()


def load(network: nn.Module, state: Mapping[str, Tensor], *, source: str = "The state dict") -> None:
    """Put `state` into the network, which may be on the meta device; tensors are taken over, dtype included.

    Raises:
        WeightsError: missing, unexpected or differently shaped entries; the network is left as it was.
    """
    expected = network.state_dict()
    missing = [key for key in expected if key not in state]
    unexpected = [key for key in state if key not in expected]
    reshaped = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected
        if key in state and state[key].shape != expected[key].shape
    ]
    problems = [("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped)]
    found = "; ".join(f"{len(keys)} {what}: {a_few(keys, 12)}" for what, keys in problems if keys)
    if found:
        raise WeightsError(f"{source} does not fit the network: {found}.")
    network.load_state_dict(state, strict=True, assign=True)


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


def _match(key: str, table: tuple[Rule, ...]) -> tuple[Rule, int, tuple[str, ...]] | None:
    for rule in table:
        for slot, theirs in enumerate(rule.theirs):
            filling = _capture(theirs, key)
            if filling is not None:
                return rule, slot, filling
    return None


def _capture(template: str, key: str) -> tuple[str, ...] | None:
    pattern = re.escape(template).replace(r"\{\}", r"(\d+)").replace(r"\{\*\}", "(.+)")
    found = re.fullmatch(pattern, key)
    return found.groups() if found else None


def _fill(template: str, filling: tuple[str, ...]) -> str:
    parts = iter(filling)
    return re.sub(r"\{\*?\}", lambda _: next(parts), template)
