"""A few classes at a time give the numbers of all at once, in less memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mmovseg_geo.models.mmovseg.chunks import by_class, classes_at_once
from mmovseg_geo.models.mmovseg.head import CostHead
from mmovseg_geo.models.mmovseg.params import HeadParams
from tests.unit.models.mmovseg.tiny import HEAD


@pytest.mark.parametrize("size", [1, 2, 3, 5, 9, None])
def test_parts_of_any_size_are_put_together_in_order(size: int | None) -> None:
    x, y = torch.randn(2, 5, 3), torch.randn(2, 5, 3)
    assert by_class(lambda a, b: a + 2 * b, size, x, y).equal(x + 2 * y)


@pytest.mark.parametrize("layers", [0, 2])
@torch.inference_mode()
def test_a_small_budget_changes_no_number(layers: int) -> None:
    torch.manual_seed(0)
    head = CostHead(replace(HEAD, num_layers=layers)).eval().requires_grad_(False)
    dense = torch.randn(2, HEAD.text_dim, 8, 8)
    guidance = tuple(torch.randn(2, dim, 16 << i, 16 << i) for i, dim in enumerate(HEAD.guidance_dims))
    inputs = (dense, dense.flip(-1), torch.randn(5, HEAD.text_dim), guidance, guidance)
    whole = head(*inputs)
    calls = []
    head.fusion.register_forward_hook(lambda *_: calls.append(1))
    head.chunk_bytes = 1
    torch.testing.assert_close(head(*inputs), whole, atol=1e-6, rtol=1e-5)
    assert len(calls) == 5


def test_training_sees_all_classes_at_once() -> None:
    head = CostHead(HEAD)
    head.chunk_bytes = 1
    dense = torch.randn(2, HEAD.text_dim, 8, 8)
    assert head._classes_at_once(dense) is None
    with torch.no_grad():
        assert head._classes_at_once(dense) is None
        assert head.eval()._classes_at_once(dense) == 1


def test_more_images_and_larger_grids_leave_room_for_fewer_classes() -> None:
    params = HeadParams()
    few = classes_at_once(params, images=4, cells=24 * 24, budget=2**30)
    assert classes_at_once(params, images=1, cells=24 * 24, budget=2**30) in range(4 * few, 4 * few + 4)
    assert classes_at_once(params, images=1, cells=48 * 48, budget=2**30) in range(few, few + 2)
    assert classes_at_once(params, images=1000, cells=10_000, budget=2**30) == 1
