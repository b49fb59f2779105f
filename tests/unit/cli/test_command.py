"""How errors become messages and exit codes."""

from __future__ import annotations

import errno
import os
from typing import Annotated, Any

import pytest
import typer
from mmovseg_cli.command import command
from typer.testing import CliRunner

from mmovseg_geo.errors import SceneError


def outcome(error: BaseException | None, *options: str):
    """What becomes of a command that raises an error."""
    app = typer.Typer()

    @app.callback()
    def program() -> None:
        """A program of one command."""

    def work(talk: Any, name: Annotated[str, typer.Argument()] = "it", **settings: Any) -> None:
        if error is not None:
            raise error
        talk.result([f"{name} {settings['size']}"], {})

    command(app, options={"size": Annotated[int | None, typer.Option("--size")]})(work)
    return CliRunner().invoke(app, ["work", *options])


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (SceneError("a.tif: no such file."), 1, "✗ a.tif: no such file.\n"),
        (KeyboardInterrupt(), 130, "✗ Interrupted."),
        (MemoryError(), 1, "✗ Out of memory."),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "map.tif"),
            1,
            "✗ map.tif: No space left on device. Make room",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "map.tif"), 1, "✗ map.tif: Permission denied."),
        (
            ValueError("shapes differ"),
            1,
            "✗ This is a bug in mmovseg: ValueError: shapes differ. Run again with --debug",
        ),
        (typer.BadParameter("two at most"), 2, "two at most"),
        (typer.Exit(3), 3, ""),
    ],
)
def test_errors_become_messages_and_exit_codes(error, code, says):
    result = outcome(error)
    assert result.exit_code == code
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("error", [SceneError("lost"), ValueError("shapes differ")])
def test_debug_shows_the_traceback(error):
    assert "Traceback" in outcome(error, "--debug").stderr


def test_shared_options_arrive_and_are_none_unless_given():
    assert outcome(None).stdout == "it None\n"
    assert outcome(None, "that", "--size", "3").stdout == "that 3\n"


@pytest.mark.parametrize("option", ["-q", "--quiet", "-v", "--verbose", "--debug", "--json"])
def test_every_command_takes_the_options_of_talk(option):
    assert outcome(None, option).exit_code == 0
