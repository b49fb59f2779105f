"""CLIP for SAR: an image tower that gives SAR the vectors that the frozen tower gives the optical image of the place.

AlignEarth's own program was not published; this is the recipe of the method's description here (section 6). Shape
suffixes: B images, C channels shared with words, H rows, W columns of patches.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from mmovseg_geo.errors import ConfigError
from mmovseg_geo.models import registry
from mmovseg_geo.models.convert import CHECKSUM, Converted, checksum, write
from mmovseg_geo.models.segearth.encoder import activation_of, load_encoder
from mmovseg_geo.models.segearth.features import DenseFeatures
from mmovseg_geo.models.segearth.preprocessing import as_gray, normalize
from mmovseg_geo.models.segearth.recipe import Attention
from mmovseg_geo.training.loop_settings import LoopSettings
from mmovseg_geo.training.stages.augment import Augmentation
from mmovseg_geo.training.stages.images import Images, pairs, refuse_ratio
from mmovseg_geo.training.stages.stage import Stage, plain_parameters

if TYPE_CHECKING:
    from mmovseg_geo.training.stages.recipe import Begin, StageRecipe

OPENAI = "clip-vitb16-openai"
VARIANT = "clip-sar"
FILE = "clip_sar.safetensors"
OPTIMIZATION = LoopSettings(
    steps=10_000, batch_size=256, learning_rate=1e-5, weight_decay=0.05, precision="bf16", check_every=1000
)
AUGMENTATION = Augmentation(turns=True, color=0.0)


@dataclass(frozen=True)
class Settings:
    """What is particular to this stage; `attention` and `last` are those that segmenting SAR uses.

    Attributes:
        encoder: an open_clip architecture; the activation goes with its name. `start.clip` is its checkpoint, OpenAI's
            where it is left out, and `start.sar` another one that the SAR tower begins with.
        size: height and width of the images it sees.
        cls_weight: of the loss of CLS vectors beside that of patch vectors.
    """

    encoder: str = "ViT-B-16-quickgelu"
    attention: Attention = "sclip"
    last: int = 2
    size: int = 224
    cls_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.attention not in get_args(Attention) or self.attention == "gem":
            known = ", ".join(kind for kind in get_args(Attention) if kind != "gem")
            raise ConfigError(f"settings.attention {self.attention!r} cannot be used here. Known: {known}.")


class DistillationStage(Stage):
    """The image tower of a CLIP learns from SAR; words and the tower for optical images rest.

    Args:
        teacher, student: `open_clip.CLIP` models of one architecture; the student's text tower is kept for the file.
    """

    def __init__(self, teacher: Any, student: Any, settings: Settings | None = None) -> None:
        super().__init__()
        self.settings = settings or Settings()
        self.teacher = teacher.visual.requires_grad_(False)
        self.student: Any = student.requires_grad_(False)
        visual = self.student.visual.requires_grad_(True)
        # Of the last block only the attention is looked at.
        last = visual.transformer.resblocks[-1]
        last.mlp.requires_grad_(False)
        last.ln_2.requires_grad_(False)

    def train(self, mode: bool = True) -> DistillationStage:
        """Neither tower behaves otherwise in training."""
        super().train(mode)
        self.teacher.eval()
        self.student.eval()
        return self

    def forward(self, batch: Mapping[str, Any]) -> Tensor:
        """One minus the cosine, averaged over the patches that both sensors saw, and that of CLS."""
        patches_B, cls_B = self.apart(batch)
        return (patches_B + self.settings.cls_weight * cls_B).mean()

    def apart(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """One minus the cosine of each image's patches (their mean, B) and of its CLS vector (B)."""
        valid_B1HW = (batch["optical_valid"] * batch["sar_valid"])[:, None]
        with torch.no_grad():
            optical = normalize(batch["optical"]) * batch["optical_valid"][:, None]
            wanted_BCHW, wanted_BC = self._seen(self.teacher, optical)
        sar = normalize(as_gray(batch["sar"])) * batch["sar_valid"][:, None]
        given_BCHW, given_BC = self._seen(self.student.visual, sar)
        with torch.autocast(given_BC.device.type, enabled=False):
            off_BHW = 1 - F.cosine_similarity(given_BCHW.float(), wanted_BCHW.float(), dim=1)
            share_BHW = F.adaptive_avg_pool2d(valid_B1HW, (off_BHW.shape[-2], off_BHW.shape[-1]))[:, 0]
            patches_B = (off_BHW * share_BHW).sum((1, 2)) / share_BHW.sum((1, 2)).clamp(min=1e-6)
            return patches_B, 1 - F.cosine_similarity(given_BC.float(), wanted_BC.float(), dim=1)

    def _seen(self, visual: Any, image_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors of patches (B, C, H, W) and of CLS (B, C), as segmenting takes them."""
        how = DenseFeatures(visual, self.settings.attention, last=self.settings.last)
        patches_BCHW, cls_BC = how(image_B3HW)
        assert cls_BC is not None, "only gem has none"
        return patches_BCHW, cls_BC

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        norms, others = plain_parameters(self.student)
        return [
            {"params": others, "rate": 1.0, "weight_decay": weight_decay},
            {"params": norms, "rate": 1.0, "weight_decay": 0.0},
        ]

    def sums(self, batch: Mapping[str, Any]) -> Tensor:
        """Loss, its weight, and the distances of patches and of CLS."""
        patches_B, cls_B = (part.double() for part in self.apart(batch))
        loss = (patches_B + self.settings.cls_weight * cls_B).sum()
        return torch.stack([loss, loss.new_tensor(self.weight(batch)), patches_B.sum(), cls_B.sum()])

    def scores(self, sums: Tensor) -> dict[str, float]:
        count = sums[1].clamp(min=1)
        cosines = {"cosine of patches": 1 - sums[2] / count, "cosine of CLS": 1 - sums[3] / count}
        return {**super().scores(sums), **{name: float(value) for name, value in cosines.items()}}

    def export(self, folder: Path, about: Mapping[str, str]) -> Path:
        """`clip_sar.safetensors`: both towers, as open_clip names them."""
        tensors = {name: value.cpu() for name, value in self.student.state_dict().items()}
        metadata = {
            "variant": VARIANT,
            "encoder": self.settings.encoder,
            "activation": activation_of(self.student),
            **about,
            CHECKSUM: checksum(tensors),
        }
        return write(Converted(VARIANT, tensors, metadata), folder / FILE, overwrite=True)

    def facts(self) -> dict[str, str]:
        return {
            "encoder": f"{self.settings.encoder}, activation {activation_of(self.student)}",
            "sensors": "SAR (one band)",
            "attention": f"{self.settings.attention}, last {self.settings.last}",
        }

    @property
    def use(self) -> str:
        return (
            'mmovseg segment sar.tif --model segearth-ov2-sar --classes "water,building" '
            f"--model-option encoder={self.settings.encoder} --model-option checkpoint=FILE"
        )


def prepare(recipe: StageRecipe) -> Begin:
    """The stage with its images."""
    from mmovseg_geo.training.stages.recipe import Begin

    settings: Settings = recipe.settings
    refuse_ratio(recipe.data, "alignearth")
    kept, left_out = pairs(recipe.data, ("optical", "sar"))
    teacher = load_encoder(clip_file(recipe.start.clip), settings.encoder)
    student = copy.deepcopy(teacher)
    if recipe.start.sar is not None:
        student = load_encoder(clip_file(recipe.start.sar), settings.encoder)
    patch = teacher.visual.patch_size[0]
    if settings.size % patch:
        raise ConfigError(f"settings.size {settings.size} is no multiple of the encoder's patches of {patch} pixels.")
    stage = DistillationStage(teacher, student, settings)
    samples = Images(kept, settings.size, seed=recipe.optimization.seed, augmentation=recipe.augmentation)
    return Begin(stage, samples, Images(left_out, settings.size) if left_out else None, kept + left_out)


def clip_file(asked: str | None) -> Path:
    """A checkpoint of CLIP: a file, a name of `mmovseg models list`, or OpenAI's.

    Raises:
        ConfigError: neither. WeightsError: it is not on this machine.
    """
    name = OPENAI if asked in (None, "openai") else str(asked)
    return Path(name) if Path(name).is_file() else registry.weights_file(name)
