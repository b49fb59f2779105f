"""One process or several: those of `torchrun` share a step, and their results are as one process's."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor

from mmovseg_geo.errors import ConfigError
from mmovseg_geo.models.compute import device_of

MOST_WORKERS = 8
"""Beside a GPU. Each takes memory of its own."""
CPU_WORKERS, MANY_CORES = 2, 4
"""A network on so many cores waits for one thread that reads; with fewer, a worker takes what the network needs."""


@dataclass(frozen=True)
class Processes:
    """This process among those that train together."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_first(self) -> bool:
        """Whether it is the one that writes files."""
        return self.rank == 0

    def summed(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        if self.world > 1:
            values = values.to(self.device, copy=True)
            dist.all_reduce(values)
        return values

    def wait(self) -> None:
        """Until all processes are here."""
        if self.world > 1:
            dist.barrier()


def require_alone(what: str) -> None:
    """Refuse several processes where one would do the work of the others again, in the same files.

    Raises:
        ConfigError: `torchrun` started more than one.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(f"{what} is trained by one process. Start it without torchrun.")


def usual_workers(device: torch.device) -> int:
    """Processes that read and augment ahead where nobody said how many: a GPU waits for them, a few cores do not."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if device.type != "cpu":
        return min(MOST_WORKERS, max(1, count - 1))
    return CPU_WORKERS if count >= MANY_CORES else 0


@contextmanager
def joined(device: str = "auto") -> Iterator[Processes]:
    """This process in the group that `torchrun` says it belongs to, or alone.

    Args:
        device: `auto`, `cpu`, `cuda` or `cuda:n`; of several processes each takes a GPU of its own.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Processes(device=device_of(device))
        return
    kind = device_of(device).type
    own = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if kind == "cuda" else torch.device("cpu")
    if own.type == "cuda":
        torch.cuda.set_device(own)
    dist.init_process_group("nccl" if own.type == "cuda" else "gloo")
    said = logging.getLogger("mmovseg_geo")
    level = said.level
    if dist.get_rank() > 0:
        said.setLevel(logging.ERROR)  # the first process says it for all
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), own)
    finally:
        said.setLevel(level)
        dist.destroy_process_group()


def gathered(values_BC: Tensor) -> Tensor:
    """The rows of all processes in the order of their ranks, without gradient; own rows alone where there is one."""
    values_BC = values_BC.detach()
    if not dist.is_initialized():
        return values_BC
    parts = [torch.empty_like(values_BC) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, values_BC.contiguous())
    return torch.cat(parts)


def own_rows(count: int) -> slice:
    """Where the `count` rows of this process lie in what `gathered` returns."""
    rank = dist.get_rank() if dist.is_initialized() else 0
    return slice(rank * count, (rank + 1) * count)
