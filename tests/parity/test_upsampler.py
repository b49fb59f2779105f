"""The upsampler against every recorded map of it, with seeded weights and with the real ones of FeatUp."""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np
import pytest
import rasterio
import torch
from einops import rearrange
from rasterio.windows import Window
from torch import Tensor, nn
from torch.nn import functional as F

from mmovseg_geo.models.segearth.features import DenseFeatures
from mmovseg_geo.models.segearth.preprocessing import normalize
from mmovseg_geo.models.segearth.upsampler import (
    SQUARE,
    JointBilateralDoubling,
    JointBilateralUpsampler,
    build_upsampler,
    load_upsampler,
)
from tests.conftest import shared_folder
from tests.parity.segearth_fixture import Recorded, compared, discover, feature_error, fill

SEEDED = ("jbu_one", "jbu_stack")
UPSAMPLED, NORMS = ".upsampled", ".norms"
STRIDED = re.compile(r"\[(?:::\d+,?)+\]$")
"""Ends the name of an array of which only every n-th value was stored."""


@pytest.mark.parametrize("file", discover(lambda name: name.endswith(".stage1")))
@torch.inference_mode()
def test_every_recorded_doubling_is_met(file: Recorded) -> None:
    source = torch.from_numpy(file["source"])[None]
    guidance = normalize(torch.from_numpy(file["guidance_rgb"].astype(np.float32)).permute(2, 0, 1)[None])
    for kind in (name.removesuffix(".out") for name in file.arrays if name.endswith(".out")):
        upsampler = fill(build_upsampler(kind, source.shape[1]), file.salt)  # type: ignore[arg-type]
        assert isinstance(upsampler, JointBilateralUpsampler)
        assert not feature_error(upsampler(source, guidance)[0], file[f"{kind}.out"]), kind

        first = next(module for module in upsampler.modules() if isinstance(module, JointBilateralDoubling))
        height, width = 2 * source.shape[2], 2 * source.shape[3]
        small = F.adaptive_avg_pool2d(guidance, (height, width))
        assert not feature_error(small[0], file["stage1.guidance"])
        assert not feature_error(range_kernel(first, small), file[f"{kind}.stage1.range_kernel"]), kind
        assert not feature_error(first.spatial_weights(), file[f"{kind}.stage1.spatial_kernel"]), kind
        doubled = first(rearrange(source, "b c h w -> b h w c"), small)
        assert not feature_error(rearrange(doubled, "1 h w c -> c h w"), file[f"{kind}.stage1"]), kind


def range_kernel(stage: JointBilateralDoubling, guidance: Tensor) -> Tensor:
    """The weights of the first stage's taps (K, H, W)."""
    height, width = guidance.shape[-2:]
    seen, _ = stage.squares(guidance)
    weights = rearrange(stage.range_weights(seen), "1 u v (y x) k -> k (u y) (v x)", y=SQUARE)
    return weights[:, :height, :width]


@pytest.mark.parametrize("file", discover(lambda name: UPSAMPLED in name))
@torch.inference_mode()
def test_every_recorded_upsampled_map_is_met(file: Recorded) -> None:
    for name in [name for name in file.arrays if UPSAMPLED in name]:
        kind = name.split(UPSAMPLED)[0]
        for source, upsampler in upsamplers(file, kind, channels(file)).items():
            ours = upsampled(file, upsampler)
            assert not feature_error(strided(ours, name), file[name]), source
            norms = next(other for other in file.arrays if other.startswith(kind + NORMS))
            assert not feature_error(strided(ours.norm(dim=0), norms), file[norms]), source


@pytest.mark.parametrize("file", discover(lambda name: UPSAMPLED in name))
@torch.inference_mode()
def test_similarities_with_words_without_the_global_bias_are_met(file: Recorded) -> None:
    (name,) = (name for name in file.arrays if name.startswith("query_logits"))
    words = torch.from_numpy(file.beside("query_words")["text_embeddings"])
    (upsampler,) = upsamplers(file, "jbu_one", words.shape[1]).values()
    pixels = F.normalize(upsampled(file, upsampler), dim=0)
    _, cls = dense(file)
    scores = torch.einsum("chw,qc->qhw", pixels, words)
    scores += file.meta["lam"] * (words @ F.normalize(cls[0], dim=0))[:, None, None]
    assert not compared(strided(scores, name), file[name], atol=2e-5)


def channels(file: Recorded) -> int:
    return dense(file)[0].shape[1]


def upsamplers(file: Recorded, kind: str, dim: int) -> dict[str, nn.Module]:
    """By where its weights come from: seeded for a kind's name, else every file of that name."""
    if kind in SEEDED:
        return {kind: fill(build_upsampler(kind, dim), file.salt)}  # type: ignore[arg-type]
    files = sorted((shared_folder() / "weights").glob(f"{kind}.*"))
    if not files:
        pytest.skip(f"no weights {kind} in {shared_folder() / 'weights'}; set MMOVSEG_SHARED")
    return {str(path): load_upsampler(path) for path in files}


def upsampled(file: Recorded, upsampler: nn.Module) -> Tensor:
    ours: Tensor = upsampler(dense(file)[0], image(file))[0]
    return ours


@lru_cache(maxsize=1)
def dense(file: Recorded) -> tuple[Tensor, Tensor]:
    """Patch vectors and CLS vector of the file's window by SegEarth-OV, seeded ViT-B/16."""
    patches, cls = DenseFeatures(file.model(512).visual)(image(file))
    assert cls is not None
    return patches, cls


def image(file: Recorded) -> Tensor:
    """The normalized window (1, 3, H, W), cut from the real scene."""
    path = shared_folder() / "data" / "optical" / "oem_koeln_50.tif"
    if not path.is_file():
        pytest.skip(f"{path} not found; set MMOVSEG_SHARED")
    norms = next(name for name in file.arrays if NORMS in name)
    height, width = (stored * step for stored, step in zip(file[norms].shape, steps(norms), strict=True))
    row, col = file["image_origin"]
    with rasterio.open(path) as scene:
        pixels = scene.read((1, 2, 3), window=Window(col, row, width, height))
    return normalize(torch.from_numpy(pixels.astype(np.float32))[None])


def steps(name: str) -> list[int]:
    """`x[::32,::4]` stores every 32nd and every 4th value."""
    found = STRIDED.search(name)
    return [int(part.strip("[]:")) for part in found[0].split(",")] if found else []


def strided(ours: Tensor, name: str) -> Tensor:
    return ours[(..., *(slice(None, None, step) for step in steps(name)))]
