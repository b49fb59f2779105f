"""What is laid on chips in a training step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mmovseg_geo.training.augment import Augmentation, TrainingBatch, augmented
from mmovseg_geo.training.chips import UNKNOWN, Chips, packed_db, packed_reflectance
from mmovseg_geo.training.validation import PLAIN, UNDISTURBED

SIZE, NUM = 64, 6


def chips(*, has_sar: bool = True) -> Chips:
    """Chips of one label, with a dark left and a bright right half."""
    rng = np.random.default_rng(0)
    reflectance = np.broadcast_to(np.where(np.arange(SIZE) < SIZE // 2, 0.03, 0.2), (NUM, 3, SIZE, SIZE))
    db = rng.normal(-12, 1, (NUM, 2, SIZE, SIZE))
    flags = np.ones(NUM, bool)
    return Chips(
        packed_reflectance(reflectance.astype(np.float32)),
        packed_db(db.astype(np.float32)),
        np.full((NUM, SIZE, SIZE), 7, np.uint8),
        np.full(NUM, 10, np.float32),
        flags,
        flags & has_sar,
        ~flags,
    )


def shown(given: Chips, **settings: float) -> TrainingBatch:
    plain = Augmentation(crop=SIZE, **{**PLAIN, **UNDISTURBED, **settings})
    return augmented(given, plain, np.random.default_rng(5))


def test_nothing_is_asked_under_opaque_clouds_where_only_the_optical_image_is_seen() -> None:
    labels = shown(chips(), clouds=1.0, optical_only=1.0).labels
    hidden = (labels == UNKNOWN).float().mean()
    assert 0.02 < hidden < 0.8
    assert set(labels.unique().tolist()) == {7, UNKNOWN}


@pytest.mark.parametrize("sensors", [{}, {"sar_only": 1.0}])
def test_clouds_hide_nothing_from_radar(sensors: dict[str, float]) -> None:
    assert (shown(chips(), clouds=1.0, **sensors).labels == 7).all()


def test_colors_mislead_only_where_radar_can_answer() -> None:
    def moved(given: Chips, **sensors: float) -> torch.Tensor:
        plain, misled = (shown(given, misleading=share, **sensors).optical for share in (0.0, 1.0))
        assert plain is not None
        assert misled is not None
        return (plain - misled).abs().amax((1, 2, 3))

    assert (moved(chips()) > 20).sum() >= NUM - 2
    assert (moved(chips(has_sar=False)) == 0).all()
    assert (moved(chips(), optical_only=1.0) == 0).all()


def test_a_cloudy_chip_gets_no_second_clouds() -> None:
    cloudy = replace(chips(), has_clouds=np.ones(NUM, bool))
    assert torch.equal(shown(cloudy, clouds=1.0).optical, shown(cloudy, clouds=0.0).optical)  # type: ignore[arg-type]
