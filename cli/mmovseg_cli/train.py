"""`mmovseg train`: a recipe in, weights out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from mmovseg_cli.command import command
from mmovseg_cli.talk import Talk
from mmovseg_cli.train_area import OPTIONS, asked_for, train_area


def train(
    talk: Talk,
    config: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG]", help="Recipe, such as configs/train/mmovseg-compact.yaml.")
    ] = None,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the run and its weights.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in this folder.")] = False,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Folder of the images, instead of the recipe's.")
    ] = None,
    device: Annotated[
        str, typer.Option("--device", help="auto, cpu, cuda or cuda:N; not for the compact recipe.")
    ] = "auto",
    **area: Any,
) -> None:
    """Train weights from a recipe, or the bundled model further on scenes and labels of your own.

    mmovseg train --optical s2.tif --sar s1.tif --labels parcels.gpkg --class-field crop -o my-area/

    mmovseg train configs/train/mmovseg-compact.yaml -o run/

    torchrun --nproc-per-node 4 -m mmovseg_cli train configs/train/mmovseg-vitb16-pie.yaml -o run/
    """
    given = asked_for(area)
    if config is None:
        if not given:
            raise typer.BadParameter("Give CONFIG, a recipe; or scenes of your own with --optical, --sar and --labels.")
        if data is not None:
            raise typer.BadParameter("--data is for recipes; leave it out.")
        train_area(talk, given, out, resume=resume, device=device)
        return
    if given:
        raise typer.BadParameter(
            "A recipe says all by itself. Leave out CONFIG, or the options of scenes of your own "
            f"({', '.join(name.replace('start', 'from').replace('_', '-') for name in given)})."
        )
    from mmovseg_geo.training.stages.run import train as trained

    weights = trained(config, out, resume=resume, data=data, device=device)
    if os.environ.get("RANK", "0") != "0":  # torchrun started this process, and another one says the result
        return
    talk.result([str(weights)], {"command": "train", "outputs": {"weights": weights}})


def add_to(app: typer.Typer) -> None:
    """Add the command to the app."""
    command(app, options=OPTIONS)(train)
