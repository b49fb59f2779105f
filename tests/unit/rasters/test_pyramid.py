"""Overviews that grow with the rows of a raster."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmovseg_geo.rasters.pyramid import Pyramid, halved, level_shapes


def squares(pixels: np.ndarray):
    """The up to four pixels of each pixel of the next level."""
    for row in range(0, pixels.shape[0], 2):
        yield [pixels[row : row + 2, col : col + 2].ravel().tolist() for col in range(0, pixels.shape[1], 2)]


def commonest(values: list[int]) -> int:
    seen = [value for value in values if value != 255]
    return Counter(seen).most_common(1)[0][0] if seen else 255  # of equals the one that came first


def mean(values: list[int]) -> int:
    seen = [value for value in values if value != 255]
    return int(sum(seen) / len(seen) + 0.5) if seen else 255


@pytest.mark.parametrize(("resampling", "expected"), [("MODE", commonest), ("AVERAGE", mean)])
@pytest.mark.parametrize("shape", [(8, 6), (7, 9), (1, 1)])
def test_a_level_is_the_commonest_value_or_the_mean(resampling, expected, shape):
    pixels = np.random.default_rng(0).choice([1, 2, 3, 40, 255], shape).astype(np.uint8)
    wanted = [[expected(four) for four in row] for row in squares(pixels)]
    assert halved(pixels, resampling, 255).tolist() == wanted


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 60), st.integers(1, 40), st.lists(st.integers(1, 60), max_size=8))
def test_levels_do_not_depend_on_how_rows_arrive(height, width, heights):
    pixels = np.random.default_rng(1).integers(0, 256, (height, width)).astype(np.uint8)
    shapes = level_shapes((height, width), 4)
    expected, level = [], pixels
    for _ in shapes:
        level = halved(level, "MODE", 255)
        expected.append(level)
    parts: list[list[np.ndarray]] = [[] for _ in shapes]
    pyramid = Pyramid(len(shapes), "MODE", 255, lambda level, rows: parts[level].append(rows))
    row = 0
    for step in [*heights, height]:
        rows = pixels[row : row + step]
        if len(rows):
            row += len(rows)
            pyramid.add(rows, last=row == height)
    for found, wanted, shape in zip(parts, expected, shapes, strict=True):
        assert wanted.shape == shape
        np.testing.assert_array_equal(np.concatenate(found), wanted)


def test_sixteen_bits_are_halved_as_well():
    pixels = np.array([[300, 300], [4, 65535]], np.uint16)
    assert halved(pixels, "MODE", 65535).tolist() == [[300]]
