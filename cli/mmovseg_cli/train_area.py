"""Options of `mmovseg train` for scenes and labels of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mmovseg_cli.options import READING, SETTINGS
from mmovseg_cli.talk import Talk

AREA = "Your own area"
LABELLING = ("classes", "classes_file", "class_field", "inside", "outside", "ignore", "pixel_grid")


def _option(*names: str, text: str, metavar: str | None = None, default: object = False) -> Any:
    shown: bool | str = False if default is False else f"{default}"
    return typer.Option(*names, help=text, rich_help_panel=AREA, metavar=metavar, show_default=shown)


Files = list[str] | None

OPTIONS: dict[str, Any] = {
    "optical": Annotated[Files, _option("--optical", metavar="FILE", text="Optical image; repeat for more scenes.")],
    "sar": Annotated[Files, _option("--sar", metavar="FILE", text="Radar image of the same place; repeat likewise.")],
    "labels": Annotated[
        list[Path] | None,
        _option("--labels", metavar="FILE", text="What is true: raster or shapes, one for each scene or one for all."),
    ],
    "class_field": Annotated[
        str | None, _option("--class-field", metavar="FIELD", text="Field of the shapes that holds the class.")
    ],
    "classes": Annotated[
        str | None,
        _option(
            "--classes",
            metavar='"WATER,BUILDING|HOUSE"',
            default="those of the labels",
            text="Classes of the values 1, 2 …, or background, of value 0; bars give synonyms.",
        ),
    ],
    "classes_file": Annotated[
        Path | None,
        _option("--classes-file", metavar="FILE", text="Classes with their values or names: YAML, JSON, CSV or text."),
    ],
    "inside": Annotated[
        str | None,
        _option("--inside", metavar="CLASS", text="Class of all shapes, where no field tells it, as for outlines."),
    ],
    "outside": Annotated[
        str | None,
        _option("--outside", metavar="CLASS", default="unlabelled", text="Class of pixels that are in no shape."),
    ],
    "ignore": Annotated[
        str | None, _option("--ignore", metavar="0,CLOUD", text="Values of the labels, or classes, not to learn from.")
    ],
    "start": Annotated[
        str | None,
        _option("--from", metavar="NAME|FILE", default="mmovseg-compact", text="Weights to begin with."),
    ],
    "held_out": Annotated[
        float | None,
        _option(
            "--held-out", metavar="SHARE", default="0.25", text="Of the labelled squares, for scores; 0 scores nothing."
        ),
    ],
    "block_size": Annotated[
        int | None,
        _option("--block-size", metavar="PIXELS", default="by the scene", text="Side of the squares of the split."),
    ],
    "balance": Annotated[
        float | None,
        _option(
            "--balance",
            metavar="0..1",
            default="0.5",
            text="0 learns classes as often as they occur, 1 all equally often.",
        ),
    ],
    "steps": Annotated[int | None, _option("--steps", metavar="N", default="300", text="Steps of training.")],
    "batch_size": Annotated[int | None, _option("--batch-size", metavar="N", default="8", text="Crops in a step.")],
    "crop": Annotated[
        int | None, _option("--crop", metavar="PIXELS", default="192", text="Side of a crop, in the network's pixels.")
    ],
    "learning_rate": Annotated[
        float | None, _option("--learning-rate", metavar="RATE", default="5e-4", text="Highest rate of learning.")
    ],
    "precision": Annotated[
        str | None,
        _option("--precision", metavar="fp32|bf16|fp16", default="fp32", text="bf16 is faster where it is built in."),
    ],
    "workers": Annotated[
        int | None,
        _option(
            "--workers",
            metavar="N",
            default="by the machine",
            text="Processes that read and augment ahead of the steps; 0 for none. The outcome is the same.",
        ),
    ],
    "seed": Annotated[int | None, _option("--seed", metavar="N", default="0", text="Decides split and crops.")],
    "licence": Annotated[
        str | None,
        _option("--licence", metavar="TEXT", default="that of --from", text="Of the weights, for the model card."),
    ],
    **{name: SETTINGS[name] for name in READING},
}
"""Option by the name of the `AreaConfig` field it sets, or of the fields of its `reading` and `labelling`."""


def asked_for(given: dict[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in given.items() if value not in (None, [])}


def train_area(talk: Talk, given: dict[str, Any], out: Path, *, resume: bool, device: str) -> None:
    """Train on the scenes of the options, and say where the weights are."""
    from mmovseg_geo.config import EvalConfig, SegmentConfig
    from mmovseg_geo.training.area import AreaConfig
    from mmovseg_geo.training.area import train_area as trained

    own: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in given.items()
        if name not in READING + LABELLING
    }
    config = AreaConfig(
        **own,
        reading=SegmentConfig(**{name: given[name] for name in READING if name in given}),
        labelling=EvalConfig(**{name: given[name] for name in LABELLING if name in given}),
    )
    weights = trained(config, out, resume=resume, device=device)
    talk.result([str(weights)], {"command": "train", "outputs": {"weights": weights, "folder": out}})
