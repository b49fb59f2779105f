"""`mmovseg batch`: many scenes in, a folder of maps out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mmovseg_cli.command import SOME_FAILED, command
from mmovseg_cli.options import SETTINGS, settings_of
from mmovseg_cli.talk import Talk

if TYPE_CHECKING:
    from mmovseg_geo.batch import SceneResult

CLUSTER = "Many processes or machines"

Unit = Literal["auto", "scene", "strip"]


def batch(
    talk: Talk,
    scenes: Annotated[
        str,
        typer.Argument(
            metavar="SCENES",
            help="CSV with columns optical, sar and perhaps out; or a folder or 'pattern' of optical images.",
        ),
    ],
    sars: Annotated[
        str | None, typer.Argument(metavar="SARS", help="Folder or 'pattern' of radar images, paired by name.")
    ] = None,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder that gets a folder for each scene.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the scenes and their folders; write nothing.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            metavar="N",
            min=1,
            help="Processes of this computer, one for each GPU.",
            rich_help_panel=CLUSTER,
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            "--scheduler",
            metavar="ADDRESS|FILE",
            help="A Dask cluster that is there: tcp://host:8786, or its scheduler file.",
            rich_help_panel=CLUSTER,
        ),
    ] = None,
    unit: Annotated[
        Unit,
        typer.Option(
            "--unit",
            help="What a worker takes at a time; auto: strips where there are fewer scenes than twice the workers.",
            rich_help_panel=CLUSTER,
        ),
    ] = "auto",
    **settings: Any,
) -> None:
    """Label many scenes, one after the other or on a Dask cluster; finished ones are skipped.

    mmovseg batch scenes.csv -o maps/ --classes-file classes.yaml
    """
    if workers is not None and scheduler is not None:
        raise typer.BadParameter("Give --workers, for processes of this computer, or --scheduler, not both.")
    config = settings_of(settings, talk)
    from mmovseg_geo.batch import list_scenes, map_scenes

    pairs = list_scenes(scenes, sars)
    if dry_run:
        lines = [f"{pair.optical or 'no optical'} + {pair.sar or 'no SAR'} -> {out / pair.folder}" for pair in pairs]
        talk.result(lines, {"command": "batch", "scenes": [asdict(pair) for pair in pairs]})
        return

    def finished(scene: SceneResult) -> None:
        if scene.status == "failed":
            named = scene.scene in scene.message
            talk.error(scene.message if named else f"{scene.scene}: {scene.message}")
        elif not talk.as_json:
            talk.note(f"{scene.status} in {scene.seconds:.1f} s" if scene.status == "done" else scene.message)
            talk.line(str(scene.folder))

    if workers is None and scheduler is None:
        with talk.progress() as progress:
            result = map_scenes(pairs, out, config=config, progress=progress, finished=finished)
    else:
        from mmovseg_geo.cluster import map_on_cluster

        where: dict[str, Any] = {"workers": workers, "scheduler": scheduler, "unit": unit}
        with talk.progress("Mapping", unit="scenes") as progress:
            result = map_on_cluster(pairs, out, config=config, **where, progress=progress, finished=finished)
    counts = {status: result.count(status) for status in ("done", "skipped", "failed")}
    talk.note(", ".join(f"{number} {status}" for status, number in counts.items()))
    talk.result([], {"command": "batch", "counts": counts, "scenes": [asdict(scene) for scene in result.scenes]})
    if counts["failed"]:
        raise typer.Exit(SOME_FAILED)


def add_to(app: typer.Typer) -> None:
    """Add the command to the app."""
    command(app, options=SETTINGS)(batch)
