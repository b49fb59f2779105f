"""`mmovseg doctor`: what is installed, which device, what is missing."""

from __future__ import annotations

import typer

from mmovseg_cli.command import FAILED, command
from mmovseg_cli.talk import Talk


def doctor(talk: Talk) -> None:
    """Say what is installed, what this machine has to compute with, and what is missing; exit code 1 for a problem.

    mmovseg doctor
    """
    from mmovseg_geo.doctor import examine, lines

    facts = examine()
    talk.result(lines(facts), {"command": "doctor", **facts})
    if facts["problems"]:
        raise typer.Exit(FAILED)


def add_to(app: typer.Typer) -> None:
    """Add the command to the app."""
    command(app)(doctor)
