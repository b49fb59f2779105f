"""Where the reference's named tensors appear in our modules, and how to record them in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
from einops import rearrange
from torch import Tensor, nn

from mmovseg_geo.models.mmovseg.encoders import DINOv3
from mmovseg_geo.models.mmovseg.head import CostHead
from mmovseg_geo.models.mmovseg.network import MMOVSeg

Tensors = dict[str, np.ndarray]
Take = Callable[[tuple[Any, ...], Any], Tensor]


class Hook(NamedTuple):
    """What to take from the inputs and the output of a module: one name for each of its calls."""

    module: nn.Module
    names: Sequence[str]
    take: Take


def output(_inputs: tuple[Any, ...], found: Tensor) -> Tensor:
    return found


def first_input(inputs: tuple[Any, ...], _found: Any) -> Tensor:
    return inputs[0]


def rearranged(pattern: str) -> Take:
    return lambda _inputs, found: rearrange(found, pattern)


@contextmanager
def recording(hooks: Sequence[Hook]) -> Iterator[Tensors]:
    """Tensors by name, filled while the modules run."""
    tensors: Tensors = {}
    with ExitStack() as stack:
        for hook in hooks:
            stack.callback(hook.module.register_forward_hook(_recorder(hook, tensors)).remove)
        yield tensors


def _recorder(hook: Hook, tensors: Tensors) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
    names = iter(hook.names)

    def record(_module: nn.Module, inputs: tuple[Any, ...], found: Any) -> None:
        tensors[next(names)] = hook.take(inputs, found).detach().numpy()

    return record


def head_hooks(head: CostHead) -> list[Hook]:
    """Sections 6 to 8 of the method."""
    volume = rearranged("b t h w d -> b d t h w")
    hooks = [
        Hook(head.fusion, ["corr_clip"], lambda inputs, _: inputs[0][:, None]),
        Hook(head.fusion, ["corr_dino"], lambda inputs, _: inputs[1][:, None]),
        Hook(head.fusion, ["fused_cost"], volume),
        Hook(head.appearance, ["appearance_guidance"], output),
        Hook(head.text_guidance, ["text_guidance"], output),
        Hook(head, ["logits"], output),
    ]
    for i, layer in enumerate(head.layers):
        tokens = rearranged("b t h w d -> (b t) (h w) d")
        hooks += [
            Hook(layer.spatial.block_1, [f"agg{i}_swin_block1"], tokens),
            Hook(layer.spatial, [f"agg{i}_spatial"], volume),
            Hook(layer, [f"agg{i}_out"], volume),
        ]
    for i, stage in enumerate(head.decoder.stages):
        hooks += [
            Hook(head.decoder.clip_projections[i], [f"dec{i}_clip_guidance"], output),
            Hook(head.decoder.dino_projections[i], [f"dec{i}_dino_guidance"], output),
            Hook(stage, [f"dec{i}_out"], rearranged("b t c h w -> (b t) c h w")),
        ]
    return hooks


def dino_hook(encoder: nn.Module, names: Sequence[str]) -> Hook:
    """Normed block outputs in the order of the blocks; with CLS for DINOv1, patches alone for DINOv3."""
    first = 1 + encoder.REGISTERS if isinstance(encoder, DINOv3) else 0
    return Hook(encoder.vit.norm, names, lambda _, found: found[:, first:])


def network_hooks(model: MMOVSeg, grid: int) -> list[Hook]:
    """The whole network; what the reference records as a sum of two sensors comes as one tensor for each."""
    optical, adapters = model.optical, model.adapters
    visual = optical.clip.visual
    hooks = [
        *head_hooks(model.head),
        Hook(visual.conv1, ["clip_input"], first_input),
        Hook(optical.dino.vit.patch_embed, ["dino_optical_input"], first_input),
        Hook(model.sar.vit.patch_embed, ["dino_sar_input"], first_input),
        Hook(visual.ln_post, ["clip_dense"], lambda _, found: found @ visual.proj),
        Hook(adapters.optical[-1], ["optical_dense_sum_last"], output),
        Hook(adapters.sar[-1], ["sar_dense_sum_last"], output),
    ]
    for name, block in zip(("early", "mid"), optical.clip.hooks, strict=True):
        sequence_first = rearranged("b n d -> n b d")
        hooks.append(Hook(visual.transformer.resblocks[block], [f"clip_hook_{name}"], sequence_first))
    for sensor, encoder in (("optical", optical.dino), ("sar", model.sar)):
        hooks.append(dino_hook(encoder, [f"dino_{sensor}_{name}" for name in ("early", "mid", "last")]))
    for stage, module in enumerate(adapters.clip):
        size = grid * 2 ** (stage + 1)
        hooks += [
            Hook(module, [f"clip_guidance_{size}"], output),
            Hook(adapters.optical[stage], [f"optical_dino_guidance_{size}"], output),
            Hook(adapters.sar[stage], [f"sar_dino_guidance_{size}"], output),
        ]
    return hooks


def add_sensors(tensors: Tensors) -> None:
    """Replace `optical_X` and `sar_X` by their sum X."""
    for name in [name.removeprefix("optical_") for name in tensors if name.startswith("optical_")]:
        tensors[name] = tensors.pop(f"optical_{name}") + tensors.pop(f"sar_{name}")
