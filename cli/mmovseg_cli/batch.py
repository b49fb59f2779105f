"""`mmovseg batch`: many scenes in, a folder of maps out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmovseg_cli.command import SOME_FAILED, command
from mmovseg_cli.options import SETTINGS, settings_of
from mmovseg_cli.talk import Talk

if TYPE_CHECKING:
    from mmovseg_geo.batch import SceneResult


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
    **settings: Any,
) -> None:
    """Label many scenes, one after the other; finished ones are skipped.

    mmovseg batch scenes.csv -o maps/ --classes-file classes.yaml
    """
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

    with talk.progress() as progress:
        result = map_scenes(pairs, out, config=config, progress=progress, finished=finished)
    counts = {status: result.count(status) for status in ("done", "skipped", "failed")}
    talk.note(", ".join(f"{number} {status}" for status, number in counts.items()))
    talk.result([], {"command": "batch", "counts": counts, "scenes": [asdict(scene) for scene in result.scenes]})
    if counts["failed"]:
        raise typer.Exit(SOME_FAILED)


def add_to(app: typer.Typer) -> None:
    """Add the command to the app."""
    command(app, options=SETTINGS)(batch)
