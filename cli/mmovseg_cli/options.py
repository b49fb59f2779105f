"""Options that `segment` and `batch` share. None means: not given, so that a settings file or the default decides."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from mmovseg_cli.talk import Talk
from mmovseg_geo.config import SegmentConfig, load_config
from mmovseg_geo.settings import Gcps, Precision
from mmovseg_geo.tiles import Blend, OpticalScale, SarScale, Speckle

DEFAULTS = SegmentConfig()


def _option(panel: str, *names: str, text: str, default: object = False, metavar: str | None = None) -> Any:
    shown: bool | str = False if default is False else f"{default}"
    return typer.Option(*names, help=text, rich_help_panel=panel, show_default=shown, metavar=metavar)


def _either(words: Any) -> str:
    return f"{', '.join(word for word in get_args(words) if word != 'auto')}, or MIN,MAX"


WORDS, INPUTS, AREA, TILES, OUTPUTS = "Words", "Reading the inputs", "Area", "Tiles and compute", "Outputs"

Text = str | None
Flag = bool | None

SETTINGS: dict[str, Any] = {
    "config_file": Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Settings in YAML; options given here win.")
    ],
    "classes": Annotated[
        Text,
        _option(
            WORDS,
            "--classes",
            metavar='"WATER,BUILDING|HOUSE"',
            default="the model's own list",
            text="Classes parted by commas; bars give synonyms.",
        ),
    ],
    "classes_file": Annotated[
        Path | None,
        _option(
            WORDS,
            "--classes-file",
            metavar="FILE",
            text="Classes with ids, synonyms and colors: YAML, JSON, CSV or text.",
        ),
    ],
    "background": Annotated[
        Flag,
        _option(
            WORDS,
            "--background/--no-background",
            default=False,
            text="Leave unclear pixels to a class background, id 0.",
        ),
    ],
    "min_score": Annotated[
        float | None,
        _option(
            WORDS,
            "--min-score",
            metavar="0..1",
            default="0.5, or 0 where the model scores the background like a class",
            text="With a background: what a class must reach to claim a pixel.",
        ),
    ],
    "model": Annotated[
        Text,
        _option(
            WORDS,
            "--model",
            "-m",
            metavar="NAME|FILE",
            default=DEFAULTS.model,
            text="Model by name, or a .safetensors file.",
        ),
    ],
    "model_options": Annotated[
        list[str] | None,
        _option(
            WORDS,
            "--model-option",
            metavar="KEY=VALUE",
            text="A setting of the model, such as factor=0.5 of segearth-ov; repeat.",
        ),
    ],
    "bands": Annotated[
        Text,
        _option(
            INPUTS,
            "--bands",
            "-b",
            metavar="4,3,2",
            default="from names and colors",
            text="Red, green and blue of the optical: numbers from 1, or names.",
        ),
    ],
    "sar_bands": Annotated[
        Text,
        _option(
            INPUTS, "--sar-bands", metavar="1,2", default="from names", text="Co- and cross-polarized band of the SAR."
        ),
    ],
    "nodata": Annotated[
        Text,
        _option(
            INPUTS,
            "--nodata",
            metavar="NUMBER|nan|none",
            default="from the files",
            text="Value that marks missing pixels.",
        ),
    ],
    "optical_scale": Annotated[
        Text,
        _option(
            INPUTS,
            "--optical-scale",
            metavar="SCALE",
            default=DEFAULTS.optical_scale,
            text=f"What optical values mean: {_either(OpticalScale)}.",
        ),
    ],
    "sar_scale": Annotated[
        Text,
        _option(
            INPUTS,
            "--sar-scale",
            metavar="SCALE",
            default=DEFAULTS.sar_scale,
            text=f"What SAR values mean: {_either(SarScale)}.",
        ),
    ],
    "speckle": Annotated[
        Speckle | None,
        _option(INPUTS, "--speckle", default=DEFAULTS.speckle, text="Filter of the SAR image, at its own pixels."),
    ],
    "sar_ratio": Annotated[
        Flag,
        _option(
            INPUTS,
            "--sar-ratio/--no-sar-ratio",
            text="VV/VH as a third SAR band, for networks that were trained with it.",
        ),
    ],
    "clouds": Annotated[
        Text,
        _option(
            INPUTS,
            "--clouds",
            metavar="auto|off|FILE",
            default=DEFAULTS.clouds,
            text="Where clouds are: the product's mask or the image itself, or a file that marks them.",
        ),
    ],
    "mask_clouds": Annotated[
        Flag,
        _option(
            INPUTS,
            "--mask-clouds/--no-mask-clouds",
            default=False,
            text="Take the optical image for missing under clouds and their shadows.",
        ),
    ],
    "gcps": Annotated[
        Gcps | None, _option(INPUTS, "--gcps", text="Warp images that carry only control points: thin-plate spline.")
    ],
    "pixel_grid": Annotated[
        Flag,
        _option(
            INPUTS,
            "--pixel-grid/--no-pixel-grid",
            default=False,
            text="Images without a CRS lie on one pixel grid.",
        ),
    ],
    "coregister": Annotated[
        Text,
        _option(
            INPUTS,
            "--coregister",
            metavar='auto|off|FILE|"ROWS,COLS"',
            default=DEFAULTS.coregister,
            text="Align SAR to optical by content where that is sure; or by a _coregistration.json; or by pixels, "
            "down and right positive.",
        ),
    ],
    "bounds": Annotated[
        Text,
        _option(
            AREA,
            "--bounds",
            "--bbox",
            metavar="XMIN,YMIN,XMAX,YMAX",
            text="Map only this area; labels are those of a full run.",
        ),
    ],
    "bounds_crs": Annotated[
        Text,
        _option(
            AREA,
            "--bounds-crs",
            metavar="CRS",
            default="that of the scene",
            text="CRS of the bounds, such as EPSG:4326.",
        ),
    ],
    "tile_size": Annotated[
        int | None, _option(TILES, "--tile-size", metavar="PIXELS", default="the model's", text="Side of a tile.")
    ],
    "overlap": Annotated[
        int | None, _option(TILES, "--overlap", metavar="PIXELS", default="the model's", text="How far tiles overlap.")
    ],
    "blend": Annotated[
        Blend | None, _option(TILES, "--blend", default="the model's", text="Weights of overlapping tiles.")
    ],
    "batch_size": Annotated[
        Text,
        _option(
            TILES,
            "--batch-size",
            metavar="TILES|auto",
            default="1, on a GPU 4",
            text="Tiles computed at once; auto: as many as fit.",
        ),
    ],
    "memory": Annotated[
        Text,
        _option(TILES, "--memory", metavar="4GB", text="Memory of this computer that the run may take; never more."),
    ],
    "device": Annotated[
        Text,
        _option(TILES, "--device", metavar="auto|cpu|cuda[:N]", default=DEFAULTS.device, text="Where the model runs."),
    ],
    "precision": Annotated[
        Precision | None,
        _option(TILES, "--precision", default=DEFAULTS.precision, text="Numbers the model computes with."),
    ],
    "polygons": Annotated[Flag, _option(OUTPUTS, "--polygons/--no-polygons", text="Write a GeoPackage of polygons.")],
    "confidence": Annotated[
        Flag,
        _option(
            OUTPUTS,
            "--confidence/--no-confidence",
            default=False,
            text="Write a raster of confidence, 0 to 100.",
        ),
    ],
    "preview": Annotated[Flag, _option(OUTPUTS, "--preview/--no-preview", text="Write a picture of inputs and map.")],
    "min_area": Annotated[
        Text,
        _option(
            OUTPUTS, "--min-area", metavar="SIZE", text="Merge smaller polygons into their neighbors: 500 (m²) or 12px."
        ),
    ],
    "fill_holes": Annotated[
        Text, _option(OUTPUTS, "--fill-holes", metavar="SIZE", text="Fill smaller holes of polygons: 200 (m²) or 12px.")
    ],
    "simplify": Annotated[
        Text,
        _option(OUTPUTS, "--simplify", metavar="SIZE", text="Smooth the polygons' stair steps: 1.5px, or map units."),
    ],
    "co": Annotated[
        list[str] | None,
        _option(OUTPUTS, "--co", metavar="KEY=VALUE", text="GDAL creation option of the rasters; repeat."),
    ],
    "lco": Annotated[
        list[str] | None,
        _option(OUTPUTS, "--lco", metavar="KEY=VALUE", text="GDAL layer option of the polygons; repeat."),
    ],
    "overwrite": Annotated[Flag, _option(OUTPUTS, "--overwrite/--no-overwrite", text="Replace outputs that exist.")],
    "resume": Annotated[
        Flag,
        _option(OUTPUTS, "--resume/--no-resume", text="Go on with an interrupted run; nothing may have changed since."),
    ],
}
"""Option by the name of the `SegmentConfig` field it sets (`config_file` aside)."""

READING = (
    "bands",
    "sar_bands",
    "nodata",
    "optical_scale",
    "sar_scale",
    "speckle",
    "clouds",
    "mask_clouds",
    "gcps",
    "pixel_grid",
    "coregister",
)
"""Those that say how images are read."""


def settings_of(given: dict[str, Any], talk: Talk) -> SegmentConfig:
    """The settings that options and the file of `--config` amount to."""
    given = dict(given)
    path = given.pop("config_file", None)
    # A repeated option that was not given arrives as an empty list.
    config = load_config(path, SegmentConfig, {name: None if value == [] else value for name, value in given.items()})
    for entry in fields(config):
        value = getattr(config, entry.name)
        if value != getattr(DEFAULTS, entry.name):
            talk.detail(f"setting  {entry.name.replace('_', '-')}: {value}")
    return config
