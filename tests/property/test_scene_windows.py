"""A pixel's value does not depend on the window it is read in."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint

from mmovseg_geo.grid import Window
from mmovseg_geo.rasters.scene import open_scene

GRID = Affine(10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0)
SHAPE = (150, 170)
WAYS = {
    "same grid": ("EPSG:32632", GRID, (0, 0)),
    "moved by half a pixel": ("EPSG:32632", GRID, (0.5, -1.25)),
    "three times finer": ("EPSG:32632", GRID @ Affine.scale(0.31, 0.27), (0, 0)),
    "coarser and turned": ("EPSG:32632", GRID @ Affine.translation(-20, 60) @ Affine.rotation(-20), (0, 0)),
    "geographic": ("EPSG:4326", Affine(1.1e-4, 0, 8.999, 0, -0.9e-4, 45.155), (0.2, 0.3)),
    "another zone, south-up": ("EPSG:32631", Affine(11, 0, 970000, 0, 11, 5014800), (0, 0)),
    "control points": ("EPSG:4326", None, (0, 0)),
}


FILTERED = {f"{way}, {name}": (way, name) for way, name in (
    ("same grid", "refined-lee"), ("three times finer", "gamma-map"), ("geographic", "lee"),
)}  # fmt: skip


@pytest.fixture(scope="module", params=[*WAYS, *FILTERED])
def scene(request, tmp_path_factory):
    way, speckle = FILTERED.get(request.param, (request.param, "none"))
    crs, transform, shift = WAYS[way]
    folder = tmp_path_factory.mktemp("windows")
    random = np.random.default_rng(7)
    with rasterio.open(
        folder / "rgb.tif", "w", driver="GTiff", count=3, height=SHAPE[0], width=SHAPE[1], dtype="uint8",
        crs="EPSG:32632", transform=GRID,
    ) as dataset:  # fmt: skip
        dataset.write(random.integers(0, 255, (3, *SHAPE)).astype(np.uint8))
    decibels = random.normal(-13, 4, (2, 400, 500)).astype(np.float32)
    decibels[:, random.random((400, 500)) < 0.05] = np.nan
    with rasterio.open(
        folder / "sar.tif", "w", driver="GTiff", count=2, height=400, width=500, dtype="float32", crs=crs,
        **({} if transform is None else {"transform": transform}),
    ) as dataset:  # fmt: skip
        dataset.write(decibels)
        if transform is None:
            dataset.gcps = (
                [
                    GroundControlPoint(
                        row=row, col=col, x=8.9995 + col * 1e-4, y=45.1535 - row * 7e-5 + col * 1e-6, z=0
                    )
                    for row in range(0, 401, 100)
                    for col in range(0, 501, 100)
                ],
                "EPSG:4326",
            )
    with open_scene(folder / "rgb.tif", folder / "sar.tif", shift=shift, gcps="tps", speckle=speckle) as opened:
        yield opened


@pytest.fixture(scope="module")
def whole(scene):
    return scene.read(Window(0, 0, *SHAPE))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_window_equals_the_same_part_of_the_whole(scene, whole, data):
    row, col = data.draw(st.integers(0, SHAPE[0] - 1)), data.draw(st.integers(0, SHAPE[1] - 1))
    window = Window(row, col, data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90)))
    inside = window.intersection(Window(0, 0, *SHAPE))
    tile = scene.read(window)
    height, width = inside.shape
    part = (..., *inside.slices)
    assert np.array_equal(tile.sar[:, :height, :width], whole.sar[part])
    assert np.array_equal(tile.sar_valid[:height, :width], whole.sar_valid[part])
    assert np.array_equal(tile.optical[:, :height, :width], whole.optical[part])
    assert tile.valid.sum() == tile.valid[:height, :width].sum()


def test_the_scene_has_sar_and_holes_in_it(whole):
    assert 0.2 < whole.sar_valid.mean() < 1.0
    assert (whole.sar[:, ~whole.sar_valid] == 0).all()
