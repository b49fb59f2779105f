from __future__ import annotations

import torch
from torch.nn import functional as F

from mmovseg_geo.models.mmovseg.decoder import DecoderStage


def test_guidance_computed_once_per_image_equals_the_convolution_of_everything_concatenated() -> None:
    torch.manual_seed(0)
    stage = DecoderStage(16, 8, 6, 8)
    x, clip, dino = torch.randn(2, 3, 16, 4, 5), torch.randn(2, 6, 8, 10), torch.randn(2, 6, 8, 10)
    up = stage.up(x.flatten(0, 1))
    repeated = [guidance.repeat_interleave(3, dim=0) for guidance in (clip, dino)]
    expected = F.relu(stage.norm1(stage.conv1(torch.cat([up, *repeated], dim=1))))
    expected = F.relu(stage.norm2(stage.conv2(expected)))
    assert torch.allclose(stage(x, stage.guided(clip, dino)).flatten(0, 1), expected, atol=1e-5)


def test_group_norm_has_at_least_one_group() -> None:
    assert DecoderStage(16, 8, 6, 16).norm1.num_groups == 1
