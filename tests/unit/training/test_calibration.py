"""Statistics of batch norms at the end of training."""

from __future__ import annotations

import copy

import pytest
import torch

from mmovseg_geo.models.mmovseg.compact import build, mmovseg_compact
from mmovseg_geo.training.augment import TrainingBatch
from mmovseg_geo.training.calibration import refresh_norms


def a_batch():
    torch.manual_seed(0)
    seen = torch.ones(2, 64, 64)
    images = 255 * torch.rand(2, 3, 64, 64), 255 * torch.rand(2, 2, 64, 64)
    batch = TrainingBatch(*images, seen, seen, torch.zeros(2, 64, 64).long(), torch.full((2,), 10.0))
    return batch, torch.nn.functional.normalize(torch.randn(2, 3, 128), dim=-1)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_norms_move_by_the_share_and_weights_stay(share):
    network = build(mmovseg_compact()).eval()
    before = copy.deepcopy(network.state_dict())
    whole = copy.deepcopy(network)
    refresh_norms(whole, [a_batch()], 1.0)
    refresh_norms(network, [a_batch()], share)
    moved = [name for name in before if name.endswith(("running_mean", "running_var"))]
    assert any(not torch.equal(before[name], whole.state_dict()[name]) for name in moved)
    for name, value in network.state_dict().items():
        expected = torch.lerp(before[name], whole.state_dict()[name], share) if name in moved else before[name]
        torch.testing.assert_close(value, expected)
