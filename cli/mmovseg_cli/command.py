"""How a function becomes a command: options that all share, errors without tracebacks, exit codes."""

from __future__ import annotations

import errno
import inspect
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from mmovseg_cli.talk import Talk
from mmovseg_geo.errors import OUT_OF_MEMORY, MmovsegError, is_out_of_memory

FAILED = 1
SOME_FAILED = 3
INTERRUPTED = 130

TALKING: dict[str, Any] = {
    "quiet": Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but results and errors.")],
    "verbose": Annotated[
        bool, typer.Option("--verbose", "-v", help="Say more: settings, timings, what libraries warn of.")
    ],
    "debug": Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")],
    "as_json": Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")],
}
"""Options of every command."""


def command(
    app: typer.Typer, *, options: Mapping[str, Any] | None = None, name: str | None = None
) -> Callable[[Callable[..., None]], None]:
    """Register a function `(talk, arguments..., **settings)` as the command of its name.

    Args:
        options: name to annotation of the options that arrive in `**settings`, None where not given.
        name: of the command, where it cannot be that of a function.
    """

    def register(run: Callable[..., None]) -> None:
        own = [
            parameter
            for parameter in inspect.signature(run, eval_str=True).parameters.values()
            if parameter.name != "talk" and parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        shared = [(name, annotation, None) for name, annotation in (options or {}).items()]
        talking = [(name, annotation, False) for name, annotation in TALKING.items()]
        added = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for name, annotation, default in [*shared, *talking]
        ]

        def call(**given: Any) -> None:
            talk = Talk(**{name: given.pop(name) for name in TALKING})
            with guarded(talk), talk.listening():
                run(talk, **given)

        parameters = [*(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own), *added]
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        call.__name__, call.__doc__ = run.__name__, run.__doc__
        app.command(name)(call)

    return register


@contextmanager
def guarded(talk: Talk) -> Iterator[None]:
    """Errors that users can meet become one message and an exit code."""
    try:
        yield
    except (MmovsegError, KeyboardInterrupt, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        if talk.debug:
            traceback.print_exc()
        talk.error(_message(error))
        raise typer.Exit(INTERRUPTED if isinstance(error, KeyboardInterrupt) else FAILED) from None
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except Exception as error:
        if talk.debug:
            traceback.print_exc()
        advice = "" if talk.debug else " Run again with --debug and report what it prints."
        bug = f"This is a bug in mmovseg: {type(error).__name__}: {error}.{advice}"
        talk.error(OUT_OF_MEMORY if is_out_of_memory(error) else bug)
        raise typer.Exit(FAILED) from None


def _message(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return f"Interrupted. {error}" if str(error) else "Interrupted. Nothing unfinished was left behind."
    if isinstance(error, OSError):
        place = f" {error.filename}:" if error.filename else ""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = " Make room, or write elsewhere with -o." if full else ""
        return f"{place.strip()} {error.strerror or error}.{advice}".strip()
    return str(error)
