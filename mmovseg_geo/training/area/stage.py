"""The compact network learning the classes of an area: its image side, while the text tower rests.

Shape suffixes: B crops, T classes that are looked for, K all classes, C channels of the text, H rows, W columns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmovseg_geo.datasets.codes import IGNORE
from mmovseg_geo.decision import CLAIM
from mmovseg_geo.errors import WeightsError
from mmovseg_geo.models import SEGMENTERS, registry
from mmovseg_geo.models.mmovseg import compact
from mmovseg_geo.models.mmovseg.network import MMOVSeg
from mmovseg_geo.models.mmovseg.views import CompactView, Pixels
from mmovseg_geo.models.weights import Weights, bundled_weights, open_weights
from mmovseg_geo.report import colored
from mmovseg_geo.training.area.loss import labelled_loss
from mmovseg_geo.training.concepts import FALSE, TRUE, UNASKED
from mmovseg_geo.training.export import write_compact
from mmovseg_geo.training.stages.stage import Pictures, Stage, plain_parameters
from mmovseg_geo.vocabulary import Vocabulary

DICE = 0.5
NAME = "mmovseg-compact"
WEIGHTS = "model.safetensors"


def starting_weights(start: str) -> Weights:
    """The weights of a name or file.

    Raises:
        WeightsError: they are missing, damaged, or of another network.
    """
    advice = f"on an area of one's own, {NAME} is trained. Give --from {NAME}, or a file that came from it."
    if start == NAME:
        return bundled_weights()
    if start in {*SEGMENTERS, *registry.names()}:
        raise WeightsError(f"{start} is another model; {advice}")
    found = open_weights(start)
    if found.variant != NAME:
        raise WeightsError(f"{start}: these weights are of {found.variant}; {advice}")
    return found


class AreaStage(Stage):
    """Binary cross-entropy and Dice of every class, asked as a user's words would be.

    Batch norms keep the statistics of the weights to begin with: crops of one area make poor ones, and other scenes
    should still be mapped.

    Args:
        classes: those that labels are indices of; a background is what none of the others claims.
    """

    judged = "miou"
    higher_is_better = True

    def __init__(self, weights: Weights, classes: Vocabulary) -> None:
        super().__init__()
        self.network: MMOVSeg = compact.trained(weights)
        self.classes, self.view = classes, CompactView()
        assert isinstance(self.network.head, compact.SpeakingHead), "a compact network leans"
        self.network.head.lean_for(background=classes.background is not None)
        assert self.network.text is not None, "a compact network carries its text tower"
        self.network.text.requires_grad_(False)
        with torch.no_grad():
            embed: Any = self.network.text.embed
            vectors = [embed(entry.words).mean(0) for entry in classes.scored]
        self.text: Tensor
        self.register_buffer("text", F.normalize(torch.stack(vectors), dim=-1))
        self.looked_for = [classes.classes.index(entry) for entry in classes.scored]

    def train(self, mode: bool = True) -> AreaStage:
        super().train(mode)
        for module in self.network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, batch: Mapping[str, Any]) -> Tensor:
        shown = []
        for sensor in ("optical", "sar"):
            valid = batch.get(f"{sensor}_valid")
            shown.append(None if valid is None else compact.image_planes(batch[sensor], valid, batch["gsd_m"]))
        text_BTC = self.text.expand(len(batch["id"]), -1, -1)
        logits = self.network(*shown, text_BTC, batch.get("optical_valid"), batch.get("sar_valid"))
        with torch.autocast(logits.device.type, enabled=False):
            return labelled_loss(logits.float(), self._truth(batch["labels"]), dice=DICE)

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Norms are not decayed."""
        norms, others = plain_parameters(self.network)
        return [
            {"params": others, "rate": 1.0, "weight_decay": weight_decay},
            {"params": norms, "rate": 1.0, "weight_decay": 0.0},
        ]

    def sums(self, batch: Mapping[str, Any]) -> Tensor:
        """The confusion matrix (truth by map) of one block in scene pixels, flat."""
        labels_HW, count = batch["labels"][0], len(self.classes)
        known_HW = labels_HW != IGNORE
        if not known_HW.any():
            return torch.zeros(count * count, dtype=torch.float64, device=labels_HW.device)
        return torch.bincount(labels_HW[known_HW] * count + self.mapped(batch)[known_HW], minlength=count**2).double()

    def scores(self, sums: Tensor) -> dict[str, float]:
        """The mean IoU over the classes that occur in labels, and the IoU of each."""
        matrix_KK = sums.reshape(len(self.classes), -1)
        right_K, truth_K = matrix_KK.diagonal(), matrix_KK.sum(1)
        iou_K = right_K / (truth_K + matrix_KK.sum(0) - right_K).clamp(min=1)
        occurs_K = truth_K > 0
        each = {f"iou {name}": float(iou_K[place]) for place, name in enumerate(self.classes.names) if occurs_K[place]}
        return {"miou": float(iou_K[occurs_K].mean()) if occurs_K.any() else 0.0, **each}

    @torch.no_grad()
    def mapped(self, batch: Mapping[str, Any]) -> Tensor:
        """Class indices (H, W) of one block, decided as `segment` does."""
        optical, sar = _pixels(batch, "optical"), _pixels(batch, "sar")
        scores_1THW = self.view.scores(self.network, optical, sar, self.text, float(batch["gsd_m"][0]))
        scores_THW = scores_1THW[0].float()
        best_HW, place_HW = scores_THW.max(0)
        found_HW = torch.tensor(self.looked_for, device=place_HW.device)[place_HW]
        if self.classes.background is not None:
            found_HW[best_HW < CLAIM] = self.classes.classes.index(self.classes.background)
        return found_HW

    def pictures(self, batch: Mapping[str, Any]) -> Pictures:
        pictures: Pictures = []
        for name in ("optical", "sar"):
            if name in batch:
                image = batch[name][0, : 3 if name == "optical" else 1].expand(3, -1, -1)
                pictures.append((name, image.clamp(0, 255).permute(1, 2, 0).cpu().numpy().astype(np.uint8)))
        ids = np.full(IGNORE + 1, self.classes.ignore, self.classes.dtype)
        ids[: len(self.classes)] = [entry.id for entry in self.classes.classes]
        for name, indices in (("truth", batch["labels"][0]), ("map", self.mapped(batch))):
            pictures.append((name, colored(ids[indices.cpu().numpy()], self.classes)))
        return pictures

    def export(self, folder: Path, about: Mapping[str, str]) -> Path:
        """`model.safetensors`, which `--model` takes, and whose classes are those of the area."""
        classes = {
            "classes": json.dumps([list(entry.words) for entry in self.classes.classes], ensure_ascii=False),
            "vocabulary": self.classes.to_json(),
        }
        path = folder / WEIGHTS
        write_compact(path, self.network, {**classes, **about})
        return path

    @property
    def use(self) -> str:
        return "mmovseg segment OPTICAL.tif SAR.tif --model FILE"

    def _truth(self, labels_BHW: Tensor) -> Tensor:
        """What is true of each class (B, T, H, W): pixels of another class, or of the background, are not it."""
        wanted_T = torch.tensor(self.looked_for, device=labels_BHW.device)
        is_it = labels_BHW[:, None] == wanted_T[:, None, None]
        unknown = (labels_BHW == IGNORE)[:, None]
        truth = torch.where(is_it, TRUE, FALSE)
        return truth.masked_fill(unknown, UNASKED)


def _pixels(batch: Mapping[str, Any], sensor: str) -> Pixels | None:
    """One sensor of a batch, or None where it saw nothing."""
    valid = batch.get(f"{sensor}_valid")
    return None if valid is None or not valid.any() else Pixels(batch[sensor].float(), valid)
