"""First stage of MM-OVSeg: the SAR encoder learns to see what the optical one sees (section 9.1 of the method).

No program of this stage was published; what the paper leaves open is an option. Shape suffixes: B images, N embeddings,
C channels, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmovseg_geo.errors import ConfigError
from mmovseg_geo.models.convert import CHECKSUM, Converted, checksum, write
from mmovseg_geo.models.mmovseg.preprocessing import as_rgb, normalize
from mmovseg_geo.training.loop_processes import gathered, own_rows
from mmovseg_geo.training.loop_settings import LoopSettings
from mmovseg_geo.training.stages.augment import Augmentation
from mmovseg_geo.training.stages.images import Images, pairs
from mmovseg_geo.training.stages.networks import begin
from mmovseg_geo.training.stages.stage import Stage, plain_parameters

if TYPE_CHECKING:
    from mmovseg_geo.training.stages.recipe import Begin, StageRecipe

Loss = Literal["infonce", "mse", "l1"]
Token = Literal["mean", "cls", "patch"]
Projection = Literal["none", "linear", "mlp"]

VARIANT = "mmovseg-sar-encoder"
FILE = "sar_encoder.safetensors"
OPTIMIZATION = LoopSettings(steps=30_000, batch_size=8, learning_rate=3e-4, weight_decay=1e-4, check_every=2000)
AUGMENTATION = Augmentation(color=0.0)


@dataclass(frozen=True)
class Settings:
    """What is particular to this stage.

    Attributes:
        loss: `infonce` tells an image's own optical embedding from those of the other images of a step; `mse` and `l1`
            are distances to it.
        token: what is embedded: the `mean` of an image's patches, its `cls` token, or each `patch`.
        temperature: of InfoNCE.
        projection: a head on the SAR embedding, thrown away afterwards: none, `linear`, or `mlp` of two layers.
        patches: how many of each image are drawn, with `token: patch`.
    """

    loss: Loss = "infonce"
    token: Token = "mean"
    temperature: float = 0.07
    projection: Projection = "none"
    patches: int = 64

    def __post_init__(self) -> None:
        for name, known in (("loss", Loss), ("token", Token), ("projection", Projection)):
            if getattr(self, name) not in get_args(known):
                raise ConfigError(
                    f"settings.{name} {getattr(self, name)!r} is unknown. Known: {', '.join(get_args(known))}."
                )
        if self.temperature <= 0 or self.patches < 1:
            raise ConfigError("settings.temperature and settings.patches must be positive.")


class AlignmentStage(Stage):
    """The SAR encoder learns, wholly; the optical one, which it begins as a copy of, rests.

    Args:
        teacher, student: encoders as `encoders.dino` builds them, of the same numbers.
    """

    def __init__(self, teacher: nn.Module, student: nn.Module, settings: Settings | None = None) -> None:
        super().__init__()
        self.settings = settings or Settings()
        self.teacher, self.student = teacher.requires_grad_(False), student.requires_grad_(True)
        vit: Any = student.vit
        width = vit.embed_dim
        layers: Any = student.layers
        self.heads = nn.ModuleList(_head(self.settings.projection, width) for _ in layers)

    def train(self, mode: bool = True) -> AlignmentStage:
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, batch: Mapping[str, Any]) -> Tensor:
        """The loss, averaged over the three blocks that the network takes features from."""
        found = [self._loss(sar, optical) for sar, optical in self.embedded(batch)]
        return torch.stack(found).mean()

    def embedded(self, batch: Mapping[str, Any]) -> list[tuple[Tensor, Tensor]]:
        """SAR and optical embeddings (N, C) of each block, row by row of the same places."""
        valid_BHW = batch["optical_valid"] * batch["sar_valid"]
        images = (normalize(as_rgb(batch[sensor])) * batch[f"{sensor}_valid"][:, None] for sensor in ("optical", "sar"))
        optical, sar = images
        with torch.no_grad():
            wanted = self._tokens(self.teacher, optical)
        given = self._tokens(self.student, sar)
        if self.settings.token == "cls":
            pairs_of_blocks = zip(given, wanted, strict=True)
        else:
            share_BHW = F.adaptive_avg_pool2d(valid_BHW[:, None], (given[0].shape[-2], given[0].shape[-1]))[:, 0]
            pick = self._picked(share_BHW)
            pairs_of_blocks = zip(map(pick, given), map(pick, wanted), strict=True)
        return [
            (head(sar_NC).float(), optical_NC.float())
            for head, (sar_NC, optical_NC) in zip(self.heads, pairs_of_blocks, strict=True)
        ]

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        norms, others = zip(*(plain_parameters(part) for part in (self.student, self.heads)), strict=True)
        return [
            {"params": list(chain(*others)), "rate": 1.0, "weight_decay": weight_decay},
            {"params": list(chain(*norms)), "rate": 1.0, "weight_decay": 0.0},
        ]

    def sums(self, batch: Mapping[str, Any]) -> Tensor:
        """Loss, its weight, and how many SAR embeddings of the last block are nearest to their own optical one."""
        weight, (sar_NC, optical_NC) = self.weight(batch), self.embedded(batch)[-1]
        alike_NN = F.normalize(sar_NC, dim=-1) @ F.normalize(optical_NC, dim=-1).T
        hits = (alike_NN.argmax(1) == torch.arange(len(alike_NN), device=alike_NN.device)).float().mean()
        return torch.stack([self(batch).double() * weight, hits.double().new_tensor(weight), hits.double() * weight])

    def scores(self, sums: Tensor) -> dict[str, float]:
        return {**super().scores(sums), "own optical image found": float(sums[2] / sums[1].clamp(min=1))}

    def export(self, folder: Path, about: Mapping[str, str]) -> Path:
        """`sar_encoder.safetensors`, which `start.sar` of the second stage takes."""
        vit: Any = self.student.vit
        tensors = {name: value.cpu() for name, value in vit.state_dict().items()}
        if "rope.periods" in tensors:
            tensors["rope_embed.periods"] = tensors.pop("rope.periods")
        metadata = {"variant": VARIANT, **about, CHECKSUM: checksum(tensors)}
        return write(Converted(VARIANT, tensors, metadata), folder / FILE, overwrite=True)

    def facts(self) -> dict[str, str]:
        settings = self.settings
        params: Any = self.student.params
        return {
            "encoder": params.architecture or f"{params.family}, {params.depth} blocks of {params.embed_dim} channels",
            "sensors": "SAR (one band)",
            "loss": f"{settings.loss} of {settings.token} embeddings, projection {settings.projection}",
        }

    @property
    def judged_at_once(self) -> int:
        """Alone, an image is always nearest to itself."""
        return 8

    @property
    def use(self) -> str:
        return "# in a recipe of the stage mmovseg:\nstart: {sar: FILE}"

    def _tokens(self, encoder: nn.Module, image: Tensor) -> list[Tensor]:
        """Maps (B, C, H, W) of the blocks, or their CLS tokens (B, C)."""
        if self.settings.token != "cls":
            return list(encoder(image))
        found: list[Tensor] = []
        vit: Any = encoder.vit
        hook = vit.norm.register_forward_hook(lambda _module, _inputs, out: found.append(out[:, 0]))
        try:
            encoder(image)
        finally:
            hook.remove()
        return found

    def _picked(self, share_BHW: Tensor) -> Any:
        """From maps (B, C, H, W) to embeddings (N, C), of what both sensors saw."""
        weights_BN = share_BHW.flatten(1)
        if self.settings.token == "mean":
            shares_BN = weights_BN / weights_BN.sum(1, keepdim=True).clamp(min=1e-6)
            return lambda map_BCHW: torch.einsum("bcn,bn->bc", map_BCHW.flatten(2), shares_BN.to(map_BCHW.dtype))
        count = min(self.settings.patches, weights_BN.shape[1])
        if self.training:
            places_BN = torch.multinomial(weights_BN.clamp(min=1e-6), count)
        else:
            even = torch.linspace(0, weights_BN.shape[1] - 1, count, device=weights_BN.device).long()
            places_BN = even.expand(len(weights_BN), -1)
        rows = torch.arange(len(places_BN), device=places_BN.device)[:, None]
        return lambda map_BCHW: map_BCHW.flatten(2).transpose(1, 2)[rows, places_BN].flatten(0, 1)

    def _loss(self, sar_NC: Tensor, optical_NC: Tensor) -> Tensor:
        with torch.autocast(sar_NC.device.type, enabled=False):
            if self.settings.loss == "mse":
                return F.mse_loss(sar_NC, optical_NC)
            if self.settings.loss == "l1":
                return F.l1_loss(sar_NC, optical_NC)
            # In training the other processes' images are negatives too; validation images are not shared out evenly.
            others_NC = gathered(optical_NC) if self.training else optical_NC
            first = own_rows(len(sar_NC)).start if self.training else 0
            own = first + torch.arange(len(sar_NC), device=sar_NC.device)
            alike_NN = F.normalize(sar_NC, dim=-1) @ F.normalize(others_NC, dim=-1).T
            return F.cross_entropy(alike_NN / self.settings.temperature, own)


def prepare(recipe: StageRecipe) -> Begin:
    """The stage with its images."""
    from mmovseg_geo.training.stages.recipe import Begin

    kept, left_out = pairs(recipe.data, ("optical", "sar"))
    settings: Settings = recipe.settings
    if settings.loss == "infonce" and recipe.optimization.batch_size // recipe.optimization.accumulate < 2:
        raise ConfigError("infonce tells images apart, so a step needs two at once: give a larger batch_size.")
    begun = begin(recipe.network, recipe.start, needed=("dino",))
    optical: Any = begun.network.optical
    student: Any = begun.network.sar
    if recipe.start.sar is None and recipe.start.weights is None:
        student.load_state_dict(optical.dino.state_dict())
    stage = AlignmentStage(optical.dino, student, settings)
    size, seed = begun.params.native_size, recipe.optimization.seed
    ratio = recipe.data.sar_ratio
    samples = Images(kept, size, seed=seed, augmentation=recipe.augmentation, sar_ratio=ratio)
    judged = Images(left_out, size, sar_ratio=ratio) if left_out else None
    return Begin(stage, samples, judged, kept + left_out)


def _head(kind: Projection, width: int) -> nn.Module:
    if kind == "none":
        return nn.Identity()
    if kind == "linear":
        return nn.Linear(width, width)
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
