"""Encoders by name: read without weights, looked through on every grid, kept in files, refused with the reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mmovseg_geo.errors import ConfigError, WeightsError
from mmovseg_geo.models import load_segmenter
from mmovseg_geo.models.mmovseg import named
from mmovseg_geo.models.mmovseg.build import build
from mmovseg_geo.models.mmovseg.encoders import dino
from mmovseg_geo.models.mmovseg.network import MMOVSeg
from mmovseg_geo.models.mmovseg.params import CLIPParams, DINOParams, MMOVSegParams
from mmovseg_geo.tiles import Batch
from tests.unit.models.mmovseg.tiny import HEAD, tiny_params

TINY_V3 = "vit_tiny_patch16_dinov3_qkvb"


def variant(name: str = TINY_V3) -> MMOVSegParams:
    """A CLIP and a head a few channels wide with a DINO of timm."""
    clip = replace(tiny_params().clip, quick_gelu=False, vision_head_width=32, vision_mlp_ratio=2.0)
    return replace(tiny_params(), clip=replace(clip, architecture="tiny"), dino=named.dino_params(name), head=HEAD)


@pytest.fixture(scope="module")
def network() -> MMOVSeg:
    torch.manual_seed(0)
    return build(variant()).eval()


@pytest.fixture
def written(tmp_path: Path, network: MMOVSeg) -> Path:
    path = tmp_path / "custom.safetensors"
    save_file(network.state_dict(), path, {**named.to_metadata(variant()), "trained": "yes"})
    return path


@pytest.mark.parametrize(
    ("name", "family", "patch", "stride", "registers"),
    [
        ("vit_small_patch8_224.dino", "dinov1", 8, 8, 0),
        ("vit_small_patch14_dinov2.lvd142m", "dinov2", 14, 16, 0),
        ("vit_small_patch14_reg4_dinov2", "dinov2", 14, 16, 4),
        ("vit_small_patch16_dinov3.lvd1689m", "dinov3", 16, 16, 4),
    ],
)
def test_numbers_of_a_dino_are_read_off_timm(name: str, family: str, patch: int, stride: int, registers: int) -> None:
    found = named.dino_params(name)
    assert (found.family, found.patch, found.stride, found.registers) == (family, patch, stride, registers)
    assert (found.embed_dim, found.depth, found.num_heads) == (384, 12, 6)


def test_numbers_of_a_clip_are_read_off_open_clip() -> None:
    expected = CLIPParams(
        1024, 224, 14, 1280, 32, 1024, 16, 24, vision_head_width=80, quick_gelu=False, architecture="ViT-H-14"
    )
    assert named.clip_params("ViT-H-14") == expected
    assert named.clip_params("ViT-B-16-quickgelu").quick_gelu


@pytest.mark.parametrize(
    ("name", "table"), [("vit_small_patch14_dinov2", 5), ("vit_small_patch14_reg4_dinov2", 4), (TINY_V3, None)]
)
def test_every_kind_of_dino_lies_on_the_cost_grid(name: str, table: int | None) -> None:
    """Two blocks are enough to see the grid; tiles of 48 x 32 pixels are 3 x 2 cells whatever the patch."""
    params = named.dino_params(name)
    encoder = dino(params, (0, 1)).eval()
    with torch.inference_mode():
        maps = encoder(torch.zeros(1, 3, 60, 40), (48, 32))
    assert [tuple(found.shape) for found in maps] == [(1, params.embed_dim, 3, 2)] * 2
    with pytest.raises((ValueError, AssertionError), match=r"multiples of 16|divisible by"):
        encoder(torch.zeros(1, 3, 40, 40))


def test_a_patch_of_14_sees_the_tile_at_seven_eighths() -> None:
    encoder = dino(DINOParams("dinov1", 8, 1, 1, patch=14, native_size=28, tile_pixels=16), (0,))
    seen = []
    encoder.vit.patch_embed.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape[-2:])))
    encoder(torch.zeros(1, 3, 32, 64))
    assert seen == [(28, 56)]


def test_a_file_says_its_numbers_and_segments(written: Path, network: MMOVSeg) -> None:
    segmenter = load_segmenter(str(written), "water,forest", device="cpu", precision="fp32")
    rng = np.random.default_rng(0)
    optical, sar = (rng.uniform(0, 255, (1, bands, 64, 64)).astype(np.float32) for bands in (3, 1))
    seen = np.ones((1, 64, 64), bool)
    batch = Batch((), optical, sar, seen, seen, 1.0)
    scores = segmenter(batch)
    assert scores.shape == (1, 2, 64, 64)
    for key, value in segmenter.network.state_dict().items():  # type: ignore[attr-defined]
        torch.testing.assert_close(value, network.state_dict()[key])
    assert scores.std() > 0


def test_numbers_survive_the_metadata() -> None:
    assert named.from_metadata(named.to_metadata(variant()), "x") == variant()


def test_untrained_heads_do_not_segment(tmp_path: Path, network: MMOVSeg) -> None:
    path = tmp_path / "start.safetensors"
    save_file(network.state_dict(), path, named.to_metadata(variant()))
    with pytest.raises(WeightsError, match="cost head is not"):
        load_segmenter(str(path), "water")
    with pytest.raises(WeightsError, match="nothing has trained it"):
        load_segmenter("mmovseg-custom", "water", options={"clip": "ViT-B-32", "dino": TINY_V3})


def test_weights_of_other_encoders_are_refused(written: Path) -> None:
    with pytest.raises(WeightsError, match=r"another clip \(tiny\) than ViT-B-32: embed_dim 16, not 512"):
        load_segmenter(str(written), "water", options={"clip": "ViT-B-32"})
    with pytest.raises(WeightsError, match=r"another dino .* embed_dim 192, not 384"):
        load_segmenter(str(written), "water", options={"dino": "vit_small_patch16_dinov3"})


@pytest.mark.parametrize(
    ("details", "message"),
    [({}, "no `params`"), ({"params": "{"}, "cannot be read"), ({"params": '{"head": {"x": 1}}'}, "another version")],
)
def test_a_file_without_its_numbers_is_refused(details: dict[str, str], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        named.from_metadata(details, "some.safetensors")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("RN50", "a ResNet, which has no patch tokens"),
        ("ViT-M-16-alt", "plain CLIP towers, and this one has ls_init_value"),
    ],
)
def test_a_clip_that_cannot_work_says_why(name: str, message: str) -> None:
    """The first is one of those that no method can use; `test_clip.py` has them all."""
    with pytest.raises(ConfigError, match=message):
        named.clip_params(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit_base_patch14_dinov2.lvd142", "Did you mean vit_base_patch14_dinov2.lvd142m"),
        ("convnext_tiny.dinov3_lvd1689m", "it is a convnext, no ViT"),
        ("vit_tiny_patch16_224", "but no DINO"),
        ("vit_small_patch8_224", "With DINO's weights it is vit_small_patch8_224.dino"),
        ("ViT-B-16-quickgelu", "no DINO that timm knows"),
    ],
)
def test_a_dino_that_cannot_work_says_why(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        named.dino_params(name)


@pytest.mark.parametrize(("size", "message"), [(400, "multiples of 32 only. The nearest is"), ("big", "not a number")])
def test_tiles_that_the_grid_does_not_divide_are_refused(size: int | str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        named.tile_size(size)
