"""CLIP checkpoints in the layout of the `transformers` library, renamed to that of open_clip."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mmovseg_geo.models.state_dict import Rule, rename, same

TRANSPOSED = ("visual.proj", "text_projection")
"""Layers there, plain matrices here."""


def _tower(theirs: str, ours: str) -> tuple[Rule, ...]:
    layer, block = f"{theirs}encoder.layers.{{}}.", f"{ours}resblocks.{{}}."
    parts = {"self_attn.out_proj": "attn.out_proj", "layer_norm1": "ln_1", "layer_norm2": "ln_2"}
    parts |= {"mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    return (
        *(
            Rule(tuple(f"{layer}self_attn.{part}_proj.{kind}" for part in "qkv"), (f"{block}attn.in_proj_{kind}",))
            for kind in ("weight", "bias")
        ),
        *(same(f"{layer}{a}.{{*}}", f"{block}{b}.{{*}}") for a, b in parts.items()),
    )


RULES = (
    *_tower("vision_model.", "visual.transformer."),
    *_tower("text_model.", "transformer."),
    same("vision_model.embeddings.class_embedding", "visual.class_embedding"),
    same("vision_model.embeddings.patch_embedding.weight", "visual.conv1.weight"),
    same("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
    same("vision_model.pre_layrnorm.{*}", "visual.ln_pre.{*}"),
    same("vision_model.post_layernorm.{*}", "visual.ln_post.{*}"),
    same("visual_projection.weight", "visual.proj"),
    same("text_model.embeddings.token_embedding.weight", "token_embedding.weight"),
    same("text_model.embeddings.position_embedding.weight", "positional_embedding"),
    same("text_model.final_layer_norm.{*}", "ln_final.{*}"),
    same("text_projection.weight", "text_projection"),
    same("logit_scale", "logit_scale"),
    *(Rule((f"{tower}_model.embeddings.position_ids",), ()) for tower in ("vision", "text")),
)


def is_transformers(state: Mapping[str, Tensor]) -> bool:
    """Whether the keys are those of a `CLIPModel`."""
    return any(key.startswith("vision_model.") for key in state)


def open_clip_layout(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under open_clip's keys.

    Raises:
        WeightsError: a key that no `CLIPModel` has.
    """
    renamed = rename(state, RULES)
    return {key: value.T.contiguous() if key in TRANSPOSED else value for key, value in renamed.items()}
