"""What a command says: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 1
"""Of the object that `--json` prints."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Talk:
    """How much a command says, and in which form."""

    quiet: bool = False
    verbose: bool = False
    debug: bool = False
    as_json: bool = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Let the library's log, GDAL's and Python's warnings speak on stderr, as loud as was asked for."""
        level = logging.DEBUG if self.debug or self.verbose else logging.ERROR if self.quiet else logging.INFO
        # GDAL's warnings, which rasterio and pyogrio pass on, matter where an option is ignored or a file is odd.
        levels = {"mmovseg_geo": level, "rasterio": max(level, logging.WARNING)}
        loggers = {logging.getLogger(name): least for name, least in levels.items()}
        before = [(logger, logger.handlers, logger.level, logger.propagate) for logger in loggers]
        handler = _Handler()
        for logger, least in loggers.items():
            logger.handlers, logger.propagate = [handler], False
            logger.setLevel(least)
        with warnings.catch_warnings():
            if not (self.debug or self.verbose):
                # Libraries warn of what mmovseg handles or says itself, such as a raster without a transform.
                warnings.simplefilter("ignore")
                warnings.filterwarnings("default", category=RuntimeWarning, module="pyogrio")
                warnings.showwarning = lambda message, *_, **__: self.warn(f"GDAL: {message}")
            try:
                yield
            finally:
                for logger, handlers, least, propagate in before:
                    logger.handlers, logger.propagate = handlers, propagate
                    logger.setLevel(least)

    def note(self, text: str) -> None:
        """Say what was found or decided."""
        if not self.quiet:
            _say(text)

    def detail(self, text: str) -> None:
        """Say what only `-v` asks for."""
        if self.verbose:
            _say(text)

    def warn(self, text: str) -> None:
        """Say what the user should look at."""
        if not self.quiet:
            _say(f"! {text}")

    def error(self, text: str) -> None:
        """Say why the command failed."""
        _say(f"✗ {text}")

    def line(self, text: str) -> None:
        """Print one line of the result while others are still to come."""
        print(text, flush=True)

    def result(self, lines: list[str], data: Mapping[str, Any]) -> None:
        """Print the result: lines, or with `--json` one object."""
        if self.as_json:
            print(json.dumps({"schema_version": SCHEMA_VERSION, **data}, indent=2, ensure_ascii=False, default=_plain))
        else:
            for line in lines:
                print(line)
        sys.stdout.flush()

    @contextmanager
    def progress(self, title: str = "Labeling", unit: str = "tiles") -> Iterator[Progress | None]:
        """A function told (tiles done, tiles in all) that draws a bar; None where nobody would see it."""
        if self.quiet or not sys.stderr.isatty():
            yield None
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(f"{unit}  {{task.fields[rate]}}"),
            TimeRemainingColumn(),
            TextColumn("left"),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(title, total=None, rate="")

            def tell(done: int, total: int) -> None:
                if done < bar.tasks[0].completed:
                    bar.reset(task)
                speed = bar.tasks[0].speed
                rate = f"{speed:.1f}/s" if speed else ""
                step = "Writing" if done == total else title
                bar.update(task, description=step, completed=done, total=total, rate=rate)

            yield tell


class _Handler(logging.Handler):
    """Prints messages, each warning once."""

    def __init__(self) -> None:
        super().__init__()
        self.said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = re.sub(r"^CPLE_\w+ in ", "GDAL: ", self.format(record))
        if record.levelno < logging.WARNING:
            _say(text)
        elif text not in self.said:
            self.said.add(text)
            _say(f"! {text}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else repr(value)
