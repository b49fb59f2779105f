"""Training of SimFeatUp from optical images alone (section 3.6 of SegEarth-OV's description).

An upsampler is good if features that it raised, moved and averaged back are those that the encoder gives the moved
image. Shape suffixes: B images, C channels, H rows, W columns, h w rows and columns of patches, P pixels of a patch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from mmovseg_geo.errors import ConfigError
from mmovseg_geo.models.convert import CHECKSUM, Converted, checksum, write
from mmovseg_geo.models.segearth.encoder import load_encoder
from mmovseg_geo.models.segearth.features import DenseFeatures
from mmovseg_geo.models.segearth.preprocessing import normalize
from mmovseg_geo.models.segearth.upsampler import FACTOR, build_upsampler
from mmovseg_geo.training.loop_settings import LoopSettings
from mmovseg_geo.training.stages.alignearth import clip_file
from mmovseg_geo.training.stages.augment import Augmentation
from mmovseg_geo.training.stages.images import Images, pairs, refuse_ratio
from mmovseg_geo.training.stages.stage import Pictures, Stage

if TYPE_CHECKING:
    from mmovseg_geo.training.stages.recipe import Begin, StageRecipe

Kind = Literal["jbu_one", "jbu_stack"]
Normalization = Literal["imagenet", "clip"]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OPTIMIZATION = LoopSettings(
    steps=5000, batch_size=8, learning_rate=1e-3, weight_decay=0.0, optimizer="nadam", schedule="constant",
    gradient_clip=1e-4, clip_steps=10,
)  # fmt: skip
AUGMENTATION = Augmentation(flip=0.0, color=0.0)
SMALLEST_SPREAD = 1e-4
DROPOUT = 0.2
BLUR, BLUR_STD = 5, 1.0


@dataclass(frozen=True)
class Settings:
    """What is particular to this stage; the defaults are the published numbers.

    Attributes:
        encoder: an open_clip architecture with patches of 16 pixels; `start.clip` is its checkpoint, OpenAI's where it
            is left out.
        normalization: of the images in training; the published one differs from that of segmenting, which is CLIP's.
        jitters: moved views of a step; each is shifted by up to `pad` pixels, half of them enlarged up to `zoom` times.
        projection: random directions that the error is measured in.
        content_weight: of the loss of an image that is rebuilt from the features.
    """

    kind: Kind = "jbu_one"
    encoder: str = "ViT-B-16-quickgelu"
    size: int = 224
    normalization: Normalization = "imagenet"
    jitters: int = 5
    pad: int = 20
    zoom: float = 2.0
    projection: int = 30
    content_weight: float = 0.1

    def __post_init__(self) -> None:
        for name, known in (("kind", Kind), ("normalization", Normalization)):
            if getattr(self, name) not in get_args(known):
                raise ConfigError(
                    f"settings.{name} {getattr(self, name)!r} is unknown. Known: {', '.join(get_args(known))}."
                )
        if self.size % FACTOR or self.pad >= self.size or self.zoom < 1 or self.jitters < 1:
            raise ConfigError(
                f"settings.size must be a multiple of {FACTOR} and larger than pad; zoom and jitters at least 1."
            )


class UpsamplerStage(Stage):
    """The upsampler learns, and with it what is thrown away afterwards: averaging back, its spread, rebuilding.

    Args:
        model: an `open_clip.CLIP`, of which the image tower is kept; it rests.
    """

    def __init__(self, model: Any, settings: Settings | None = None) -> None:
        super().__init__()
        self.settings = settings or Settings()
        self.visual = model.visual.requires_grad_(False)
        channels, self.patch = self.visual.output_dim, self.visual.patch_size[0]
        self.upsampler = build_upsampler(self.settings.kind, channels, patch=self.patch)
        self.averaging = Averaging(channels, self.patch)
        self.spread = nn.Conv2d(channels, 1, 1)
        self.rebuilding = Rebuilding(channels)

    def train(self, mode: bool = True) -> UpsamplerStage:
        super().train(mode)
        self.visual.eval()
        return self

    def forward(self, batch: Mapping[str, Any]) -> Tensor:
        """The error of moved views, and that of images rebuilt from features."""
        settings, image_B3HW = self.settings, self.shown(batch)
        fine_BCHW = self.upsampler(self.features(image_B3HW), image_B3HW)
        views, content = [], []
        for _ in range(settings.jitters):
            move = drawn_move(settings)
            moved_BCHW, moved_image = move(fine_BCHW), move(image_B3HW)
            wanted_BChw = self.features(moved_image)
            views.append(self._off(self.averaging(moved_BCHW), wanted_BChw))
            content.append(F.mse_loss(self.rebuilding(moved_BCHW).float(), moved_image))
        return torch.stack(views).mean() + settings.content_weight * torch.stack(content).mean()

    def shown(self, batch: Mapping[str, Any]) -> Tensor:
        """Normalized images (B, 3, H, W)."""
        image: Tensor = batch["optical"]
        if self.settings.normalization == "clip":
            return normalize(image)
        mean, std = (torch.tensor(v, device=image.device).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        return (image / 255 - mean) / std

    @torch.no_grad()
    def features(self, image_B3HW: Tensor) -> Tensor:
        """What enters the last block (B, C, h, w), in the space of the words."""
        patches_BChw: Tensor = BeforeLast(self.visual)(image_B3HW)[0].float()
        return patches_BChw

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        return [{"params": list(self.trained().values()), "rate": 1.0, "weight_decay": weight_decay}]

    def sums(self, batch: Mapping[str, Any]) -> Tensor:
        """With the same moves at every validation."""
        with torch.random.fork_rng(devices=[batch["optical"].device] if batch["optical"].is_cuda else []):
            torch.manual_seed(0)
            return super().sums(batch)

    @torch.no_grad()
    def pictures(self, batch: Mapping[str, Any]) -> Pictures:
        """The image, and three directions of most variance of its features before and after."""
        image_B3HW = self.shown(batch)
        coarse_BCHW = self.features(image_B3HW)
        fine_BCHW = self.upsampler(coarse_BCHW, image_B3HW)
        flat_NC = rearrange(coarse_BCHW[0], "c h w -> (h w) c")
        _, _, directions = torch.pca_lowrank(flat_NC, q=3)
        ends = [torch.quantile(flat_NC @ directions, share, dim=0) for share in (0.02, 0.98)]

        def colored(map_CHW: Tensor) -> Any:
            values = torch.einsum("chw,cd->hwd", map_CHW, directions)
            shares = (values - ends[0]) / (ends[1] - ends[0]).clamp(min=1e-6)
            return (255 * shares.clamp(0, 1)).cpu().numpy().astype(np.uint8)

        optical = batch["optical"][0].clamp(0, 255).permute(1, 2, 0).cpu().numpy().astype(np.uint8)
        enlarged = coarse_BCHW[0].repeat_interleave(self.patch, 1).repeat_interleave(self.patch, 2)
        return [("optical", optical), ("features", colored(enlarged)), ("upsampled", colored(fine_BCHW[0]))]

    def export(self, folder: Path, about: Mapping[str, str]) -> Path:
        """The upsampler alone, under its published names."""
        network = f"upsampler-{self.settings.kind.replace('_', '-')}"
        tensors = {name: value.cpu() for name, value in self.upsampler.state_dict().items()}
        metadata = {"variant": network, "encoder": self.settings.encoder, **about, CHECKSUM: checksum(tensors)}
        return write(
            Converted(network, tensors, metadata), folder / f"{self.settings.kind}.safetensors", overwrite=True
        )

    def facts(self) -> dict[str, str]:
        return {
            "encoder": self.settings.encoder,
            "channels": str(self.visual.output_dim),
            "images in training": f"normalized as those of {self.settings.normalization}",
        }

    @property
    def use(self) -> str:
        return (
            'mmovseg segment optical.tif --model segearth-ov --classes "water,building" --model-option upsampler=FILE'
        )

    def _off(self, averaged_BChw: Tensor, wanted_BChw: Tensor) -> Tensor:
        """Squared error in random directions, against the spread that is foretold from the features."""
        with torch.autocast(wanted_BChw.device.type, enabled=False):
            directions = F.normalize(torch.randn(wanted_BChw.shape[1], self.settings.projection), dim=0)
            off = torch.einsum("bchw,cd->bdhw", averaged_BChw.float() - wanted_BChw, directions.to(wanted_BChw.device))
            spread: Tensor = (self.spread(wanted_BChw) + 0.1).exp().clamp(min=SMALLEST_SPREAD)
            return (off.square() / (2 * spread.square()) + spread.log()).mean()


class BeforeLast(DenseFeatures):
    """What enters the last block, brought into the space of the words."""

    def _changed(self, x_BND: Tensor, grid: tuple[int, int]) -> Tensor:
        for block in self.visual.transformer.resblocks[:-1]:
            x_BND = block(x_BND)
        return x_BND


class Averaging(nn.Module):
    """Features of pixels (B, C, H, W) to those of patches: blurred, then a mean with weights that they choose."""

    def __init__(self, channels: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.choice = nn.Linear(channels, 1)
        self.dropout = nn.Dropout(DROPOUT)
        self.factor = nn.Parameter(1 + 0.01 * torch.randn(patch * patch))
        self.offset = nn.Parameter(0.01 * torch.randn(patch * patch))
        along = torch.exp(-(torch.arange(BLUR) - BLUR // 2).square() / (2 * BLUR_STD**2))
        self.register_buffer("blur", (along[:, None] * along) / along.sum() ** 2, persistent=False)

    def forward(self, fine_BCHW: Tensor) -> Tensor:
        channels = fine_BCHW.shape[1]
        blur: Any = self.blur
        edge = BLUR // 2
        padded = F.pad(fine_BCHW, (edge,) * 4, mode="reflect")
        blurred = F.conv2d(padded, blur.expand(channels, 1, -1, -1).to(fine_BCHW.dtype), groups=channels)
        cut = {"h1": self.patch, "w1": self.patch}
        patches = rearrange(blurred, "b c (h h1) (w w1) -> b h w (h1 w1) c", **cut)
        logits = self.choice(self.dropout(patches))[..., 0] * self.factor + self.offset
        return torch.einsum("bhwpc,bhwp->bchw", patches, logits.softmax(dim=-1))


class Rebuilding(nn.Module):
    """The image from features of pixels; the tangent keeps it within -1 and 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 1)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.last = nn.Conv2d(channels, 3, 1)

    def forward(self, fine_BCHW: Tensor) -> Tensor:
        hidden = self.norm(self.first(fine_BCHW).movedim(1, -1)).movedim(-1, 1)
        return torch.tanh(self.last(F.gelu(hidden)))


