"""`mmovseg info`: what mmovseg believes about input files, and why."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmovseg_cli.command import command
from mmovseg_cli.options import READING, SETTINGS, settings_of
from mmovseg_cli.talk import Talk

if TYPE_CHECKING:
    from mmovseg_geo.config import SegmentConfig

OPTIONS = {name: SETTINGS[name] for name in READING}


def info(
    talk: Talk,
    files: Annotated[
        list[str], typer.Argument(metavar="OPTICAL [SAR]", help="An optical and a radar image, or one of them.")
    ],
    **settings: Any,
) -> None:
    """Say what mmovseg believes about images: bands, values, no-data, scaling, overlap.

    mmovseg info scene_rgb.tif scene_sar.tif
    """
    if len(files) > 2:
        raise typer.BadParameter(f"{len(files)} files were given; name an optical image, a radar image, or both.")
    config = settings_of(settings, talk)
    from mmovseg_geo.summary import details

    # What a swath holds is worth telling before it is asked how it should be warped.
    description = _described(files, replace(config, gcps="tps"))
    for text in description["warnings"]:
        talk.warn(text)
    parts = [part for part in (description["optical"], *description["sar"]) if part]
    if config.gcps is None and any("gcps" in part for part in parts):
        talk.warn("To map an image that is placed by control points alone, say --gcps tps.")
    talk.result(details(description), {"command": "info", **description})


def _described(files: list[str], config: SegmentConfig) -> dict[str, Any]:
    from mmovseg_geo.errors import MissingBand
    from mmovseg_geo.maps import opened

    optical, sar = files[0], files[1] if len(files) > 1 else None
    try:
        with opened(optical, sar, config) as scene:
            return scene.describe()
    except MissingBand as no_optical:
        if sar is not None or config.bands is not None:
            raise
        # A single file with one or two bands is a radar image, if it is an image of use at all.
        try:
            with opened(None, optical, config) as scene:
                return scene.describe()
        except MissingBand:
            raise no_optical from None


def add_to(app: typer.Typer) -> None:
    """Add the command to the app."""
    command(app, options=OPTIONS)(info)
