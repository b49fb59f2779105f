"""`mmovseg benchmark`: how fast this machine maps, and beside others."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mmovseg_cli.command import command
from mmovseg_cli.options import SETTINGS, settings_of
from mmovseg_cli.talk import Talk

OPTIONS = {
    name: SETTINGS[name]
    for name in (
        "classes", "classes_file", "model", "model_options", "tile_size", "overlap", "blend", "batch_size", "device",
        "precision",
    )
}  # fmt: skip


def benchmark(
    talk: Talk,
    optical: Annotated[
        str | None, typer.Argument(metavar="OPTICAL", help="A scene of yours; without one, a scene is simulated.")
    ] = None,
    sar: Annotated[str | None, typer.Argument(metavar="SAR", help="Radar image of the same place.")] = None,
    against: Annotated[
        str,
        typer.Option(
            "--vs", metavar="monai,loop", help="What to measure beside: MONAI's sliding windows, a crop loop."
        ),
    ] = "",
    side: Annotated[int, typer.Option("--side", metavar="PIXELS", min=64, help="Side of the simulated scene.")] = 2048,
    repeats: Annotated[
        int, typer.Option("--repeats", metavar="N", min=1, help="Run everything so often, in turns; show medians.")
    ] = 1,
    **settings: Any,
) -> None:
    """Measure speed and memory of mapping on this machine, as one table.

    mmovseg benchmark --device cuda --vs monai,loop
    """
    config = settings_of(settings, talk)
    from mmovseg_geo.benchmark import compare, lines

    ways = [way.strip() for way in against.split(",") if way.strip()]
    result = compare(optical, sar, config=config, against=ways, side=side, repeats=repeats, say=talk.note)
    talk.result(lines(result), {"command": "benchmark", **result})


def add_to(app: typer.Typer) -> None:
    """Add the command to the app."""
    command(app, options=OPTIONS)(benchmark)
