"""The model card of a run: what the weights are, what they were made from, how they scored, how they are used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmovseg_geo.training.loop_record import VALIDATION, read_metrics
from mmovseg_geo.training.stages.recipe import StageRecipe, as_yaml
from mmovseg_geo.training.stages.stage import Stage

CARD = "MODEL_CARD.md"
ABOUT = {
    "mmovseg": "MM-OVSeg (arXiv:2603.17528), trained from labels",
    "cmu": "SAR encoder of MM-OVSeg, aligned to the optical one without labels",
    "alignearth": "CLIP whose image tower was adapted to SAR by distillation, for SegEarth-OV-2",
    "simfeatup": "SimFeatUp upsampler, trained on optical images without labels",
}
NORMALIZATION = "Pixels in 0..255 (SAR: linear in decibels), less CLIP's mean, divided by its spread."


def write_card(
    folder: Path, stage: Stage, recipe: StageRecipe, weights: Path, note: Mapping[str, Any], *, step: int
) -> Path:
    """Write `MODEL_CARD.md` beside the weights, which are those of a step."""
    values = note["recipe"]
    gsd_m = recipe.data.gsd_m
    average = recipe.optimization.average
    facts = {
        **stage.facts(),
        "ground sampling distance": "not stated" if gsd_m is None else f"{gsd_m:g} m",
        "normalization": NORMALIZATION,
        "licence of the weights": recipe.licence,
    }
    made_of = [
        f"{note['images']} images; their fingerprint is `{note['data_fingerprint']}`",
        *(recipe.sources or ("The recipe names no sources.",)),
    ]
    versions = ", ".join(f"{name} {version}" for name, version in note["versions"].items())
    averaged = f", averaged over steps ({average})" if average else ""
    parts = [
        f"# {weights.stem}",
        f"{ABOUT[recipe.stage]}. Weights of step {step}{averaged}.",
        "## Use",
        f"```sh\n{stage.use.replace('FILE', weights.name)}\n```",
        "## What it is",
        _listed(f"{name}: {value}" for name, value in facts.items()),
        "## What it was made from",
        _listed(made_of),
        "## Scores",
        _scores(folder, step),
        "## How it was made",
        f"Versions: {versions}; seed {note['seed']}.",
        f"```yaml\n{as_yaml(values).strip()}\n```",
    ]
    path = folder / CARD
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def _listed(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _scores(folder: Path, step: int) -> str:
    found = {
        name.removeprefix(VALIDATION): value
        for entry in read_metrics(folder)
        if entry["step"] == step
        for name, value in entry.items()
        if name.startswith(VALIDATION)
    }
    if not found:
        return "None: the recipe names no validation images."
    rows = "\n".join(f"| {name} | {value:.4f} |" for name, value in found.items())
    return f"On the validation images of the recipe:\n\n| score | value |\n| --- | --- |\n{rows}"