def drawn_move(settings: Settings) -> Any:
    """A random shift, enlargement and mirroring of maps (B, C, H, W), the same for all that it is called with."""
    zoom = 1 + (settings.zoom - 1) * float(torch.rand(())) if float(torch.rand(())) < 0.5 else 1.0
    mirrored = float(torch.rand(())) < 0.5
    shares = torch.rand(2).tolist()

    def move(map_BCHW: Tensor) -> Tensor:
        height, width = map_BCHW.shape[-2:]
        padded = F.pad(map_BCHW, (settings.pad,) * 4, mode="reflect")
        # Cutting out a part and enlarging it is cutting from the enlarged, at a fraction of the memory.
        sides = [max(1, round(side / zoom)) for side in (height, width)]
        row, col = (
            round(share * (side + 2 * settings.pad - part))
            for share, side, part in zip(shares, (height, width), sides, strict=True)
        )
        part = padded[..., row : row + sides[0], col : col + sides[1]]
        if sides != [height, width]:
            part = F.interpolate(part, size=(height, width), mode="bilinear", align_corners=False)
        return part.flip(-1) if mirrored else part

    return move


def prepare(recipe: StageRecipe) -> Begin:
    """The stage with its images."""
    from mmovseg_geo.training.stages.recipe import Begin

    settings: Settings = recipe.settings
    refuse_ratio(recipe.data, "simfeatup")
    kept, left_out = pairs(recipe.data, ("optical",))
    stage = UpsamplerStage(load_encoder(clip_file(recipe.start.clip), settings.encoder), settings)
    samples = Images(kept, settings.size, seed=recipe.optimization.seed, augmentation=recipe.augmentation)
    return Begin(stage, samples, Images(left_out, settings.size) if left_out else None, kept + left_out)
