"""Training of MM-OVSeg from labels (section 9.2 of the method): every published number is a default here.

Shape suffixes: B images, T classes, C bands, H rows, W columns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mmovseg_geo.datasets.codes import IGNORE
from mmovseg_geo.datasets.description import as_vocabulary
from mmovseg_geo.errors import ConfigError
from mmovseg_geo.models.clip import TEMPLATES, embed_texts
from mmovseg_geo.models.mmovseg.preprocessing import as_rgb, normalize, resize, scores_on_tile
from mmovseg_geo.models.mmovseg.published import prompt_templates
from mmovseg_geo.report import colored
from mmovseg_geo.training.loop_settings import LoopSettings
from mmovseg_geo.training.stages.attention_rows import split_attention
from mmovseg_geo.training.stages.images import Images, Labels, as_pairs, labelled
from mmovseg_geo.training.stages.networks import Begun, begin, write_network
from mmovseg_geo.training.stages.stage import Pictures, Stage, plain_parameters

if TYPE_CHECKING:
    from mmovseg_geo.training.stages.recipe import Begin, StageRecipe

IgnoreMode = Literal["zeros", "mask"]
CLIP_RATE = 0.01

OPTIMIZATION = LoopSettings(
    steps=80_000, batch_size=8, learning_rate=2.5e-4, weight_decay=1e-4, gradient_clip=0.01, check_every=5000
)


@dataclass(frozen=True)
class Settings:
    """What is particular to this stage.

    Attributes:
        ignore: pixels without a label are `zeros`, taught to be none of the classes, as published; or a `mask` leaves
            them out.
        clip_rate: learning rate of CLIP's queries and values, as a multiple of the others'.
        prompts: as for `--model-option prompts`.
    """

    ignore: IgnoreMode = "zeros"
    clip_rate: float = CLIP_RATE
    prompts: str = "scene"

    def __post_init__(self) -> None:
        if self.ignore not in get_args(IgnoreMode):
            raise ConfigError(f"settings.ignore {self.ignore!r} is unknown. Known: {', '.join(get_args(IgnoreMode))}.")


class SegmentationStage(Stage):
    """Adapters and cost head learn; of both CLIP towers the queries and values do, slowly; both DINO encoders rest.

    Args:
        words: the classes that labels are indices of, one word each.
        judged_words: those of validation labels.
        seen: which of these training knows; scores of seen and unseen classes are told apart where there are both.
        sar_ratio: SAR images have three bands, the third of them a ratio; it only says so of the weights.
    """

    judged = "miou"
    higher_is_better = True

    def __init__(
        self, begun: Begun, words: Sequence[str], settings: Settings | None = None, *,
        judged_words: Sequence[str] | None = None, templates: Sequence[str] = TEMPLATES, sar_ratio: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.sar_ratio = sar_ratio
        self.begun, self.settings, self.templates = begun, settings or Settings(), tuple(templates)
        self.words, self.judged_words = tuple(words), tuple(judged_words or words)
        self.network = begun.network.requires_grad_(False)
        optical: Any = self.network.optical
        assert self.network.text is not None, "a network of CLIP and DINO has its text tower"
        self.clip_rows = [*split_attention(optical.clip), *split_attention(self.network.text)]
        self.network.adapters.requires_grad_(True)
        self.network.head.requires_grad_(True)
        self._judged_text: Tensor | None = None

    def train(self, mode: bool = True) -> SegmentationStage:
        """Nothing in the network behaves otherwise in training but the positions of DINOv3, which should not."""
        super().train(mode)
        self.network.eval()
        self._judged_text = None
        return self

    def forward(self, batch: Mapping[str, Any]) -> Tensor:
        """Binary cross-entropy of every class and pixel, with logits at the size of the labels."""
        labels_BHW: Tensor = batch["labels"]
        logits_BTHW = resize(self.logits(batch, self.embedded(self.words)), (labels_BHW.shape[1], labels_BHW.shape[2]))
        classes = torch.arange(len(self.words), device=labels_BHW.device)
        targets_BTHW = (labels_BHW[:, None] == classes[:, None, None]).float()
        with torch.autocast(logits_BTHW.device.type, enabled=False):
            losses_BTHW = F.binary_cross_entropy_with_logits(logits_BTHW.float(), targets_BTHW, reduction="none")
            if self.settings.ignore == "zeros":
                return losses_BTHW.mean()
            known_B1HW = (labels_BHW != IGNORE)[:, None]
            return (losses_BTHW * known_B1HW).sum() / (known_B1HW.sum() * len(self.words)).clamp(min=1)

    def weight(self, batch: Mapping[str, Any]) -> float:
        """Images, or labelled pixels where only these count."""
        if self.settings.ignore == "zeros":
            return super().weight(batch)
        return float((batch["labels"] != IGNORE).sum())

    def embedded(self, words: Sequence[str]) -> Tensor:
        """Unit vectors (T, C) of words, as the text tower now sees them."""
        text: Any = self.network.text
        return embed_texts(text, words, self.templates)

    def logits(self, batch: Mapping[str, Any], text: Tensor) -> Tensor:
        """Of the network, on its own grid (B, T, H, W)."""
        shown: dict[str, Tensor | None] = {"optical": None, "sar": None}
        for sensor in shown:
            if sensor in batch:
                shown[sensor] = normalize(as_rgb(batch[sensor])) * batch[f"{sensor}_valid"][:, None]
        valid = batch.get("optical_valid"), batch.get("sar_valid")
        logits: Tensor = self.network(shown["optical"], shown["sar"], text, *valid)
        return logits

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Norms are not decayed; padding tokens and biases are."""
        norms, others = zip(
            *(plain_parameters(part) for part in (self.network.adapters, self.network.head)), strict=True
        )
        return [
            {"params": list(chain(*others)), "rate": 1.0, "weight_decay": weight_decay},
            {"params": list(chain(*norms)), "rate": 1.0, "weight_decay": 0.0},
            {"params": self.clip_rows, "rate": self.settings.clip_rate, "weight_decay": weight_decay},
        ]

    def sums(self, batch: Mapping[str, Any]) -> Tensor:
        """The confusion matrix (truth by map) of one image at the size of its labels, flat."""
        labels_HW, map_HW = batch["labels"][0], self.mapped(batch)
        count, known = len(self.judged_words), labels_HW != IGNORE
        return torch.bincount(labels_HW[known] * count + map_HW[known], minlength=count * count).double()

    def scores(self, sums: Tensor) -> dict[str, float]:
        """mIoU over the classes that occur in labels, and the IoU of each; seen and unseen apart where both occur."""
        count = len(self.judged_words)
        matrix = sums.reshape(count, count)
        right, truth = matrix.diagonal(), matrix.sum(1)
        each = right / (truth + matrix.sum(0) - right).clamp(min=1)
        occurs = truth > 0
        found = {"miou": float(each[occurs].mean()) if occurs.any() else 0.0}
        is_seen = torch.tensor([word in self.words for word in self.judged_words])
        if occurs[is_seen].any() and occurs[~is_seen].any():
            found["miou_seen"] = float(each[occurs & is_seen].mean())
            found["miou_unseen"] = float(each[occurs & ~is_seen].mean())
        return found | {
            f"iou {word}": float(each[place]) for place, word in enumerate(self.judged_words) if occurs[place]
        }

    @torch.no_grad()
    def mapped(self, batch: Mapping[str, Any]) -> Tensor:
        """Class indices (H, W) of one image, at the size of its labels."""
        if self._judged_text is None:
            self._judged_text = self.embedded(self.judged_words)
        height, width = batch["labels"].shape[1:]
        scores_1THW = scores_on_tile(self.logits(batch, self._judged_text).float(), (height, width))
        return scores_1THW[0].argmax(0)

    def pictures(self, batch: Mapping[str, Any]) -> Pictures:
        vocabulary = as_vocabulary(tuple((word,) for word in self.judged_words))
        seen = [
            (name, as_rgb(batch[name])[0].clamp(0, 255).permute(1, 2, 0).cpu().numpy().astype(np.uint8))
            for name in ("optical", "sar")
            if name in batch
        ]
        maps = {"truth": batch["labels"][0], "map": self.mapped(batch)}
        return [*seen, *((name, colored(ids.cpu().numpy(), vocabulary)) for name, ids in maps.items())]

    def export(self, folder: Path, about: Mapping[str, str]) -> Path:
        """`model.safetensors`, which `--model` takes."""
        classes = {
            "classes": json.dumps([[word] for word in self.judged_words]),
            "trained_classes": json.dumps(list(self.words)),
        }
        return write_network(folder / "model.safetensors", self.network, self.begun, {**classes, **about})

    def facts(self) -> dict[str, str]:
        params = self.begun.params
        size = params.native_size
        named = [name for name in (params.clip.architecture, params.dino.architecture) if name]
        return {
            "network": self.begun.variant + (f" of {' and '.join(named)}" if named else ""),
            "classes of training": ", ".join(self.words),
            "classes of validation, asked for by default": ", ".join(self.judged_words),
            "sensors": "optical (red, green, blue) and SAR "
            f"({'VV, VH and their ratio' if self.sar_ratio else 'one band'}), or either",
            "tiles": f"{size} x {size} pixels",
            "prompts": "; ".join(self.templates),
        }

    @property
    def use(self) -> str:
        words = ",".join(self.judged_words)
        ratio = " --sar-ratio" if self.sar_ratio else ""
        return f'mmovseg segment optical.tif sar.tif --model FILE --classes "{words}"{ratio}'


