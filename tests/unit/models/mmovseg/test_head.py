from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mmovseg_geo.models.mmovseg.head import CostHead, cosine
from mmovseg_geo.models.mmovseg.params import HeadParams
from tests.unit.models.mmovseg.tiny import HEAD


def head_inputs(params: HeadParams, grid: tuple[int, int], batch: int = 1) -> tuple[Tensor, Tensor, tuple, tuple]:
    torch.manual_seed(1)
    dense = [torch.randn(batch, params.text_dim, *grid) for _ in range(2)]
    guidance = [
        tuple(
            torch.randn(batch, dim, *(cells * 2 ** (stage + 1) for cells in grid))
            for stage, dim in enumerate(params.guidance_dims)
        )
        for _ in range(2)
    ]
    return dense[0], dense[1], guidance[0], guidance[1]


@pytest.fixture
def head() -> CostHead:
    torch.manual_seed(0)
    return CostHead(HEAD).eval()


@pytest.mark.parametrize("grid", [(4, 4), (5, 3), (6, 11)])
def test_any_grid_gives_logits_of_its_own_shape(head: CostHead, grid: tuple[int, int]) -> None:
    clip, dense, clip_guidance, dino_guidance = head_inputs(HEAD, grid, batch=2)
    logits = head(clip, dense, torch.randn(3, 16), clip_guidance, dino_guidance)
    assert logits.shape == (2, 3, HEAD.upsampling * grid[0], HEAD.upsampling * grid[1])


def test_the_number_of_decoder_stages_is_free() -> None:
    params = replace(HEAD, guidance_dims=(12,), guidance_proj=(4,), decoder_dims=(8,))
    clip, dense, clip_guidance, dino_guidance = head_inputs(params, (4, 4))
    logits = CostHead(params)(clip, dense, torch.randn(2, 16), clip_guidance, dino_guidance)
    assert logits.shape == (1, 2, 8, 8)


def test_images_of_a_batch_do_not_see_each_other(head: CostHead) -> None:
    text = torch.randn(3, 16)
    clip, dense, clip_guidance, dino_guidance = head_inputs(HEAD, (4, 4), batch=2)
    both = head(clip, dense, text, clip_guidance, dino_guidance)
    second = [[map_[1:] for map_ in maps] for maps in (clip_guidance, dino_guidance)]
    alone = head(clip[1:], dense[1:], text, *map(tuple, second))
    assert torch.allclose(both[1:], alone, atol=1e-5)


def test_each_image_may_bring_its_own_words(head: CostHead) -> None:
    clip, dense, clip_guidance, dino_guidance = head_inputs(HEAD, (4, 4), batch=2)
    words = torch.randn(2, 3, 16)
    each = head(clip, dense, words, clip_guidance, dino_guidance)
    shared = head(clip, dense, words[1], clip_guidance, dino_guidance)
    assert torch.allclose(each[1], shared[1], atol=1e-5)
    assert not torch.allclose(each[0], shared[0], atol=1e-3)


def test_the_order_of_the_classes_does_not_matter(head: CostHead) -> None:
    clip, dense, clip_guidance, dino_guidance = head_inputs(HEAD, (4, 4))
    text = torch.randn(3, 16)
    logits = head(clip, dense, text, clip_guidance, dino_guidance)
    swapped = head(clip, dense, text[[2, 0, 1]], clip_guidance, dino_guidance)
    assert torch.allclose(swapped, logits[:, [2, 0, 1]], atol=1e-5)


def test_zero_features_give_finite_logits_and_gradients(head: CostHead) -> None:
    inputs = head_inputs(HEAD, (4, 4))
    clip, dense = (torch.zeros_like(map_, requires_grad=True) for map_ in inputs[:2])
    logits = head(clip, dense, torch.randn(2, 16), *inputs[2:])
    logits.sum().backward()
    assert logits.isfinite().all()
    assert clip.grad is not None
    assert clip.grad.isfinite().all()


def test_cosine_ignores_the_length_of_features_and_words() -> None:
    features, text = torch.randn(1, 16, 2, 2), torch.randn(1, 3, 16)
    assert torch.allclose(cosine(7 * features, 0.1 * text), cosine(features, text), atol=1e-6)


def test_half_precision_runs_through_the_head(head: CostHead) -> None:
    clip, dense, clip_guidance, dino_guidance = head_inputs(HEAD, (5, 4))
    text = torch.randn(3, 16)
    expected = head(clip, dense, text, clip_guidance, dino_guidance)
    half = [[map_.bfloat16() for map_ in maps] for maps in ((clip, dense, text), clip_guidance, dino_guidance)]
    found = head.bfloat16()(*half[0], tuple(half[1]), tuple(half[2]))
    assert found.dtype == torch.bfloat16
    assert torch.allclose(found.float(), expected, atol=0.1)
