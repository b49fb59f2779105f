from __future__ import annotations

import torch

from mmovseg_geo.models.mmovseg.preprocessing import (
    MEAN,
    as_rgb,
    normalize,
    pad_to_multiple,
    resize,
    scores_on_tile,
)


def test_the_mean_color_becomes_zero() -> None:
    image = torch.tensor(MEAN).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    assert torch.allclose(normalize(image), torch.zeros(1, 3, 2, 2))


def test_sar_is_its_first_band_three_times() -> None:
    sar = torch.arange(2.0).view(1, 2, 1, 1)
    assert as_rgb(sar).flatten().tolist() == [0, 0, 0]


def test_padding_goes_right_and_below() -> None:
    padded = pad_to_multiple(torch.ones(1, 3, 33, 64))
    assert padded.shape == (1, 3, 64, 64)
    assert padded[0, 0, :33].eq(1).all()
    assert padded[0, 0, 33:].eq(0).all()


def test_a_tile_of_the_right_size_is_not_copied() -> None:
    image = torch.ones(1, 3, 8, 8)
    assert resize(image, (8, 8)) is image


def test_scores_over_the_padding_are_cut_off() -> None:
    logits = torch.full((1, 1, 8, 8), -50.0)
    logits[..., 4:, :] = 50.0
    scores = scores_on_tile(logits, (14, 32), padded=(32, 32))
    assert scores.shape == (1, 1, 14, 32)
    assert scores[..., :13, :].max() < 0.1


def test_scores_are_averaged_as_probabilities_not_as_logits() -> None:
    logits = torch.tensor([-100.0, 1.0]).view(1, 1, 1, 2)
    middle = scores_on_tile(logits, (1, 6))[0, 0, 0, 2:4].mean()
    assert torch.isclose(middle, torch.sigmoid(torch.tensor(1.0)) / 2)
