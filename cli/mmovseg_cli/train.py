"""`mmovseg train`: a recipe in, weights out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmovseg_cli.command import command
from mmovseg_cli.talk import Talk


def train(
    talk: Talk,
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="Recipe, such as configs/train/mmovseg-compact.yaml.")
    ],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the run and its weights.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in this folder.")] = False,
) -> None:
    """Train weights from a recipe.

    mmovseg train configs/train/mmovseg-compact.yaml -o run/
    """
    from mmovseg_geo.training import train as trained

    weights = trained(config, out, resume=resume)
    talk.result([str(weights)], {"command": "train", "outputs": {"weights": weights}})


def add_to(app: typer.Typer) -> None:
    """Add the command to the app."""
    command(app)(train)
