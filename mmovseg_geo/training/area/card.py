"""The model card of weights that were trained on an area."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmovseg_geo.models.weights import Weights
from mmovseg_geo.training.area.samples import HeldOutBlocks
from mmovseg_geo.training.area.scenes import LabelledScene
from mmovseg_geo.training.area.split import Blocks, pixels_of
from mmovseg_geo.training.stages.card import CARD
from mmovseg_geo.vocabulary import Vocabulary

Scores = Mapping[str, float]
NORMALIZATION = (
    "pixels in 0..255 (optical: reflectance 0 to 0.3, or 8 bits as they are; SAR: linear in decibels), less 115, "
    "divided by 55; `segment` does this"
)


def write_card(
    path: Path,
    *,
    scenes: Sequence[LabelledScene],
    every: Sequence[Blocks],
    classes: Vocabulary,
    start: Weights,
    name: str,
    note: Mapping[str, Any],
    licence: str,
    use: str,
    judged: HeldOutBlocks | None,
    scores: tuple[Scores, Scores] | None,
    step: int,
) -> Path:
    """Write the card; `scores` are those before and after."""
    sensors = sorted(frozenset[str]().union(*(one.scene.sensors for one in scenes)))
    gsd_m = sorted({f"{one.scene.gsd_m:.4g} m" for one in scenes})
    versions = ", ".join(f"{name} {version}" for name, version in note["versions"].items())
    parts = [
        f"# {name}",
        f"mmovseg-compact, trained further on {len(scenes)} labelled scene{'s' if len(scenes) > 1 else ''}. Weights of "
        f"step {step}, averaged over steps.",
        "## Use",
        f"```sh\n{use}\n```",
        "## What it is",
        _listed(
            [
                "classes, asked for by default: " + "; ".join(", ".join(entry.words) for entry in classes.classes),
                f"sensors it was trained with: {' and '.join(sensors)}",
                f"ground sampling distance of the scenes: {', '.join(gsd_m)}",
                f"normalization: {NORMALIZATION}",
                f"trained from: {start.path.name} (sha256 `{start.sha256[:16]}…`, {start.licence})",
                f"licence of the weights: {licence}; what the terms of your images and labels add is for you to say",
            ]
        ),
        "Only the image side learned. Other words can still be asked for (`--classes`), but nothing was done to keep "
        "what the weights knew of them, or of other places.",
        "## What it was made from",
        _listed(_made_of(scenes, every, classes, note)),
        "## Scores",
        _scores(classes, judged, scores),
        "## How it was made",
        f"Versions: {versions}; seed {note['seed']}.",
        f"```json\n{json.dumps(note['settings'], indent=1, ensure_ascii=False)}\n```",
    ]
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def _made_of(
    scenes: Sequence[LabelledScene], every: Sequence[Blocks], classes: Vocabulary, note: Mapping[str, Any]
) -> Iterable[str]:
    yield f"fingerprint of all files: `{note['data_fingerprint']}`"
    for one in scenes:
        yield f"{one.name}: {one.shape[1]} x {one.shape[0]} pixels, labels of {one.labels_path.name}"
    learned, held_out = pixels_of(every, held_out=False), pixels_of(every, held_out=True)
    for name, *pixels in zip(classes.names, learned.tolist(), held_out.tolist(), strict=True):
        yield f"{name}: {pixels[0]} pixels learned from, {pixels[1]} held out"


def _scores(classes: Vocabulary, judged: HeldOutBlocks | None, scores: tuple[Scores, Scores] | None) -> str:
    if scores is None or judged is None:
        return "None: nothing was held out (`--held-out 0`)."
    before, after = scores
    shown = {"miou": "mean IoU", **{f"iou {name}": f"IoU {name}" for name in classes.names}}
    rows = "\n".join(
        f"| {title} | {before[name]:.3f} | {after[name]:.3f} |" for name, title in shown.items() if name in after
    )
    partly = f", {judged.left_out} more were not scored" if judged.left_out else ""
    return (
        f'On {len(judged)} squares that were held out by area (`split.png`{partly}), at full resolution; "before" are '
        "the weights to begin with, asked the same words:\n\n"
        f"| | before | after |\n| --- | --- | --- |\n{rows}\n\n"
        "The step whose weights were taken is the one that scored best on these squares, of five, so the scores are a "
        "little too good; and they lie in the scenes that were learned from. Score another place with `mmovseg eval`."
    )


def _listed(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


__all__ = ["CARD", "write_card"]
