"""A run keeps to the memory it may use, as the operating system counts it."""

from __future__ import annotations

import os
import re
import sys

import numpy as np
import pytest

from mmovseg_geo.settings import memory

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the peak of another process is counted on POSIX only")


def peak_bytes(*words: object) -> tuple[int, int]:
    """Exit code of the command line in a process of its own, and the most memory it held."""
    command = [sys.executable, "-c", "from mmovseg_cli.app import main; main()", *map(str, words)]
    pid = os.posix_spawn(
        command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    )
    _, status, usage = os.wait4(pid, 0)
    return os.waitstatus_to_exitcode(status), usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def test_a_run_is_refused_with_the_smallest_memory_and_keeps_to_it(here, write, run):
    rng = np.random.default_rng(0)
    optical = rng.integers(1, 256, (3, 700, 3000), np.uint8)
    write("s2.tif", optical, tiled=True, blockxsize=256, blockysize=256)
    write("s1.tif", rng.normal(-12, 3, (2, 700, 3000)).astype(np.float32), tiled=True, blockxsize=256, blockysize=256)
    words = ("segment", "s2.tif", "s1.tif", "--classes", "dark,bright", "-o", "map", "--no-polygons")
    refused = run(*words, "--memory", "100MB")
    assert refused.exit_code == 1
    assert not (here / "map").exists()
    told = re.search(r"needs --memory (\S+) at least", refused.stderr)
    assert told, refused.stderr
    # This process holds more than one that only runs the command.
    code, peak = peak_bytes(*words, "--memory", told[1], "--model", "threshold", "-q")
    assert code == 0
    assert peak <= memory(told[1])
