"""What every method looks like from outside: a batch of tiles in, blendable scores out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from mmovseg_geo.tiles import Batch, Sensor, Tiling
    from mmovseg_geo.vocabulary import Vocabulary

Array: TypeAlias = Any
"""A numpy array or a torch tensor on any device."""


@runtime_checkable
class Segmenter(Protocol):
    """Scores every pixel of a batch against a vocabulary.

    Attributes:
        name: what was asked for, such as `mmovseg-compact`.
        vocabulary: the classes, in the order of the scores (the background class is not scored).
        sensors: what it can use; a scene must carry at least one of them.
        tiling: the tile size and overlap it was tuned for.
        planes: Q, the number of score planes to blend.
        provenance: model name, revision (sha256 of the weights), precision, prompts: JSON-able values for map tags.

    A method that scores the background like any other class says so by an attribute `scores_background`, which is true.
    """

    name: str
    vocabulary: Vocabulary
    sensors: frozenset[Sensor]
    tiling: Tiling
    planes: int
    provenance: dict[str, Any]

    def __call__(self, batch: Batch) -> Array:
        """Scores (B, Q, H, W) float32 that may be averaged over overlapping tiles."""
        ...

    def probabilities(self, scores: Array) -> Array:
        """Averaged scores (Q, H, W) to class values (K, H, W) in [0, 1], K without a background that is not scored."""
        ...
