"""`mmovseg train`: a recipe in, weights out."""

from __future__ import annotations

import os
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
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Folder of the images, instead of the recipe's.")
    ] = None,
    device: Annotated[
        str, typer.Option("--device", help="auto, cpu, cuda or cuda:N; not for the compact recipe.")
    ] = "auto",
) -> None:
    """Train weights from a recipe.

    mmovseg train configs/train/mmovseg-compact.yaml -o run/

    torchrun --nproc-per-node 4 -m mmovseg_cli train configs/train/mmovseg-vitb16-pie.yaml -o run/
    """
    from mmovseg_geo.training.stages.run import train as trained

    weights = trained(config, out, resume=resume, data=data, device=device)
    if os.environ.get("RANK", "0") != "0":  # torchrun started this process, and another one says the result
        return
    talk.result([str(weights)], {"command": "train", "outputs": {"weights": weights}})


def add_to(app: typer.Typer) -> None:
    """Add the command to the app."""
    command(app)(train)
