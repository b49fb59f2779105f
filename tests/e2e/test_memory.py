"""A run keeps to the memory it may use, as the process itself counts it."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
import rasterio

from mmovseg_geo.settings import memory

COUNTED = """
from mmovseg_cli.app import main
from mmovseg_geo.machine import most_resident_bytes
try:
    main()
finally:
    open("peak", "w").write(str(most_resident_bytes()))
"""


def in_own_process(here, *words: object) -> tuple[int, str, int]:
    """Exit code, messages and the most memory of the command line in a process of its own."""
    command = [sys.executable, "-c", COUNTED, *map(str, words)]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr, int((here / "peak").read_text())


def smallest(here, *words: object) -> str:
    """The memory that a run needs at least, as its refusal says."""
    code, messages, _ = in_own_process(here, *words, "--memory", "60MB")
    assert code == 1
    assert not (here / "map").exists()
    told = re.search(r"needs --memory (\S+) at least", messages)
    assert told, messages
    return told[1]


@pytest.fixture
def two_sensors(write):
    rng = np.random.default_rng(0)
    blocks = {"tiled": True, "blockxsize": 256, "blockysize": 256}
    write("s2.tif", rng.integers(1, 256, (3, 700, 3000), np.uint8), **blocks)
    write("s1.tif", rng.normal(-12, 3, (2, 700, 3000)).astype(np.float32), **blocks)
    return ("s2.tif", "s1.tif")


@pytest.fixture
def wide_and_sparse(here):
    """A low strip of a scene that is 24000 columns wide, of which one block in six holds data."""
    blocks = {
        "tiled": True,
        "blockxsize": 512,
        "blockysize": 512,
        "compress": "DEFLATE",
        "sparse_ok": True,
        "nodata": 0,
    }
    size = {"width": 24000, "height": 700, "count": 3, "dtype": "uint8"}
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 300000, 0, -10, 5300000)}
    smooth = np.add.outer(np.arange(512), np.arange(512)) // 8 % 255 + 1
    with rasterio.open(here / "wide.tif", "w", driver="GTiff", **size, **blocks, **place) as target:
        for col in range(0, 24000 - 512, 6 * 512):
            block = np.broadcast_to(smooth, (3, 512, 512)).astype(np.uint8)
            target.write(block, window=rasterio.windows.Window(col, 0, 512, 512))
    return ("wide.tif",)


@pytest.mark.parametrize(
    ("scene", "options"),
    [("two_sensors", ("--no-polygons",)), ("wide_and_sparse", ("--tile-size", 512, "--overlap", 64))],
)
def test_a_run_is_refused_with_the_smallest_memory_and_keeps_to_it(here, request, scene, options):
    images = request.getfixturevalue(scene)
    words = ("segment", *images, "--classes", "dark,middle,bright", "-o", "map", "--model", "threshold", "-q", *options)
    least = smallest(here, *words)
    code, messages, peak = in_own_process(here, *words, "--memory", least)
    assert code == 0, messages
    assert peak <= memory(least)
    # What is promised is not far from what is needed; a system that takes back idle pages makes that look like less.
    assert memory(least) < 2.5 * peak
