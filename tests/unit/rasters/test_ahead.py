"""Windows of a scene read ahead."""

from __future__ import annotations

import threading
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest

from mmovseg_geo.errors import SceneError
from mmovseg_geo.rasters.ahead import Reading, read_ahead
from mmovseg_geo.tiles import Tile, Tiling

SHAPE = (100, 230)
TILING = Tiling(32, 8)


def a_scene(fails_at=10**9):
    pixels = np.random.default_rng(0).random((3, *SHAPE), np.float32)
    reads = []

    def read(window):
        reads.append((window, threading.current_thread().name))
        if window.row >= fails_at:
            raise SceneError("the file ends here")
        tile = np.zeros((3, *window.shape), np.float32)
        part = pixels[(slice(None), *window.slices)]
        tile[:, : part.shape[1], : part.shape[2]] = part
        return Tile(window, tile, tile[:2], tile[0] > 0, tile[0] > 0.5, 10.0)

    return SimpleNamespace(read=read, reads=reads, pixels=pixels)


@pytest.mark.parametrize("threads", [1, 3])
def test_tiles_are_those_that_are_read_one_by_one(threads):
    windows = list(TILING.windows(SHAPE))
    scene, one_by_one = a_scene(), a_scene()
    tiles = list(read_ahead(scene, windows, Reading(threads, run=4)))
    assert [tile.window for tile in tiles] == windows
    for tile in tiles:
        expected = one_by_one.read(tile.window)
        for name in ("optical", "sar", "optical_valid", "sar_valid"):
            np.testing.assert_array_equal(getattr(tile, name), getattr(expected, name))


def test_neighbors_are_read_at_once():
    windows = list(TILING.windows(SHAPE))
    scene = a_scene()
    list(read_ahead(scene, windows, Reading(2, run=4)))
    rows, columns = len(TILING.starts(SHAPE[0])), len(TILING.starts(SHAPE[1]))
    assert len(scene.reads) == rows * -(-columns // 4)


@pytest.mark.parametrize("threads", [3, 8])
def test_a_thread_reads_the_same_columns_of_every_row(threads):
    """Else what two rows share would be fetched by several threads, each with a file of its own."""
    scene = a_scene()
    list(read_ahead(scene, list(TILING.windows(SHAPE)), Reading(threads, run=4)))
    readers = {}
    for window, thread in scene.reads:
        readers.setdefault(window.col, set()).add(thread)
    assert all(len(threads) == 1 for threads in readers.values())


def test_a_read_that_fails_is_raised_in_its_place():
    tiles = read_ahead(a_scene(fails_at=40), list(TILING.windows(SHAPE)), Reading(2, run=4))
    first_rows = list(islice(tiles, 20))
    assert max(tile.window.row for tile in first_rows) < 40
    with pytest.raises(SceneError, match="ends here"):
        list(tiles)


def test_who_stops_early_leaves_no_thread():
    tiles = read_ahead(a_scene(), list(TILING.windows(SHAPE)), Reading(2, run=4))
    next(tiles)
    tiles.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mmovseg-read")]


def both_sensors(fails=False):
    """A scene whose two sensors can only be read at the same time."""
    meeting = threading.Barrier(2, timeout=20)

    def optical(window):
        meeting.wait()
        return np.full((3, *window.shape), window.row), np.ones(window.shape, bool)

    def sar(window):
        meeting.wait()
        if fails and window.row:
            raise SceneError("the radar file ends here")
        return np.full((2, *window.shape), window.col), np.ones(window.shape, bool)

    def tile(window, seen, other):
        return Tile(window, seen[0], other[0], seen[1], other[1], 10.0)

    return SimpleNamespace(sensors={"optical", "sar"}, read_optical=optical, read_sar=sar, tile=tile)


def test_from_servers_both_sensors_are_read_at_the_same_time():
    windows = list(TILING.windows(SHAPE))
    tiles = list(read_ahead(both_sensors(), windows, Reading(1, run=4, apart=True)))
    assert [tile.window for tile in tiles] == windows
    assert all((tile.optical == tile.window.row).all() for tile in tiles)
    assert all((tile.sar <= tile.window.col).all() for tile in tiles)


def test_a_sensor_that_fails_apart_is_raised_in_its_place_and_leaves_no_thread():
    tiles = read_ahead(both_sensors(fails=True), list(TILING.windows(SHAPE)), Reading(1, run=4, apart=True))
    with pytest.raises(SceneError, match="radar file ends here"):
        list(tiles)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mmovseg-read")]
