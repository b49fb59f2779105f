"""Finished strips on disk."""

from __future__ import annotations

import multiprocessing
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmovseg_geo.blocks import Blocks, Strip
from mmovseg_geo.errors import OutputError


def a_strip(row=0, height=8, width=5, dtype=np.uint8, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, np.iinfo(dtype).max, (height, width), dtype, endpoint=True)
    return Strip(row, labels, rng.integers(0, 101, (height, width), np.uint8))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_strip_comes_back(tmp_path, dtype):
    blocks = Blocks(tmp_path / "strips")
    kept = a_strip(16, dtype=dtype)
    blocks.put(kept)
    found = blocks.get(16)
    np.testing.assert_array_equal(found.labels, kept.labels)
    np.testing.assert_array_equal(found.confidence, kept.confidence)
    assert (found.row, found.bottom, found.labels.dtype) == (16, 24, dtype)
    assert blocks.get(0) is None


def test_what_is_not_there_is_a_gap(tmp_path):
    blocks = Blocks(tmp_path)
    for row in (8, 24):
        blocks.put(a_strip(row))
    assert blocks.rows() == [(8, 16), (24, 32)]
    assert list(blocks.missing(40)) == [(0, 8), (16, 24), (32, 40)]
    assert [blocks.gap(row, 40) for row in (0, 16, 32)] == [8, 24, 40]


def test_without_a_folder_everything_is_missing(tmp_path):
    assert list(Blocks(tmp_path / "none").missing(40)) == [(0, 40)]
    assert Blocks(tmp_path / "none").get(0) is None


@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255), cut=st.booleans())
def test_a_torn_strip_is_not_there(tmp_path_factory, place, flip, cut):
    blocks = Blocks(tmp_path_factory.mktemp("strips"))
    blocks.put(a_strip())
    (path,) = blocks.folder.iterdir()
    content = bytearray(path.read_bytes())
    at = int(place * len(content))
    if cut:
        del content[at:]
    else:
        content[at] ^= flip
    path.write_bytes(content)
    assert blocks.get(0) is None
    assert blocks.rows() == []


def test_a_strip_under_another_name_is_not_there(tmp_path):
    blocks = Blocks(tmp_path)
    blocks.put(a_strip(0))
    (path,) = tmp_path.iterdir()
    path.rename(tmp_path / "00000008-8.strip")
    assert blocks.get(8) is None


@pytest.mark.skipif(os.name == "nt", reason="file size limits are POSIX")
def test_a_full_disk_leaves_no_half_strip(tmp_path):
    """A limit on the size of files stands for the full disk."""
    import resource

    process = multiprocessing.get_context("spawn")
    with process.Pool(1) as pool:
        pool.apply(resource.setrlimit, (resource.RLIMIT_FSIZE, (100, 100)))
        with pytest.raises(OutputError, match="has space"):
            pool.apply(Blocks(tmp_path).put, (a_strip(height=64, width=64),))
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_no_folder_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file"):
        Blocks(tmp_path / "file" / "strips").put(a_strip())
