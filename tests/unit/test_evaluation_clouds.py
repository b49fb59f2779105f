"""Clouds laid over a scene: seeded, growing, the same in every window."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import rasterio
from affine import Affine

from mmovseg_geo.evaluation import clouded as room
from mmovseg_geo.evaluation.clouded import clouded, clouds_of
from mmovseg_geo.grid import Window
from mmovseg_geo.rasters.scene import open_scene

WHOLE = Window(0, 0, 300, 200)


@pytest.fixture
def scene(tmp_path):
    rng = np.random.default_rng(1)
    for name, bands, dtype in (("rgb", 3, np.uint8), ("sar", 2, np.float32)):
        values = rng.integers(20, 90, (bands, 300, 200)).astype(dtype)
        values[:, :9] = 0
        with rasterio.open(
            tmp_path / f"{name}.tif", "w", driver="GTiff", count=bands, dtype=dtype, height=300, width=200,
            crs="EPSG:32633", transform=Affine(10, 0, 500000, 0, -10, 5000000), nodata=0,
        ) as target:  # fmt: skip
            target.write(values if bands == 3 else -values)
    with open_scene(tmp_path / "rgb.tif", tmp_path / "sar.tif") as opened:
        yield opened


@pytest.mark.parametrize("longest", [1536, 90])
def test_a_pixel_under_clouds_is_the_same_in_every_window(scene, monkeypatch, longest):
    monkeypatch.setattr(room, "LONGEST", longest)
    cloudy = clouded(scene, 0.5, 0)
    whole = cloudy.read(WHOLE)
    for window in (Window(0, 0, 64, 64), Window(130, 77, 41, 90), Window(299, 199, 1, 1)):
        part = cloudy.read(window)
        assert np.array_equal(part.optical, whole.optical[:, window.slices[0], window.slices[1]])
    beyond = cloudy.read(Window(280, 180, 64, 64))
    assert np.array_equal(beyond.optical[:, :20, :20], whole.optical[:, 280:, 180:])
    assert not beyond.optical_valid[20:].any()


def test_only_the_optical_image_and_only_its_valid_pixels_change(scene):
    clear, cloudy = scene.read(WHOLE), clouded(scene, 0.5, 0).read(WHOLE)
    assert not np.array_equal(clear.optical, cloudy.optical)
    assert np.array_equal(clear.sar, cloudy.sar)
    assert np.array_equal(clear.optical_valid, cloudy.optical_valid)
    assert (cloudy.optical[:, ~cloudy.optical_valid] == 0).all()
    assert cloudy.optical.min() >= 0
    assert cloudy.optical.max() == 255


def test_no_clouds_leave_the_scene_as_it_is(scene):
    assert clouded(scene, 0.0, 0) is scene


@pytest.mark.parametrize("cover", [0.25, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_clouds_reach_the_share_that_was_asked_for(name, cover):
    opacity = clouds_of(name, (256, 256), cover, 0, 10.0).opacity
    assert (opacity >= 0.1).mean() == pytest.approx(cover, abs=0.06)
    assert (opacity > 0.9).mean() > cover - 0.45  # opaque, but for soft edges


def test_clouds_grow_where_they_are():
    layers = [clouds_of("a", (128, 128), cover, 0, 10.0).opacity for cover in (0.2, 0.5, 0.8, 1.0)]
    for less, more in pairwise(layers):
        assert (more >= less - 1e-6).all()


def test_scenes_and_seeds_have_their_own_clouds():
    one = clouds_of("a", (64, 64), 0.5, 0, 10.0).opacity
    assert np.array_equal(one, clouds_of("a", (64, 64), 0.5, 0, 10.0).opacity)
    assert not np.array_equal(one, clouds_of("b", (64, 64), 0.5, 0, 10.0).opacity)
    assert not np.array_equal(one, clouds_of("a", (64, 64), 0.5, 1, 10.0).opacity)


def test_clouds_of_a_large_scene_are_made_small(monkeypatch):
    monkeypatch.setattr(room, "LONGEST", 64)
    made = clouds_of("a", (6400, 3200), 0.5, 0, 10.0)
    assert made.opacity.shape == (64, 32)
    white = made.over(np.full((3, 20, 30), 50, np.float32), Window(3000, 1000, 20, 30))
    assert white.shape == (3, 20, 30)
