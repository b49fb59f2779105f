"""Images on a web server: read ahead, through faults, and never two versions of one file."""

from __future__ import annotations

import os

import numpy as np
import pytest

from mmovseg_geo.rasters import source
from tests.ranges import serving

WORDS = ("--classes", "dark,middle,bright", "--tile-size", "64", "--overlap", "16", "--batch-size", "3", "-q")
PLAIN = ("--no-polygons", "--no-preview")


@pytest.fixture
def served(here, write, monkeypatch):
    """A server of a folder with a scene of several rows of tiles."""
    rng = np.random.default_rng(3)
    tiled = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "DEFLATE"}
    write("web/s2.tif", rng.integers(1, 256, (3, 500, 300), np.uint8), **tiled)
    write("web/s1.tif", rng.normal(-12, 3, (2, 500, 300)).astype(np.float32), **tiled)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(source, "PAUSES_S", (0.01, 0.02, 0.05))
    with serving(here / "web") as server:
        yield server


def maps(here, folder):
    return {path.name: path.read_bytes() for path in (here / folder).iterdir() if not path.name.endswith("_run.json")}


def test_images_on_a_server_are_read_ahead_and_give_the_same_map(here, served, run):
    served.delay_s = 0.05
    assert run("segment", "web/s2.tif", "web/s1.tif", *WORDS, *PLAIN, "-o", "local").exit_code == 0
    remote = [f"{served.address}/{name}" for name in ("s2.tif", "s1.tif")]
    result = run("segment", *remote, *WORDS, *PLAIN, "-o", "remote")
    assert result.exit_code == 0, result.output
    assert maps(here, "remote") == maps(here, "local")
    assert served.most >= 4


def test_connections_that_are_dropped_are_tried_again(here, served, run):
    assert run("segment", "web/s2.tif", *WORDS, *PLAIN, "-o", "local").exit_code == 0
    served.drop = 3
    result = run("segment", f"/vsicurl/{served.address}/s2.tif", *WORDS, *PLAIN, "-o", "remote")
    assert result.exit_code == 0, result.output
    assert served.drop == 0
    assert maps(here, "remote") == maps(here, "local")


def test_a_server_that_drops_everything_is_an_error(here, served, run):
    served.drop = 10**6
    result = run("segment", f"{served.address}/s2.tif", *WORDS, *PLAIN, "-o", "remote")
    assert result.exit_code == 1
    assert "s2.tif: cannot be read" in result.stderr
    assert not (here / "remote").exists()


@pytest.mark.parametrize("place", ["web/", "{address}/"])
def test_a_file_that_changes_underneath_is_an_error(here, served, run, monkeypatch, place):
    from mmovseg_geo import maps as rooms

    segment = rooms.segment

    def changing(*arguments, **settings):
        labels = segment(*arguments, **settings)
        os.utime(here / "web/s2.tif", ns=(1, 1))
        return labels

    monkeypatch.setattr(rooms, "segment", changing)
    result = run("segment", place.format(address=served.address) + "s2.tif", *WORDS, *PLAIN, "-o", "map")
    assert result.exit_code == 1
    assert "s2.tif changed while it was read" in result.stderr
    assert not (here / "map/s2_labels.tif").exists()


def test_a_signature_of_an_address_is_no_other_input(here, served, run):
    assert run("segment", f"{served.address}/s2.tif?sig=a", *WORDS, *PLAIN, "-o", "map").exit_code == 0
    again = ("segment", f"{served.address}/s2.tif?sig=b", *WORDS, *PLAIN, "-o", "map", "--resume")
    assert run(*again).exit_code == 0
    os.utime(here / "web/s2.tif", ns=(1, 1))
    result = run(*again)
    assert result.exit_code == 1
    assert "other inputs" in result.stderr
