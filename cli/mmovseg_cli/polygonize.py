"""`mmovseg polygonize`: a label raster in, polygons out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mmovseg_cli.command import command
from mmovseg_cli.options import SETTINGS, settings_of
from mmovseg_cli.talk import Talk

OPTIONS = {name: SETTINGS[name] for name in ("min_area", "fill_holes", "simplify", "lco", "overwrite")}


def polygonize(
    talk: Talk,
    labels: Annotated[Path, typer.Argument(metavar="LABELS", help="Label raster, such as scene_labels.tif.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Polygons: .gpkg, .fgb, .parquet or .geojson.",
            show_default="<stem>_polygons.gpkg",
        ),
    ] = None,
    confidence: Annotated[
        Path | None, typer.Option("--confidence", metavar="FILE", help="Confidence raster; polygons get its mean.")
    ] = None,
    **settings: Any,
) -> None:
    """Turn a label raster into polygons that QGIS colors and names.

    mmovseg polygonize labels.tif -o polygons.gpkg --min-area 500 --simplify 1.5px
    """
    config = settings_of(settings, talk)
    out = out or Path(f"{labels.stem.removesuffix('_labels')}_polygons.gpkg")
    from mmovseg_geo.polygons import polygonize_to

    count = polygonize_to(
        labels,
        out,
        confidence=confidence,
        min_area=config.min_area,
        fill_holes=config.fill_holes,
        simplify=config.simplify,
        lco=config.lco,
        overwrite=config.overwrite,
    )
    talk.result([str(out)], {"command": "polygonize", "outputs": {"polygons": out}, "counts": {"polygons": count}})


def add_to(app: typer.Typer) -> None:
    """Add the command to the app."""
    command(app, options=OPTIONS)(polygonize)
