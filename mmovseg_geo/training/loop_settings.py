"""How a stage is optimized: steps, rates, precision, what is kept. See `docs/training.md` for each in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from mmovseg_geo.errors import ConfigError

Optimizer = Literal["adamw", "nadam"]
Course = Literal["cosine", "constant"]
TrainingPrecision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class LoopSettings:
    """Everything the loop of a stage can be told.

    Attributes:
        batch_size: samples of one step, over all processes and parts.
        accumulate: parts of a step that a process computes one after the other, to save memory.
        schedule: of the learning rate: a cosine down to 0, or constant.
        warmup_steps: first steps, in which the rate rises.
        gradient_clip: largest L2 norm of all gradients together; None for no limit.
        clip_steps: how many first steps are clipped; None for all.
        tf32: let GPUs multiply single-precision matrices with ten bits of mantissa.
        average: how much of an exponential average of the weights stays at a step; 0 keeps none.
        log_every, save_every, check_every: steps between lines of metrics, checkpoints and validations.
        patience: validations in a row without a better score after which the run stops; 0 for never.
        workers: processes that read and augment images; 0 reads between the steps.
    """

    steps: int = 1000
    batch_size: int = 8
    accumulate: int = 1
    learning_rate: float = 2.5e-4
    weight_decay: float = 1e-4
    optimizer: Optimizer = "adamw"
    schedule: Course = "cosine"
    warmup_steps: int = 0
    gradient_clip: float | None = None
    clip_steps: int | None = None
    precision: TrainingPrecision = "fp32"
    tf32: bool = True
    average: float = 0.0
    log_every: int = 20
    save_every: int = 500
    check_every: int = 1000
    patience: int = 0
    workers: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "log_every", "save_every", "check_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"optimization.{name} {getattr(self, name)} is not positive.")
        for name, known in (("optimizer", Optimizer), ("schedule", Course), ("precision", TrainingPrecision)):
            if getattr(self, name) not in get_args(known):
                raise ConfigError(
                    f"optimization.{name} {getattr(self, name)!r} is unknown. Known: {', '.join(get_args(known))}."
                )
        if not 0 <= self.average < 1:
            raise ConfigError(f"optimization.average {self.average} is no share that stays; give 0 to 0.9999.")
        if self.batch_size % self.accumulate:
            raise ConfigError(
                f"optimization.batch_size {self.batch_size} cannot be computed in {self.accumulate} equal parts.\n"
                "  Give a batch_size that accumulate divides."
            )

    def pace(self, step: int) -> float:
        """Share of the learning rates at a step (0 is the first).

        >>> LoopSettings(steps=100).pace(50)
        0.5
        """
        risen = min(1.0, (step + 1) / (self.warmup_steps + 1))
        if self.schedule == "constant":
            return risen
        return risen * 0.5 * (1 + math.cos(math.pi * step / self.steps))

    def part_size(self, world: int) -> int:
        """Samples that each of `world` processes computes at once.

        Raises:
            ConfigError: they cannot be shared out evenly.
        """
        parts = world * self.accumulate
        if self.batch_size % parts:
            raise ConfigError(
                f"optimization.batch_size {self.batch_size} cannot be shared by {world} processes of "
                f"{self.accumulate} parts each. Give a multiple of {parts}."
            )
        return self.batch_size // parts


def differing(one: Mapping[str, object], other: Mapping[str, object]) -> list[str]:
    """Keys whose values differ, or that one of the two lacks."""
    return sorted(key for key in {*one, *other} if one.get(key) != other.get(key))
