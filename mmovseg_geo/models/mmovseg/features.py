"""What the encoders hand to the head, and what an encoder has to be; no library of networks is loaded for it.

Shape suffixes: B batch, C channels shared by image and text, D channels, H rows and W columns.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeAlias

from torch import Tensor

Size: TypeAlias = tuple[int, int]
Pyramid: TypeAlias = tuple[Tensor, ...]
"""Maps (B, D, H, W) for the guidance, coarse to fine in use, then the one that becomes dense features."""


class OpticalFeatures(NamedTuple):
    """What the head needs of the optical image.

    Attributes:
        dense: (B, C, H, W) on the cost grid, in the space of the text.
        hooks: maps in the role of CLIP's block outputs, one for each decoder stage, coarse to fine in use.
        pyramid: maps in the role of DINO's: one for each decoder stage, then the last one.
    """

    dense: Tensor
    hooks: Pyramid
    pyramid: Pyramid


class OpticalEncoder(Protocol):
    """A module; `size` is the height and width to bring the image to, None to take it as it is."""

    def __call__(self, image: Tensor, size: Size | None = None) -> OpticalFeatures: ...


class SarEncoder(Protocol):
    """A module that returns a pyramid with the grids of the optical one."""

    def __call__(self, image: Tensor, size: Size | None = None) -> Pyramid: ...
