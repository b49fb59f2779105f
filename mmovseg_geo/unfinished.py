"""A run at work: a hidden folder beside its outputs keeps finished strips until all outputs are complete.

    maps/.NAME.unfinished/
        lock            held by the process at work
        request.json    what decides the strips: inputs, settings, model
        strips/         finished ones, see `blocks`
        outputs/        labels, polygons and so on, as they are written
        complete        is there once they all are; then they are moved to their places

The folder goes when the outputs are in their places. A run that fails or is killed before leaves it, if any strip is
finished.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from mmovseg_geo.blocks import Blocks
from mmovseg_geo.errors import MmovsegError, OutputError
from mmovseg_geo.record import AFTER_STRIPS, differences

logger = logging.getLogger(__name__)

Outputs = Mapping[str, Path]
"""Files by kind, the record of the run last: where it is, all are."""

WhenUnfinished = Literal["refuse", "discard", "reuse", "require"]
"""What becomes of finished strips of an interrupted run.

refuse: those of an equal run stop the new one, others are removed. discard: all are removed. reuse: those of an equal
run are gone on with, others are removed. require: they are gone on with, and those of another run stop the new one.
"""


@dataclass(frozen=True)
class Run:
    """Where a run writes: stand-ins of its outputs, by kind, and its finished strips."""

    staged: dict[str, Path]
    blocks: Blocks

    def settled(self, name: str, value: int) -> int:
        """What was settled under a name when the run began, now the value if it was not."""
        path = self.blocks.folder / name
        try:
            return int(path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(str(value), encoding="ascii")
            return value


def hidden_folder(outputs: Outputs) -> Path:
    """The folder of a run that writes these outputs, while it is at work."""
    record = outputs["run"]
    return record.with_name(f".{record.name.removesuffix('_run.json')}.unfinished")


@contextmanager
def unfinished_run(outputs: Outputs, request: Mapping[str, Any], found: WhenUnfinished) -> Iterator[Run]:
    """Within, a run writes stand-ins of its outputs; they are moved into place when the block ends well.

    Args:
        request: what the run is asked for, see `record.request`.
        found: what to do where a run before was interrupted.

    Raises:
        OutputError: an interrupted run is in the way, another process is at work on these outputs, or a folder
            cannot be written.
    """
    folder = outputs["run"].parent
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    hidden = hidden_folder(outputs)
    try:
        with _held(hidden):
            blocks = _begun(hidden, request, found)
            with _kept(hidden, blocks):
                staged = {kind: hidden / "outputs" / path.name for kind, path in outputs.items()}
                yield Run(staged, blocks)
                for path in staged.values():
                    _to_disk(path)
                (hidden / "complete").touch()
            _publish(hidden, outputs)
    finally:
        with contextlib.suppress(OSError):  # Another run may have put something there.
            for parent in made:
                parent.rmdir()


def begun_run(outputs: Outputs, request: Mapping[str, Any], found: WhenUnfinished) -> Run:
    """Where several processes put strips of one run, which another then finishes as one that was interrupted.

    Raises:
        OutputError: as of `unfinished_run`.
    """
    hidden = hidden_folder(outputs)
    with _held(hidden):
        return Run({}, _begun(hidden, request, found))


def found_run(outputs: Outputs, request: Mapping[str, Any]) -> Run:
    """The run that `begun_run` began.

    Raises:
        OutputError: there is none, or it was of other inputs or settings.
    """
    hidden = hidden_folder(outputs)
    kept = _read(hidden / "request.json")
    changed = ["outputs"] if kept is None else differences(kept, request, but=AFTER_STRIPS)
    if changed:
        raise OutputError(f"While strips were computed in {hidden.parent}, these changed: {', '.join(changed)}.")
    return Run({}, Blocks(hidden / "strips"))


def finish_publishing(outputs: Outputs) -> None:
    """Move the outputs of a run that was stopped after all were complete.

    Raises:
        OutputError: the folder cannot be written, or another process is doing so.
    """
    hidden = hidden_folder(outputs)
    if (hidden / "complete").exists():
        with _held(hidden):
            _publish(hidden, outputs)


def _begun(hidden: Path, request: Mapping[str, Any], found: WhenUnfinished) -> Blocks:
    """The strips to go on with, or none, in a folder that is ready for the run."""
    blocks = Blocks(hidden / "strips")
    kept = _read(hidden / "request.json")
    count = len(blocks.rows()) if kept is not None else 0
    changed = [] if kept is None else differences(kept, request, but=AFTER_STRIPS)
    folder = hidden.parent
    if count and changed and found == "require":
        raise OutputError(
            f"The interrupted run in {folder} was made with other {', '.join(changed)}; its strips do not fit this "
            "run. Give what it had, or --overwrite without --resume to start anew."
        )
    if count and not changed and found == "refuse":
        raise OutputError(
            f"{folder} holds an interrupted run of the same inputs and settings, with {_strips(count)} finished. Add "
            "--resume to go on with it, or --overwrite to start anew."
        )
    if count and not changed and found != "discard":
        logger.info("resume   going on after %s of an interrupted run", _strips(count))
    else:
        if count:
            other = f" with other {', '.join(changed)}" if changed else ""
            logger.warning("removed %s of an interrupted run%s in %s", _strips(count), other, folder)
        shutil.rmtree(blocks.folder, ignore_errors=True)
    with _writing(hidden):
        (hidden / "complete").unlink(missing_ok=True)
        shutil.rmtree(hidden / "outputs", ignore_errors=True)
        (hidden / "outputs").mkdir()
        _write(hidden / "request.json", request)
    return blocks


@contextmanager
def _kept(hidden: Path, blocks: Blocks) -> Iterator[None]:
    """A failure within leaves finished strips, says so and how to go on; without any it leaves nothing."""
    try:
        with _writing(hidden):
            yield
    except BaseException as error:
        count = len(blocks.rows())
        if not count:
            _remove(hidden)
            raise
        shutil.rmtree(hidden / "outputs", ignore_errors=True)
        hint = f"Finished and kept in {hidden}: {_strips(count)}. Run the command again with --resume to go on."
        if isinstance(error, (MmovsegError, KeyboardInterrupt)):
            raise type(error)(f"{error}\n  {hint}".strip()) from error
        logger.error(hint)
        raise


@contextmanager
def _writing(hidden: Path, advice: str = "Choose another folder with -o.") -> Iterator[None]:
    """Within, what is raised on writing names the folder of the outputs, which the user knows, not the hidden one."""
    try:
        yield
    except OutputError as error:
        raise type(error)(str(error).replace(str(hidden / "outputs"), str(hidden.parent))) from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "Make room there, or choose another folder with -o." if full else advice
        raise OutputError(f"Cannot write to {hidden.parent}: {error.strerror or error}. {what}") from error


def _publish(hidden: Path, outputs: Outputs) -> None:
    """Move complete outputs to their places. Stopped halfway, it can be done again."""
    with _writing(hidden, "All outputs are complete; run the command again with --resume to move them there."):
        for path in outputs.values():
            staged = hidden / "outputs" / path.name
            if staged.exists():
                staged.replace(path)
        _remove(hidden)


def _remove(hidden: Path) -> None:
    """Remove the folder; what is left of it when that is interrupted counts as none."""
    (hidden / "request.json").unlink(missing_ok=True)
    shutil.rmtree(hidden, ignore_errors=True)


@contextmanager
def _held(hidden: Path) -> Iterator[None]:
    """Within, no other process works in the folder, which is made if need be."""
    with _writing(hidden):
        hidden.mkdir(parents=True, exist_ok=True)
    lock = FileLock(hidden / "lock", timeout=0)
    with _writing(hidden):
        try:
            lock.acquire()
        except Timeout:
            raise OutputError(
                f"Another process is writing to {hidden.parent}. Wait for it, or choose another folder with -o."
            ) from None
    try:
        yield
    finally:
        lock.release()
        if not (hidden / "request.json").exists():
            shutil.rmtree(hidden, ignore_errors=True)


def _to_disk(path: Path) -> None:
    """Wait until the system has written a file, so that even a power failure leaves no empty one under its name."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found if isinstance(found.get("settings"), dict) and isinstance(found.get("inputs"), list) else None
    except (OSError, ValueError, AttributeError):
        return None


def _write(path: Path, request: Mapping[str, Any]) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(request, ensure_ascii=False), encoding="utf-8")
    os.replace(beside, path)


def _strips(count: int) -> str:
    return "1 strip" if count == 1 else f"{count} strips"
