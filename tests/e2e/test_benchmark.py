"""`mmovseg benchmark`: one table of ways that make the same map."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest

from mmovseg_geo.benchmark import ways
from mmovseg_geo.models import load_segmenter
from mmovseg_geo.rasters.labels import read_band
from mmovseg_geo.rasters.scene import open_scene
from mmovseg_geo.tiles import Tiling

LIGHT = ("--model", "threshold", "--classes", "dark,bright")


def test_a_simulated_scene_gives_figures_of_every_way(run):
    result = run("benchmark", "--side", 150, "--vs", "loop", *LIGHT, "--tile-size", 64, "--overlap", 16, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert list(told["ways"]) == ["model alone", "mmovseg", "loop"]
    assert (told["shape"], told["tiles"], told["classes"]) == ([150, 150], 9, 2)
    for figures in told["ways"].values():
        assert figures["wall_s"] > 0
        assert figures["cpu_s"] > 0
        assert figures["peak_mb"] is None or figures["peak_mb"] > 20
    assert told["ways"]["mmovseg"]["same_labels"] == 1
    assert told["ways"]["loop"]["same_labels"] > 0.99


def test_a_scene_of_ones_own_gives_a_table(run, scene):
    result = run("benchmark", *scene, *LIGHT)
    assert result.exit_code == 0, result.output
    heading, columns, *rows = result.stdout.splitlines()
    assert "64 x 64 pixels, 2 classes, 1 tiles of 64" in heading
    assert "wall s" in columns
    assert [row.split("  ")[0] for row in rows] == ["model alone", "mmovseg"]


def test_what_cannot_be_measured_is_refused_before_anything_runs(refused, monkeypatch):
    assert "'monia' is unknown. Did you mean monai?" in refused("benchmark", "--vs", "monia")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    message = refused("benchmark", "--vs", "loop,monai")
    assert "needs the package monai" in message
    assert 'pip install "mmovseg-geo[bench]"' in message
    assert "no such file" in refused("benchmark", "missing.tif", *LIGHT).lower()


@pytest.mark.parametrize("way", ["loop", pytest.param("monai", marks=pytest.mark.skipif(
    importlib.util.find_spec("monai") is None, reason="MONAI is not installed: pip install .[bench]"))])  # fmt: skip
def test_ways_of_others_make_our_map(way, scene, here):
    segmenter = load_segmenter("threshold", "dark,bright")
    with open_scene(*scene) as opened:
        for name in ("mmovseg", way):
            ways.WAYS[name](opened, segmenter, here / f"{name}.tif", Tiling(32, 8), 3)
    assert (read_band(here / "mmovseg.tif") == read_band(here / f"{way}.tif")).all()


@pytest.mark.skipif(importlib.util.find_spec("monai") is None, reason="MONAI is not installed: pip install .[bench]")
def test_monai_maps_with_a_network(scene, here):
    segmenter = load_segmenter(classes="water,forest", device="cpu")
    with open_scene(*scene) as opened:
        for name in ("mmovseg", "monai"):
            ways.WAYS[name](opened, segmenter, here / f"{name}.tif", Tiling(32, 8), 3)
    assert (read_band(here / "mmovseg.tif") == read_band(here / "monai.tif")).mean() > 0.99


@pytest.mark.parametrize("shape", [(20, 20), (33, 64), (100, 47)])
@pytest.mark.parametrize("overlap", [0, 5, 8])
def test_the_middles_of_tiles_cover_a_scene(shape, overlap):
    tiling = Tiling(32, overlap)
    seen = np.zeros(shape, dtype=bool)
    for window in tiling.windows(shape):
        kept, inside = ways._middle(window, shape, tiling)
        assert kept.shape == inside.shape
        assert (kept.row - window.row, kept.col - window.col) == (inside.row, inside.col)
        seen[kept.slices] = True
    assert seen.all()
