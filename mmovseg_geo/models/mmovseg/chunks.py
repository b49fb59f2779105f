"""Classes a few at a time, so that memory does not grow with a vocabulary.

Shape suffixes: B batch, T classes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mmovseg_geo.models.mmovseg.params import HeadParams

CPU_BYTES = 32 * 2**20
"""What the activations of the classes at work may take: about the cache of a processor. More takes longer."""
GPU_BYTES = 2**30
"""Enough to keep a large GPU busy."""
_FLOAT = 4


def by_class(work: Callable[..., Tensor], classes_at_once: int | None, *maps_BT: Tensor) -> Tensor:
    """What `work` makes of maps (B, T, ...) whose classes do not see each other, some at a time; None for all."""
    if classes_at_once is None or classes_at_once >= maps_BT[0].shape[1]:
        return work(*maps_BT)
    parts = zip(*(torch.split(map_, classes_at_once, dim=1) for map_ in maps_BT), strict=True)
    return torch.cat([work(*part) for part in parts], dim=1)


def classes_at_once(params: HeadParams, images: int, cells: int, budget: int) -> int:
    """How many classes of `images` cost grids of so many cells fit in `budget` bytes, at least one."""
    hidden = params.hidden_dim
    # In a window block: the input, queries, keys and values, and the MLP before and after its activation.
    window = (4 + 2 * params.mlp_ratio) * hidden if params.num_layers else 0
    dims: tuple[int, ...] = (hidden, *params.decoder_dims)
    # In a decoder stage: the upsampled input, and a convolution before and after its norm.
    stages = (
        4 ** (stage + 1) * (dims[stage] - params.guidance_proj[stage] + 2 * dims[stage + 1])
        for stage in range(len(params.decoder_dims))
    )
    fusion = 3 * 2 * hidden
    of_cell: int = _FLOAT * max(window, fusion, *stages)
    return max(1, budget // (images * cells * of_cell))
