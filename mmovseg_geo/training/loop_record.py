"""What a run tells of itself while it goes: `metrics.jsonl`, TensorBoard where it is installed, a bar on a terminal."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

METRICS = "metrics.jsonl"
VALIDATION = "validation "
"""Begins the names of scores on validation images."""
logger = logging.getLogger(__name__)


class Record:
    """Numbers by step, appended to the run's files; use it as a context, so that they are closed.

    Args:
        after: the step to go on from; lines of later steps, of a run that was stopped between checkpoints, are dropped.
    """

    def __init__(self, folder: Path, *, after: int = 0) -> None:
        self.path = folder / METRICS
        kept = [entry for entry in read_metrics(folder) if entry["step"] <= after]
        self.path.write_text("".join(json.dumps(entry) + "\n" for entry in kept), encoding="utf-8")
        self._file = self.path.open("a", encoding="utf-8")
        self._board = _board(folder / "tensorboard", after)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """One line of numbers that belong to the end of a step."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            if self._board is not None:
                self._board.add_scalar(name, value, step)

    def __enter__(self) -> Record:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`; a last line that was cut off is left out."""
    path = folder / METRICS
    if not path.is_file():
        return []
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entries.append(json.loads(line))
        except ValueError:
            break
    return entries


class Bar:
    """How far a run is: on a terminal a bar with loss, rate and time left, elsewhere a line now and then."""

    def __init__(self, task: Any = None, progress: Any = None) -> None:
        self._task, self._progress = task, progress

    def tell(self, step: int, loss: float) -> None:
        """Called after every step."""
        if self._progress is None:
            return
        speed = self._progress.tasks[0].speed
        rate = f"{speed:.2f}/s" if speed else ""
        self._progress.update(self._task, completed=step, loss=f"{loss:.4g}", rate=rate)

    def line(self, step: int, steps: int, values: Mapping[str, float], *, seconds_left: float | None = None) -> None:
        """Called where metrics are written; the bar shows them already, so that only a log says them again."""
        if self._progress is None or seconds_left is None:
            left = "" if seconds_left is None else f"  {_duration(seconds_left)} left"
            said = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
            logger.info("step %d/%d  %s%s", step, steps, said, left)


@contextmanager
def bar(steps: int, done: int, *, shown: bool) -> Iterator[Bar]:
    """A bar on stderr, where that is a terminal and the log is heard."""
    if not (shown and sys.stderr.isatty() and logger.isEnabledFor(logging.INFO)):
        yield Bar()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("Training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps  loss {task.fields[loss]}  {task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("Training", total=steps, completed=done, loss="", rate="")
        yield Bar(task, progress)


def _board(folder: Path, after: int) -> Any:
    """TensorBoard's writer, or None where it is not installed (`pip install mmovseg-geo[train]`)."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=after + 1 if after else None)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