def prepare(recipe: StageRecipe) -> Begin:
    """The stage with its images."""
    from mmovseg_geo.training.stages.recipe import Begin

    settings: Settings = recipe.settings
    images = labelled(recipe.data, recipe.data.train)
    validation = None if recipe.data.validate == "" else labelled(recipe.data, recipe.data.validate)
    words = [group[0] for group in images.config.words(split=images.split.name)]
    begun = begin(recipe.network, recipe.start)
    stage = SegmentationStage(
        begun,
        words,
        settings,
        judged_words=None
        if validation is None
        else [group[0] for group in validation.config.words(split=validation.split.name)],
        templates=prompt_templates(settings.prompts),
        sar_ratio=recipe.data.sar_ratio,
    )
    size, count = begun.params.native_size, len(words)
    listed = as_pairs(images)
    samples = Images(
        listed, size, seed=recipe.optimization.seed, augmentation=recipe.augmentation,
        labels=Labels(images.config.labels, count), sar_ratio=recipe.data.sar_ratio,
    )  # fmt: skip
    judged = None
    if validation is not None:
        judged = Images(
            as_pairs(validation), size, labels=Labels(validation.config.labels, len(stage.judged_words)),
            sar_ratio=recipe.data.sar_ratio,
        )  # fmt: skip
    return Begin(stage, samples, judged, [*listed, *(judged.listed if judged else ())])
