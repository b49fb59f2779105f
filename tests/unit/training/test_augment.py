"""What is laid on chips: geometry for both sensors and labels alike, sensors that go missing, clouds that hide."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mmovseg_geo.training.augment import augmented
from mmovseg_geo.training.chips import UNKNOWN, Chips, packed_db, packed_reflectance
from mmovseg_geo.training.validation import UNDISTURBED

PLAIN = replace(UNDISTURBED, crop=32)


def chips(count: int = 6, size: int = 64, *, optical: bool = True, sar: bool = True) -> Chips:
    """Labels 0 and 1 in blocks of 16 pixels; bright in both sensors where the label is 1."""
    rows, cols = np.indices((size, size)) // 16
    labels = ((rows + cols) % 2).astype(np.uint8)
    level = labels.astype(np.float32)
    return Chips(
        np.repeat(packed_reflectance(np.stack([0.05 + 0.2 * level] * 3))[None], count, 0),
        np.repeat(packed_db(np.stack([-18 + 12 * level] * 2))[None], count, 0),
        np.repeat(labels[None], count, 0),
        np.full(count, 10, np.float32),
        np.full(count, optical),
        np.full(count, sar),
        np.zeros(count, bool),
    )


@pytest.mark.parametrize("zoom", [1.0, 1.7])
def test_sensors_and_labels_are_cut_turned_and_magnified_alike(zoom):
    batch = augmented([chips()], replace(PLAIN, zoom=zoom), np.random.default_rng(1))
    for picture in (batch.optical, batch.sar):
        bright = picture[:, 0] > picture[:, 0].mean((1, 2), keepdim=True)
        # Magnified edges are smooth, so that a few of their pixels fall on the other side.
        assert (bright == (batch.labels == 1)).float().mean() > 0.9


def test_magnified_chips_have_finer_pixels():
    rng = np.random.default_rng(2)
    sizes = torch.cat([augmented([chips()], replace(PLAIN, zoom=2.0), rng).gsd_m for _ in range(10)])
    assert sizes.min() < 7
    assert sizes.max() > 14


def test_chips_of_different_sizes_make_one_batch():
    batch = augmented([chips(2, 64), chips(3, 96, sar=False)], PLAIN, np.random.default_rng(3))
    assert batch.labels.shape == (5, 32, 32)
    assert batch.sar_valid.flatten(1).any(1).tolist() == [True, True, False, False, False]


def test_a_chip_loses_one_sensor_at_most():
    settings = replace(PLAIN, optical_only=0.5, sar_only=0.5)
    batch = augmented([chips(40)], settings, np.random.default_rng(4))
    seen = [valid.flatten(1).any(1) for valid in (batch.optical_valid, batch.sar_valid)]
    assert (seen[0] ^ seen[1]).all()
    assert 5 < seen[0].sum() < 35
    only_radar = augmented([chips(4, optical=False)], settings, np.random.default_rng(4))
    assert only_radar.optical is None
    assert only_radar.sar_valid.all()


def test_nothing_is_asked_under_opaque_clouds_unless_radar_sees_through():
    clouds = {"clouds": 1.0}
    alone = augmented([chips(20)], replace(PLAIN, optical_only=1.0, **clouds), np.random.default_rng(5))
    both = augmented([chips(20)], replace(PLAIN, **clouds), np.random.default_rng(5))
    assert (alone.labels == UNKNOWN).float().mean() > 0.05
    assert (both.labels != UNKNOWN).all()


def test_misleading_colors_need_radar_beside_them():
    settings = replace(PLAIN, misleading=1.0)
    usual = augmented([chips(8)], PLAIN, np.random.default_rng(6)).optical
    far_off = augmented([chips(8)], settings, np.random.default_rng(6)).optical
    alone = augmented([chips(8)], replace(settings, optical_only=1.0), np.random.default_rng(6)).optical
    assert (far_off - usual).abs().mean() > 15
    assert (alone - usual).abs().mean() < 15


def test_one_band_of_radar_stands_for_both():
    batch = augmented([chips(4)], replace(PLAIN, single_band=1.0), np.random.default_rng(7))
    assert torch.equal(batch.sar[:, 0], batch.sar[:, 1])


def of_other_places(count: int = 8, *, gsd_m: float = 10.0) -> Chips:
    """Each of one color, with a distance of its own."""
    made = replace(chips(count), gsd_m=10 * (np.float32(gsd_m) / 10) ** np.arange(count, dtype=np.float32))
    made.optical[:] = np.linspace(40, 130, count, dtype=np.uint8)[:, None, None, None]
    return made


LESS = np.arange(256, dtype=np.uint8)
LESS[:2] = 7, 8


def test_beside_an_outdated_image_radar_alone_says_what_is_true():
    settings = replace(PLAIN, outdated=1.0)
    usual, other = (augmented([of_other_places()], each, np.random.default_rng(8), LESS) for each in (PLAIN, settings))
    changed = (other.optical - usual.optical).abs().amax(1) > 2
    assert torch.equal(changed, torch.isin(other.labels, torch.tensor([7, 8])))
    shares = changed.float().mean((1, 2))
    assert (shares == 1).any()
    assert ((shares > 0.02) & (shares < 0.98)).any()
    assert torch.equal(other.labels[~changed], usual.labels[~changed])


def test_radar_by_itself_gets_an_image_of_another_place():
    parts = [chips(4), chips(4, optical=False)]
    batch = augmented(parts, replace(PLAIN, outdated=1.0), np.random.default_rng(9), LESS)
    assert batch.optical_valid[4:].all()
    assert batch.optical[4:].any()
    assert batch.labels[4:].min() >= 7


def test_an_image_of_another_distance_does_not_stand_in():
    settings = replace(PLAIN, outdated=1.0)
    batch = augmented([of_other_places(gsd_m=50)], settings, np.random.default_rng(10), LESS)
    assert batch.labels.max() == 1
