"""What the loop asks of a stage, and what stages have in common: which parameters learn, at which rates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Pictures = list[tuple[str, NDArray[Any]]]
"""Titles and RGB pictures (H, W, 3) uint8."""


class Stage(nn.Module, ABC):
    """Networks with their loss. Parameters that do not learn have no gradient.

    A batch holds tensors by name, and `id`, the names of the images. Scores are computed from sums, so that several
    processes can share the validation images.

    Attributes:
        judged: name of the score that says which weights are best.
        higher_is_better: whether that score should grow.
    """

    judged = "loss"
    higher_is_better = False

    @abstractmethod
    def forward(self, batch: Mapping[str, Any]) -> Tensor:
        """The loss, a mean over what `weight` counts."""

    def weight(self, batch: Mapping[str, Any]) -> float:
        """How much the loss of a batch counts among the others of its step."""
        return float(len(batch["id"]))

    @abstractmethod
    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Groups for an optimizer: `params`, `weight_decay`, and `rate`, a multiple of the learning rate."""

    def sums(self, batch: Mapping[str, Any]) -> Tensor:
        """What a validation batch adds to the scores."""
        weight = self.weight(batch)
        return torch.stack([self(batch).double() * weight, torch.tensor(weight, dtype=torch.float64).to(_of(self))])

    def scores(self, sums: Tensor) -> dict[str, float]:
        """Scores by name, from the sum of all `sums`."""
        return {"loss": float(sums[0] / sums[1].clamp(min=1))}

    def pictures(self, batch: Mapping[str, Any]) -> Pictures:
        """What a report may show of one validation image; nothing where there is nothing to see."""
        return []

    @property
    def judged_at_once(self) -> int:
        """Validation images that are scored together; labels of other sizes cannot be."""
        return 1

    @abstractmethod
    def export(self, folder: Path, about: Mapping[str, str]) -> Path:
        """Write the file that the stage is run for.

        Args:
            about: what its metadata should say beside what the stage knows.
        """

    @property
    @abstractmethod
    def use(self) -> str:
        """How the file is used, a sentence or command with FILE in it, for the model card."""

    def facts(self) -> dict[str, str]:
        """What else the model card should say, by what it is about."""
        return {}

    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that learn, by name."""
        return {name: value for name, value in self.named_parameters() if value.requires_grad}

    def frozen(self) -> dict[str, Tensor]:
        """The other entries of the state."""
        return {name: value for name, value in self.state_dict().items() if name not in self.trained()}


def plain_parameters(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Parameters that learn: those of norms, which are not decayed, and all others."""
    kinds = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d)
    of_norms = {id(value) for part in module.modules() if isinstance(part, kinds) for value in part.parameters()}
    learning = [value for value in module.parameters() if value.requires_grad]
    return [p for p in learning if id(p) in of_norms], [p for p in learning if id(p) not in of_norms]


def _of(module: nn.Module) -> torch.device:
    return next(module.parameters()).device
