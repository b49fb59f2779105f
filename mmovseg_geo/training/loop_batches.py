"""Which samples a step learns from: decided by seed and step alone, whoever computes them and whenever.

So a resumed run, or one of several processes, sees what a run in one piece by one process sees. Samples are read and
augmented ahead by worker processes, where there are any; each opens the files anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sized
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate, get_worker_info

from mmovseg_geo.errors import MmovsegError, TrainingFailed
from mmovseg_geo.training.loop_processes import Processes
from mmovseg_geo.training.loop_settings import LoopSettings


@dataclass(frozen=True)
class Draw:
    """One sample of a run: which image, and its place in the run, which seeds its augmentation."""

    index: int
    number: int


class Samples(Sized, Protocol):
    """What a stage learns from: tensors by name for a draw; `id` names the image."""

    def __getitem__(self, draw: Draw) -> dict[str, Any]: ...


class Draws(Sampler[list[Draw]]):
    """The parts of steps that one process computes, from a step on: epochs in a new order each."""

    def __init__(self, count: int, settings: LoopSettings, processes: Processes, *, first_step: int = 0) -> None:
        self.count, self.settings, self.processes = count, settings, processes
        self.first_step = first_step
        self.size = settings.part_size(processes.world)
        self._epoch, self._order = -1, np.zeros(0, np.int64)

    def __len__(self) -> int:
        return (self.settings.steps - self.first_step) * self.settings.accumulate

    def __iter__(self) -> Iterator[list[Draw]]:
        for step in range(self.first_step, self.settings.steps):
            for part in range(self.settings.accumulate):
                place = part * self.processes.world + self.processes.rank
                first = step * self.settings.batch_size + place * self.size
                yield [self.draw(number) for number in range(first, first + self.size)]

    def draw(self, number: int) -> Draw:
        """The image of a place in the run."""
        epoch, place = divmod(number, self.count)
        if epoch != self._epoch:
            rng = np.random.Generator(np.random.PCG64([self.settings.seed, epoch]))
            self._epoch, self._order = epoch, rng.permutation(self.count)
        return Draw(int(self._order[place]), number)


def training_batches(
    samples: Samples, settings: LoopSettings, processes: Processes, *, first_step: int
) -> Iterator[dict[str, Any]]:
    """The parts of the steps from `first_step` on, in order, read ahead by the workers.

    Raises:
        MmovsegError: an image that cannot be used, as its reader says it; a worker that the system ended.
    """
    draws = Draws(len(samples), settings, processes, first_step=first_step)
    on_gpu = processes.device.type == "cuda"
    return iter(Batches(samples, draws, settings.workers, pin_memory=on_gpu))


def validation_batches(samples: Samples, settings: LoopSettings, processes: Processes, *, at_once: int = 1) -> Batches:
    """This process's share of the validation images, some at once."""
    every = [Draw(index, index) for index in range(len(samples))]
    groups = [every[first : first + at_once] for first in range(0, len(every), at_once)]
    own = groups[processes.rank :: processes.world]
    return Batches(samples, own, settings.workers)


class Batches:
    """Groups of samples as batches, in their order, as often as they are asked for; the workers stay the same."""

    def __init__(self, samples: Samples, draws: Any, workers: int, *, pin_memory: bool = False) -> None:
        self.loader: DataLoader[Any] = DataLoader(
            _Told(samples),
            batch_sampler=draws,
            num_workers=workers,
            collate_fn=_collated,
            pin_memory=pin_memory,
            persistent_workers=workers > 0,
        )

    def __iter__(self) -> Iterator[dict[str, Any]]:
        try:
            for batch in self.loader:
                if isinstance(batch, MmovsegError):
                    raise batch
                yield batch
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise TrainingFailed(
                f"A process that reads images was ended by the system ({str(error).splitlines()[0]}).\n"
                "  Most often memory ran out, in containers that of /dev/shm: give fewer workers, 0 for none."
            ) from error


class _Told(Dataset[Any]):
    """Samples whose errors are handed over like samples: raised in a worker they would arrive with its traceback."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __getitem__(self, draw: Draw) -> Any:
        try:
            return self.samples[draw]
        except MmovsegError as error:
            if get_worker_info() is not None:  # what caused it may not be able to go to another process
                error.__cause__ = error.__context__ = None
            return error


def _collated(drawn: list[Any]) -> Any:
    return next((sample for sample in drawn if isinstance(sample, MmovsegError)), None) or default_collate(drawn)
