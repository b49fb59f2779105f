"""Dense features: what each kind of attention may see, and what the summed layers add up to."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mmovseg_geo.errors import ConfigError
from mmovseg_geo.models.segearth.attention import mixed_values
from mmovseg_geo.models.segearth.features import DenseFeatures
from tests.unit.models.segearth.tiny import tiny_clip

GRID = (2, 3)


@pytest.fixture(scope="module")
def visual() -> Any:
    return tiny_clip().visual


@pytest.fixture
def tokens() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(2, 1 + GRID[0] * GRID[1], 32)


def weights_by_hand(visual: Any, tokens: Tensor, pairs: str, bonus: Tensor | float = 0.0) -> Tensor:
    """The same output with the attention matrix written out, one head after the other."""
    block = visual.transformer.resblocks[-1]
    attn = block.attn
    q, k, v = F.linear(block.ln_1(tokens), attn.in_proj_weight, attn.in_proj_bias).chunk(3, dim=-1)
    parts = {"q": q, "k": k, "v": v}
    heads = []
    for head in range(attn.num_heads):
        of = {name: part[..., head * 16 : (head + 1) * 16] for name, part in parts.items()}
        total = torch.zeros(2, tokens.shape[1], tokens.shape[1])
        for left, right in pairs.split():
            total += torch.softmax(of[left] @ of[right].transpose(1, 2) / 4 + bonus, dim=-1)
        heads.append(total @ of["v"])
    return attn.out_proj(torch.cat(heads, dim=-1))


@pytest.mark.parametrize(
    ("kind", "pairs"), [("vanilla", "qk"), ("clearclip", "qq"), ("sclip", "qq kk"), ("segearth", "qq kk vv")]
)
def test_weights_of_the_pairs_are_summed(visual: Any, tokens: Tensor, kind: str, pairs: str) -> None:
    ours = mixed_values(visual.transformer.resblocks[-1], tokens, kind, GRID)
    torch.testing.assert_close(ours, weights_by_hand(visual, tokens, pairs))


def test_vanilla_attention_is_that_of_the_block(visual: Any, tokens: Tensor) -> None:
    block = visual.transformer.resblocks[-1]
    expected = block.attention(block.ln_1(tokens))
    torch.testing.assert_close(mixed_values(block, tokens, "vanilla", GRID), expected)


def test_naclip_favors_neighbors_and_leaves_cls_alone(visual: Any, tokens: Tensor) -> None:
    bonus = torch.zeros(7, 7)
    for i in range(6):
        for j in range(6):
            apart = (i // 3 - j // 3) ** 2 + (i % 3 - j % 3) ** 2
            bonus[1 + i, 1 + j] = torch.exp(torch.tensor(-apart / 2))
    ours = mixed_values(visual.transformer.resblocks[-1], tokens, "naclip", GRID)
    torch.testing.assert_close(ours, weights_by_hand(visual, tokens, "kk", bonus))


def test_with_maskclip_a_patch_depends_on_no_other(visual: Any, tokens: Tensor) -> None:
    block = visual.transformer.resblocks[-1]
    other = tokens.clone()
    other[:, 3:] += 1
    first, second = (mixed_values(block, x, "maskclip", GRID) for x in (tokens, other))
    torch.testing.assert_close(first[:, :3], second[:, :3])
    assert not torch.allclose(first[:, 3:], second[:, 3:])


@pytest.mark.parametrize("attention", ["vanilla", "maskclip", "sclip", "naclip", "segearth", "gem"])
@pytest.mark.parametrize("residual", [False, True])
def test_features_lie_on_the_grid_of_patches(visual: Any, attention: Any, residual: bool) -> None:
    dense, cls = DenseFeatures(visual, attention, residual=residual)(torch.randn(2, 3, 48, 80))
    assert dense.shape == (2, 16, 3, 5)
    assert cls is None if attention == "gem" else cls.shape == (2, 16)


def test_all_vanilla_layers_with_residual_end_in_the_image_embedding(visual: Any) -> None:
    image = torch.randn(1, 3, 64, 64)
    _, cls = DenseFeatures(visual, "vanilla", residual=True)(image)
    torch.testing.assert_close(cls, visual(image))


def test_images_of_a_batch_do_not_meet(visual: Any) -> None:
    images = torch.randn(2, 3, 48, 64)
    for attention in ("segearth", "gem"):
        features = DenseFeatures(visual, attention, last=2)
        together, _ = features(images)
        alone, _ = features(images[1:])
        torch.testing.assert_close(together[1:], alone)


def test_a_grid_of_as_many_cells_takes_the_table_as_it_is(visual: Any) -> None:
    features = DenseFeatures(visual)
    assert features.positions((2, 8)) is visual.positional_embedding
    assert DenseFeatures(visual, "gem").positions((2, 8)) is not visual.positional_embedding


def test_more_layers_than_there_are_is_an_error(visual: Any) -> None:
    with pytest.raises(ConfigError, match="4 does not fit an image tower of 3 blocks"):
        DenseFeatures(visual, last=4)
