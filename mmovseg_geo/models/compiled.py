"""A network compiled for the machine it runs on, where that is possible.

On a GPU the compiled network is recorded as a CUDA graph too, so that a batch costs the processor a single launch.
Compiling takes a minute or so: it pays for large scenes and archives.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mmovseg_geo.errors import is_out_of_memory

logger = logging.getLogger(__name__)

Run = Callable[..., Tensor]


class Compiled:
    """Takes the place of a network in inference; what cannot be compiled here runs as it is, and says so once.

    Compiled code and CUDA graphs belong to one shape. Batches with fewer images than the largest so far, such as the
    last of a scene, are filled up with copies of their last image, whose answers are dropped.

    Args:
        shared: positions of the inputs that belong to all images of a batch.
    """

    def __init__(self, network: nn.Module, device: torch.device, *, shared: tuple[int, ...] = ()) -> None:
        self.network = network
        self.shared = shared
        self._graphs = device.type == "cuda"
        mode = "reduce-overhead" if self._graphs else "default"
        self._run: Run | None = torch.compile(network, dynamic=False, mode=mode)
        self._images = 0

    def __call__(self, *inputs: Tensor | None) -> Tensor:
        if self._run is None:
            return self._plain(inputs)
        images = next(len(one) for index, one in enumerate(inputs) if one is not None and index not in self.shared)
        self._images = max(self._images, images)
        filled = [self._filled(index, one) for index, one in enumerate(inputs)]
        try:
            if self._graphs:
                # The answer lies in memory of the graph, which the next batch may overwrite.
                torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
            return self._run(*filled)[:images]
        except Exception as error:  # A compiler that is missing or fails shows itself in many ways.
            self._images = 0
            if is_out_of_memory(error):
                raise
            self._run = None
            logger.warning("The network runs without being compiled: %s", _reason(error))
            return self._plain(inputs)

    def _filled(self, index: int, one: Tensor | None) -> Tensor | None:
        missing = 0 if one is None or index in self.shared else self._images - len(one)
        if one is None or missing <= 0:
            return one
        return torch.cat([one, one[-1:].expand(missing, *one.shape[1:])])

    def _plain(self, inputs: tuple[Tensor | None, ...]) -> Tensor:
        answer: Any = self.network(*inputs)
        assert isinstance(answer, Tensor)
        return answer


def _reason(error: Exception) -> str:
    """The innermost cause in one line."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[0][:200] if lines else 'no reason given'}"
