"""`mmovseg segment`: one scene in, one map out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mmovseg_cli.command import command
from mmovseg_cli.options import SETTINGS, settings_of
from mmovseg_cli.talk import Talk


def segment(
    talk: Talk,
    optical: Annotated[str, typer.Argument(metavar="OPTICAL", help="Optical image; its grid is the map's.")],
    sar: Annotated[
        str | None, typer.Argument(metavar="SAR", help="Radar image of the same place, or vv.tif,vh.tif.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="DIR", help="Folder of the outputs.", show_default="<optical stem>_mmovseg"
        ),
    ] = None,
    sar_only: Annotated[
        bool, typer.Option("--sar-only", help="The image is a radar image, and there is no optical one.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")] = False,
    **settings: Any,
) -> None:
    """Label every pixel of one scene.

    mmovseg segment scene_rgb.tif scene_sar.tif --classes "water,building"
    """
    config = settings_of(settings, talk)
    if sar_only and sar is not None:
        raise typer.BadParameter("--sar-only takes one image.")
    from mmovseg_geo.models import reads_only_sar

    # A model for radar alone leaves no doubt about a single image.
    sar_only = sar_only or (sar is None and reads_only_sar(config.model))
    scene: tuple[str | None, str | None] = (None, optical) if sar_only else (optical, sar)
    if dry_run:
        from mmovseg_geo.plan import plan_lines, plan_scene

        plan = plan_scene(*scene, out, config=config)
        talk.result(plan_lines(plan), {"command": "segment", **plan})
        return
    from mmovseg_geo.maps import map_scene

    with talk.progress() as progress:
        result = map_scene(*scene, out, config=config, progress=progress)
    report = result.report
    talk.detail("took     " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in report["timings_s"].items()))
    told = {
        "command": "segment",
        "outputs": result.outputs,
        "counts": {"pixels": sum(entry["pixels"] for entry in report["classes"]), "classes": len(report["classes"])},
        **{key: report[key] for key in ("classes", "timings_s", "tiling", "warnings", "scene")},
    }
    talk.result([str(path) for path in result.outputs.values()], told)


def add_to(app: typer.Typer) -> None:
    """Add the command to the app."""
    command(app, options=SETTINGS)(segment)
