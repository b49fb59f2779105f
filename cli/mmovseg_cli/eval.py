"""`mmovseg eval`: how good maps are, as the tables that papers print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mmovseg_cli.command import command
from mmovseg_cli.options import SETTINGS
from mmovseg_cli.talk import Talk
from mmovseg_geo.config import EvalConfig, load_config
from mmovseg_geo.tiles import Sensors

DEFAULTS = EvalConfig()
MODEL, FILES, SCORES, OUTPUTS = "A model on a set", "Maps against labels", "Scores", "Outputs"


def _option(panel: str, *names: str, text: str, metavar: str | None = None, default: object = False) -> Any:
    shown: bool | str = False if default is False else f"{default}"
    return typer.Option(*names, help=text, rich_help_panel=panel, show_default=shown, metavar=metavar)


OPTIONS: dict[str, Any] = {
    "dataset": Annotated[
        Path | None,
        _option(MODEL, "--dataset", metavar="FILE", text="A set, such as configs/datasets/loveda.yaml."),
    ],
    "data": Annotated[
        Path | None,
        _option(MODEL, "--data", metavar="DIR", default=DEFAULTS.data, text="Folder that holds the files of the set."),
    ],
    "split": Annotated[
        str | None,
        _option(MODEL, "--split", metavar="NAME", default="the one of published scores", text="Split of the set."),
    ],
    **{name: SETTINGS[name] for name in ("model", "model_options")},
    "as_published": Annotated[
        bool | None,
        _option(
            MODEL,
            "--as-published/--no-as-published",
            text="A model that papers scored on the set runs with the words and settings it had there.",
        ),
    ],
    "sensors": Annotated[
        Sensors | None,
        _option(MODEL, "--sensors", default=DEFAULTS.sensors, text="Show the model only these images."),
    ],
    "gsd_m": Annotated[
        float | None,
        _option(MODEL, "--gsd", metavar="METERS", text="Ground sampling distance of images without a CRS."),
    ],
    "clouds": Annotated[
        str | None,
        _option(
            MODEL,
            "--clouds",
            metavar="0,25,50,75,100",
            text="Percents of the optical images that simulated clouds reach, an evaluation for each.",
        ),
    ],
    "predictions": Annotated[
        Path | None,
        _option(FILES, "--predictions", metavar="MAPS", text="A map, or a folder of maps (*_labels.tif)."),
    ],
    "labels": Annotated[
        Path | None,
        _option(FILES, "--labels", metavar="TRUTH", text="What is true: rasters or vectors, paired with maps by name."),
    ],
    "classes": Annotated[
        str | None,
        _option(
            FILES,
            "--classes",
            metavar='"WATER,BUILDING|HOUSE"',
            default="those that a map carries",
            text="Classes with the ids 1, 2, ...; bars give synonyms.",
        ),
    ],
    "classes_file": Annotated[
        Path | None,
        _option(
            FILES, "--classes-file", metavar="FILE", text="Classes with ids and synonyms: YAML, JSON, CSV or text."
        ),
    ],
    "class_field": Annotated[
        str | None,
        _option(FILES, "--class-field", metavar="FIELD", text="Field of vector labels that holds the class."),
    ],
    "inside": Annotated[
        str | None,
        _option(FILES, "--inside", metavar="CLASS", text="Class of all shapes of vector labels, without a field."),
    ],
    "outside": Annotated[
        str | None,
        _option(
            FILES,
            "--outside",
            metavar="CLASS",
            default="not scored",
            text="Class of pixels that are in no shape of vector labels.",
        ),
    ],
    "ignore": Annotated[
        str | None,
        _option(SCORES, "--ignore", metavar="0,CLOUD", text="Values of the labels, or classes, that are not scored."),
    ],
    "pixel_grid": SETTINGS["pixel_grid"],
    "boundary": Annotated[
        str | None,
        _option(
            SCORES,
            "--boundary",
            metavar="SIZE",
            default=DEFAULTS.boundary,
            text="How far an outline may lie off for boundary F1: 2px, or meters.",
        ),
    ],
    "draws": Annotated[
        int | None,
        _option(
            SCORES, "--draws", metavar="N", default=DEFAULTS.draws, text="Of the bootstrap for intervals; 0 for none."
        ),
    ],
    "seed": Annotated[
        int | None, _option(SCORES, "--seed", metavar="N", default=DEFAULTS.seed, text="Of clouds and bootstrap.")
    ],
    **{name: SETTINGS[name] for name in ("min_score", "tile_size", "overlap", "blend")},
    "batch_size": Annotated[
        int | None,
        _option(SCORES, "--batch-size", metavar="TILES", default=DEFAULTS.batch_size, text="Tiles computed at once."),
    ],
    **{name: SETTINGS[name] for name in ("device", "precision")},
    "error_maps": Annotated[
        int | None,
        _option(
            OUTPUTS,
            "--error-maps",
            metavar="N",
            default=DEFAULTS.error_maps,
            text="Maps of errors, of the scenes with the most wrong pixels.",
        ),
    ],
    "xlsx": Annotated[
        bool | None, _option(OUTPUTS, "--xlsx/--no-xlsx", default=False, text="Write a workbook of the tables, too.")
    ],
    "overwrite": SETTINGS["overwrite"],
}
"""Option by the name of the `EvalConfig` field it sets."""


def evaluate(
    talk: Talk,
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="Settings, such as configs/eval/ddhr-sk.yaml.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Folder for tables, pictures and error maps."),
    ] = None,
    **settings: Any,
) -> None:
    """Score a model on a labelled set, or any maps against any truth.

    mmovseg eval configs/eval/ddhr-sk.yaml --model mmovseg-vitb16-ddhr-sk

    mmovseg eval --predictions maps/ --labels truth/ --classes-file classes.yaml
    """
    given = {name: None if value == [] else value for name, value in settings.items()}
    loaded = load_config(config, EvalConfig, given)
    from mmovseg_geo.evaluation.outputs import as_json
    from mmovseg_geo.evaluation.run import run_evaluation
    from mmovseg_geo.evaluation.tables import report_lines

    with talk.progress("Scoring", "scenes") as progress:
        result = run_evaluation(loaded, out, progress=progress)
    for path in result.outputs:
        talk.note(f"wrote {path}")
    talk.result(report_lines(result.found), {"command": "eval", "outputs": result.outputs, **as_json(result.found)})


def add_to(app: typer.Typer) -> None:
    """Add the command to the app."""
    command(app, options=OPTIONS, name="eval")(evaluate)
