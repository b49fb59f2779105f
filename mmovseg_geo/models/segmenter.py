"""What every method looks like from outside: a batch of tiles in, blendable scores out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
    One that computes on a GPU has an attribute `transfer`, a `DeviceTransfer` that keeps it busy; its batches then hold
    what `to_device` makes of the arrays.
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


class Transfer(Protocol):
    """How tiles reach a segmenter and bytes come back, started by one thread and waited for by another."""

    def to_device(self, batch: Batch) -> Callable[[], Batch]:
        """Start copying a batch; the thread of the model calls what this returns, to have it."""
        ...

    def to_host(self, *arrays: Array) -> Callable[[], tuple[NDArray[Any], ...]]:
        """Start copying arrays to the host; who needs them calls what this returns."""
        ...


class DeviceTransfer(Transfer, Protocol):
    """A transfer to a device with memory of its own."""

    def free_bytes(self) -> int:
        """Memory that is left where the scores are made."""
        ...

    def peak_of(self, work: Callable[[], object]) -> int:
        """Bytes that work takes there at its peak."""
        ...


class _OnHost:
    """Nothing needs to move, and memory is that of the process, which `mmovseg_geo.machine` knows."""

    def to_device(self, batch: Batch) -> Callable[[], Batch]:
        return lambda: batch

    def to_host(self, *arrays: Array) -> Callable[[], tuple[NDArray[Any], ...]]:
        import numpy as np  # whoever only asks where weights are waits for nothing

        return lambda: tuple(
            array if isinstance(array, np.ndarray) else np.asarray(array.detach().cpu()) for array in arrays
        )


ON_HOST: Transfer = _OnHost()
"""For segmenters that take and give what is in the memory of the host (or of a GPU, and then everybody waits)."""
