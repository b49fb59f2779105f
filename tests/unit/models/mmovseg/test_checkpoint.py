from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from mmovseg_geo.errors import WeightsError
from mmovseg_geo.models.mmovseg.build import build
from mmovseg_geo.models.mmovseg.checkpoint import build_loaded, infer_variant, rules
from mmovseg_geo.models.state_dict import rename, their_shapes
from tests.unit.models.mmovseg.tiny import tiny_network, tiny_params

FAMILIES = ("dinov1", "dinov3")


def official_state(family: str) -> dict[str, Tensor]:
    """A random state dict as the official code would save one."""
    params = tiny_params(family)
    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in build(params).state_dict().items()}
    torch.manual_seed(0)
    return {key: torch.randn(shape) for key, shape in their_shapes(shapes, rules(params)).items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_an_official_checkpoint_fills_the_network(family: str) -> None:
    official = official_state(family)
    params = tiny_params(family)
    network = build_loaded(params, rename(official, rules(params)))
    assert not [name for name, tensor in network.state_dict().items() if tensor.is_meta]
    assert not [name for name, tensor in network.named_buffers() if tensor.is_meta]
    assert torch.equal(
        network.head.fusion.fuse.weight, official["sem_seg_head.predictor.transformer.fusion_corr.weight"]
    )


def test_query_key_and_value_of_clip_are_joined_in_this_order() -> None:
    official = official_state("dinov1")
    ours = rename(official, rules(tiny_params("dinov1")))
    prefix = "sem_seg_head.predictor.clip_model.visual.transformer.resblocks.2.attn."
    joined = ours["optical.clip.visual.transformer.resblocks.2.attn.in_proj_weight"]
    assert torch.equal(joined, torch.cat([official[f"{prefix}{part}_proj_weight"] for part in "qkv"]))


def test_the_key_bias_of_dinov3_is_dropped() -> None:
    official = official_state("dinov3")
    ours = rename(official, rules(tiny_params("dinov3")))
    bias = official["dino_sarmodel.blocks.1.attn.qkv.bias"]
    assert torch.equal(ours["sar.vit.blocks.1.attn.q_bias"], bias[:32])
    assert torch.equal(ours["sar.vit.blocks.1.attn.v_bias"], bias[64:])


def test_entries_that_are_not_needed_are_dropped_on_purpose() -> None:
    official = official_state("dinov3")
    table = rules(tiny_params("dinov3"))
    extra = {
        "sem_seg_head.predictor.clip_model.logit_scale": torch.zeros(()),
        "sem_seg_head.predictor.transformer.layers.0.swin_block.block_2.attn_mask": torch.zeros(4, 144, 144),
        "dino_model.local_cls_norm.weight": torch.zeros(32),
        "dino_model.blocks.0.attn.qkv.bias_mask": torch.full((96,), torch.nan),
    }
    assert rename({**official, **extra}, table).keys() == rename(official, table).keys()


def test_a_network_built_without_memory_computes_the_same() -> None:
    ordinary = tiny_network("dinov3")
    loaded = build_loaded(tiny_params("dinov3"), ordinary.state_dict())
    torch.manual_seed(0)
    image, text = torch.randn(1, 3, 64, 64), ["water", "bare ground"]
    with torch.no_grad():
        expected = ordinary(image, image, ordinary.text.encode(text))
        assert torch.equal(loaded(image, image, loaded.text.encode(text)), expected)


def test_an_unknown_key_is_named() -> None:
    official = {**official_state("dinov1"), "roi_heads.weight": torch.zeros(1)}
    with pytest.raises(WeightsError, match=re.escape("roi_heads.weight")):
        rename(official, rules(tiny_params("dinov1")))


def test_a_missing_part_of_a_joined_key_is_named() -> None:
    official = official_state("dinov1")
    del official["sem_seg_head.predictor.clip_model.transformer.resblocks.0.attn.v_proj_weight"]
    with pytest.raises(WeightsError, match=r"without .*v_proj_weight"):
        rename(official, rules(tiny_params("dinov1")))


@pytest.mark.parametrize(("width", "variant"), [(768, "mmovseg-vitb16"), (1024, "mmovseg-vitl14")])
def test_the_variant_shows_in_the_width_of_an_adapter(width: int, variant: str) -> None:
    assert infer_variant({"upsample1.weight": torch.zeros(width, 256, 2, 2)}) == variant


@pytest.mark.parametrize("state", [{}, {"upsample1.weight": torch.zeros(512, 1)}])
def test_a_foreign_checkpoint_is_refused(state: dict[str, Tensor]) -> None:
    with pytest.raises(WeightsError, match="Not an official MM-OVSeg checkpoint"):
        infer_variant(state)
