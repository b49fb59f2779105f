"""`mmovseg coregister`: a SAR image moved to where the optical one shows the same."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from mmovseg_cli.command import command
from mmovseg_cli.options import SETTINGS, settings_of
from mmovseg_cli.talk import Talk

OPTIONS = {
    name: SETTINGS[name]
    for name in (
        "bands",
        "sar_bands",
        "nodata",
        "optical_scale",
        "sar_scale",
        "clouds",
        "gcps",
        "pixel_grid",
        "overwrite",
    )
}


def coregister(
    talk: Talk,
    optical: Annotated[str, typer.Argument(metavar="OPTICAL", help="Optical image; its grid and content stay.")],
    sar: Annotated[str, typer.Argument(metavar="SAR", help="Radar image of the same place, or vv.tif,vh.tif.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Folder of the aligned image and the report.",
            show_default="<optical stem>_coregistered",
        ),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only measure; write nothing.")] = False,
    model: Annotated[
        Literal["shift", "affine", "field"],
        typer.Option("--model", help="The most that may move: all alike, linearly, or as a smooth field."),
    ] = "shift",
    **settings: Any,
) -> None:
    """Align a radar image to an optical one by what they show, where that is sure.

    mmovseg coregister optical.tif sar.tif -o aligned/
    """
    if check and out is not None:
        raise typer.BadParameter("--check writes nothing; leave -o out.")
    config = settings_of(settings, talk)
    from mmovseg_geo.coregister import coregister as aligned

    result = aligned(optical, sar, out, config=config, model=model, check=check)
    shift = result.record["shift"]
    sure = f"confidence {shift['confidence']:.2f}, {'confident' if shift['confident'] else 'not confident'}"
    if check:
        lines = [f"rows {shift['rows']:+.2f}, columns {shift['cols']:+.2f} ({sure}): {result.record['verdict']}"]
    else:
        talk.note(f"{result.record['verdict']} ({sure})")
        lines = [str(path) for path in result.outputs.values()]
    talk.result(lines, {"command": "coregister", "outputs": result.outputs, **result.record})


def add_to(app: typer.Typer) -> None:
    """Add the command to the app."""
    command(app, options=OPTIONS)(coregister)
