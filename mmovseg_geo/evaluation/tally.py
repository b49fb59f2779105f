"""One scene counted row block by row block: confusion, boundaries and calibration; tallies of scenes add up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray

from mmovseg_geo.datasets.codes import Indices
from mmovseg_geo.evaluation.boundary import Boundaries
from mmovseg_geo.evaluation.calibration import Reliability
from mmovseg_geo.evaluation.confusion import NO_GROUPS, Confusion, Groups, Scores
from mmovseg_geo.grid import Window

Read = Callable[[Window], NDArray[Any]]
"""Pixels (H, W) of a window inside the scene."""
Seen = Callable[[int, Indices, Indices], None]
"""Told the first row of a block, its labels and its map (h, W), in order and without gaps."""

MOST_PIXELS = 4 * 2**20
"""Pixels of one block, so that memory depends neither on the height nor on the width of a scene."""
MOST_ROWS = 512


@dataclass(eq=False)
class Tally:
    """What was counted of a scene, or of many.

    Attributes:
        tolerance_px: of the boundaries.
    """

    names: tuple[str, ...]
    tolerance_px: float = 2.0
    confusion: Confusion = field(init=False)
    boundaries: Boundaries = field(init=False)
    reliability: Reliability = field(init=False)

    def __post_init__(self) -> None:
        self.confusion = Confusion(self.names)
        self.boundaries = Boundaries(self.names, self.tolerance_px)
        self.reliability = Reliability()

    def count(
        self,
        shape: tuple[int, int],
        labels: Read,
        found: Read,
        confidence: Read | None = None,
        *,
        seen: Seen | None = None,
    ) -> Tally:
        """Count a scene of `shape` (height, width); returns itself.

        Args:
            labels: class indices, 255 is not scored. found: class indices, 255 is no data and wrong.
            confidence: of 0 to 100, 255 is unknown.
            seen: told of every block.
        """
        for block in blocks(shape):
            top = max(block.row - self.boundaries.halo, 0)
            bottom = min(block.row + block.height + self.boundaries.halo, shape[0])
            wide = Window(top, 0, bottom - top, shape[1])
            rows = slice(block.row - top, block.row - top + block.height)
            true, said = labels(wide), found(wide)
            self.confusion.add(true[rows], said[rows])
            self.boundaries.add(true, said, rows)
            if confidence is not None:
                self.reliability.add(true[rows], said[rows], confidence(block))
            if seen is not None:
                seen(block.row, true[rows], said[rows])
        return self

    @property
    def pixels(self) -> int:
        """How many were scored."""
        return int(self.confusion.counts.sum())

    def scores(self, groups: Groups = NO_GROUPS) -> Scores:
        """Everything that the counts say.

        Raises:
            SceneError: no pixel was scored.
        """
        by_class, mean = self.boundaries.f1()
        return replace(
            self.confusion.scores(groups),
            boundary_f1=by_class,
            mean_boundary_f1=mean,
            calibration_error=self.reliability.error(),
        )


def total(tallies: Iterable[Tally], names: Sequence[str]) -> Tally:
    """The sum of tallies of the same classes."""
    summed = Tally(tuple(names))
    for tally in tallies:
        summed.confusion.counts += tally.confusion.counts
        summed.boundaries.counts += tally.boundaries.counts
        summed.reliability.counts += tally.reliability.counts
    return summed


def blocks(shape: tuple[int, int]) -> Iterator[Window]:
    """Windows over all columns and some rows each, from top to bottom."""
    rows = max(1, min(MOST_ROWS, MOST_PIXELS // max(shape[1], 1)))
    for start in range(0, shape[0], rows):
        yield Window(start, 0, min(rows, shape[0] - start), shape[1])


def in_memory(pixels: NDArray[Any]) -> Read:
    """Windows of an array (H, W)."""
    return lambda window: pixels[window.slices]
