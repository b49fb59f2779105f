"""Windows that cover a scene, and the pixels of one window or several."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmovseg_geo.errors import ConfigError
from mmovseg_geo.grid import Window
from mmovseg_geo.tiles import Batch, Tile, Tiling

SIDES = st.integers(1, 70)


@st.composite
def tilings(draw) -> Tiling:
    size = draw(st.integers(1, 24))
    return Tiling(size, draw(st.integers(0, size - 1)))


def tile(optical_valid, sar_valid) -> Tile:
    return Tile(
        Window(0, 0, 1, 2),
        None if optical_valid is None else np.zeros((3, 1, 2), np.float32),
        None if sar_valid is None else np.zeros((2, 1, 2), np.float32),
        None if optical_valid is None else np.array([optical_valid]),
        None if sar_valid is None else np.array([sar_valid]),
        10.0,
    )


def test_last_window_slides_back_to_stay_inside():
    assert Tiling(4, 1).starts(9) == [0, 3, 5]


def test_no_window_is_read_twice_where_tiles_fit():
    assert Tiling(4, 0).starts(8) == [0, 4]


def test_a_short_side_has_one_window_that_reaches_beyond():
    assert list(Tiling(8, 2).windows((3, 5))) == [Window(0, 0, 8, 8)]


@given(tilings(), SIDES, SIDES)
def test_windows_cover_every_pixel(tiling, height, width):
    covered = np.zeros((height, width), bool)
    for window in tiling.windows((height, width)):
        covered[window.slices] = True
    assert covered.all()


@given(tilings(), SIDES, SIDES)
def test_windows_come_row_by_row_and_have_one_size(tiling, height, width):
    windows = list(tiling.windows((height, width)))
    places = [(window.row, window.col) for window in windows]
    assert places == sorted(set(places))
    assert {window.shape for window in windows} == {(tiling.size, tiling.size)}
    assert tiling.count((height, width)) == len(windows)


@given(tilings(), SIDES)
def test_neighbors_overlap_at_least_as_far_as_asked(tiling, side):
    starts = tiling.starts(side)
    assert all(one + tiling.size - other >= tiling.overlap for one, other in pairwise(starts))


@pytest.mark.parametrize(("size", "overlap"), [(0, 0), (-1, 0), (8, 8), (8, -1)])
def test_tiles_that_cannot_be_are_refused(size, overlap):
    with pytest.raises(ConfigError):
        Tiling(size, overlap)


def test_a_pixel_is_valid_where_either_sensor_saw_it():
    assert tile([True, False], [False, False]).valid.tolist() == [[True, False]]
    assert tile([True, False], [False, True]).valid.tolist() == [[True, True]]
    assert tile(None, [False, True]).valid.tolist() == [[False, True]]


def test_a_batch_stacks_tiles_and_keeps_absent_sensors_absent():
    batch = Batch.stack([tile([True, True], None), tile([True, False], None)])
    assert len(batch) == 2
    assert batch.optical.shape == (2, 3, 1, 2)
    assert batch.sar is None
    assert batch.valid.tolist() == [[[True, True]], [[True, False]]]


def test_tiles_of_a_small_scene_are_no_larger_than_it_needs():
    assert Tiling(512, 64).fitted((200, 224)) == Tiling(224, 64)
    assert Tiling(512, 64).fitted((200, 225)) == Tiling(256, 64)
    assert Tiling(512, 64).fitted((20, 20)) == Tiling(32, 31)
    assert Tiling(512, 64).fitted((200, 5000)) == Tiling(512, 64)
