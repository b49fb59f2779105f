"""What an evaluation found: scenes counted one by one, scored as one set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from mmovseg_geo.config import TWO_PIXELS
from mmovseg_geo.evaluation.bootstrap import Intervals, intervals
from mmovseg_geo.evaluation.confusion import NO_GROUPS, Groups, Scores
from mmovseg_geo.evaluation.tally import Tally, total
from mmovseg_geo.grid import Size
from mmovseg_geo.published import Published
from mmovseg_geo.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class SceneTally:
    """One scene and what was counted there."""

    name: str
    tally: Tally


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Maps scored against labels.

    Attributes:
        title: what was scored, in a few words.
        cover: share of the images that simulated clouds reach, 0..1; None where none were asked for.
        published: numbers of papers on the same set.
        tolerance: of the boundaries, in pixels or meters.
        draws, seed: of the bootstrap.
        notes: what should be known, in sentences.
    """

    title: str
    classes: Vocabulary
    scenes: Sequence[SceneTally]
    groups: Groups = NO_GROUPS
    tolerance: Size = TWO_PIXELS
    draws: int = 1000
    seed: int = 0
    cover: float | None = None
    published: tuple[Published, ...] = ()
    notes: tuple[str, ...] = ()

    @cached_property
    def total(self) -> Tally:
        """Everything counted in all scenes."""
        return total((scene.tally for scene in self.scenes), self.classes.names)

    @cached_property
    def scores(self) -> Scores:
        """The scores of the whole set; of one confusion matrix, not a mean over scenes.

        Raises:
            SceneError: no pixel was scored.
        """
        return self.total.scores(self.groups)

    @cached_property
    def intervals(self) -> Intervals:
        """How sure the scores are; none for a single scene with scored pixels."""
        counts = [scene.tally.confusion.counts for scene in self.scenes if scene.tally.pixels]
        return intervals(counts, self.classes.names, self.groups, draws=self.draws, seed=self.seed)

    @property
    def unlabelled(self) -> tuple[str, ...]:
        """Classes that no scored pixel is labelled with."""
        rows = self.total.confusion.counts.sum(axis=1)
        return tuple(name for name, count in zip(self.classes.names, rows, strict=True) if not count)
