"""Where a score of one half lies at the end of training."""

from __future__ import annotations

import pytest
import torch

from mmovseg_geo.models.mmovseg.compact import build, mmovseg_compact
from mmovseg_geo.models.mmovseg.network import MMOVSeg
from mmovseg_geo.training.calibration import OFFSETS, center_scores


class Judge:
    """Likes one offset best."""

    def __init__(self, best: float) -> None:
        self.best = best

    def mean_iou(self, network: MMOVSeg, offsets: tuple[float, ...]) -> list[float]:
        return [-abs(offset - self.best) for offset in offsets]


@pytest.mark.parametrize("best", [-1.0, 0.0, 0.75])
def test_logits_move_to_what_is_judged_best(best: float) -> None:
    network = build(mmovseg_compact())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert center_scores(network, Judge(best)) == best
    for name, value in network.state_dict().items():
        moved = best if name == "head.decoder.head.bias" else 0.0
        torch.testing.assert_close(value, before[name] + moved if moved else before[name])


def test_staying_is_among_the_choices() -> None:
    assert 0.0 in OFFSETS
