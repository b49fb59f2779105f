from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from mmovseg_geo.models.mmovseg.build import build
from mmovseg_geo.models.mmovseg.params import MMOVSegParams
from mmovseg_geo.models.mmovseg.variants import mmovseg_vitb16, mmovseg_vitl14


@pytest.mark.parametrize(
    ("variant", "millions", "head_millions"), [(mmovseg_vitb16, 331.96, 4.04), (mmovseg_vitl14, 1049.5, 4.36)]
)
def test_named_variants_have_the_published_number_of_parameters(
    variant: Callable[[], MMOVSegParams], millions: float, head_millions: float
) -> None:
    with torch.device("meta"):
        network = build(variant())
    assert sum(weight.numel() for weight in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)
    assert sum(weight.numel() for weight in network.head.parameters()) / 1e6 == pytest.approx(head_millions, abs=0.006)
