"""Windows over an image, and what is made of the scores of words."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mmovseg_geo.models.segearth.scoring import class_values, word_scores
from mmovseg_geo.models.segearth.windows import pad_around, starts, windowed


@given(st.integers(1, 300), st.integers(1, 100), st.integers(1, 100))
def test_windows_cover_a_side_and_stay_on_it(length: int, window: int, stride: int) -> None:
    stride = min(stride, window)
    found = starts(length, window, stride)
    assert found[0] == 0
    assert max(found) + min(window, length) == length
    assert all(0 < step <= stride for step in np.diff(found))


def test_a_known_map_comes_back_from_its_windows() -> None:
    image = torch.randn(2, 3, 50, 37)
    torch.testing.assert_close(windowed(lambda part: part[:, :2], image, 16, 7), image[:, :2])


def test_windows_count_alike_where_they_overlap() -> None:
    calls: list[int] = []

    def number(part: Tensor) -> Tensor:
        calls.append(0)
        return torch.full((1, 1, *part.shape[-2:]), float(len(calls)))

    assert windowed(number, torch.zeros(1, 3, 4, 6), 4, 2)[0, 0, 0].tolist() == [1, 1, 1.5, 1.5, 2, 2]


@pytest.mark.parametrize("window", [0, 64])
def test_an_image_within_a_window_is_seen_once_and_whole(window: int) -> None:
    seen: list[tuple[int, ...]] = []

    def note(part: Tensor) -> Tensor:
        seen.append(tuple(part.shape[-2:]))
        return part

    windowed(note, torch.zeros(1, 3, 40, 50), window, 32)
    assert seen == [(40, 50)]


def test_padding_lies_around_the_image_and_can_be_cut_off_again() -> None:
    image = torch.randn(1, 3, 70, 65)
    padded, place = pad_around(image, 16)
    assert padded.shape[-2:] == (80, 80)
    assert not padded[..., :5, :].any()
    assert not padded[..., :, :7].any()
    assert torch.equal(padded[place], image)


def test_scores_are_cosines_less_what_the_image_says_as_a_whole() -> None:
    words = torch.eye(2)
    pixels = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    cls = torch.tensor([[2.0, 0.0]])
    assert word_scores(pixels, cls, words, 0.0).flatten().tolist() == pytest.approx([0.6, 0.8])
    assert word_scores(pixels, cls, words, -0.3).flatten().tolist() == pytest.approx([0.3, 0.8])


def test_a_pixel_without_features_scores_zero() -> None:
    assert word_scores(torch.zeros(1, 2, 1, 1), None, torch.eye(2), 0.0).tolist() == [[[[0.0]], [[0.0]]]]


def test_the_best_word_of_a_class_counts_and_all_words_compete() -> None:
    scores = torch.tensor([0.0, 0.02, 0.01]).view(3, 1, 1)
    shares = np.exp([0.0, 1.0, 0.5]) / np.exp([0.0, 1.0, 0.5]).sum()
    values = class_values(scores, [2, 1], 50)
    assert values.flatten().tolist() == pytest.approx([shares[1], shares[2]])
