"""Stored values on another grid: the nearest pixel's, whatever the window."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.warp import Resampling, reproject, transform

from mmovseg_geo.errors import MissingCRS, NoOverlap, SceneError
from mmovseg_geo.grid import Window
from mmovseg_geo.rasters import nearest
from mmovseg_geo.rasters.nearest import stored_band
from mmovseg_geo.rasters.source import probe

UTM = Affine(10, 0, 500000, 0, -10, 5000000)


@pytest.fixture
def write(tmp_path):
    def written(name, values, crs="EPSG:32633", affine=UTM, **profile):
        path = tmp_path / name
        options = {"count": 1, "dtype": values.dtype, "crs": crs, "transform": affine, **profile}
        with rasterio.open(path, "w", driver="GTiff", height=len(values), width=values.shape[1], **options) as target:
            target.write(values, 1)
        return str(path)

    return written


def random(shape, most=9, seed=1):
    return np.random.default_rng(seed).integers(1, most, shape).astype(np.uint8)


def on_degrees(values, west=500000, north=5000000, side=640.0):
    """The transform of an image (H, W) in degrees that covers about a square of `side` meters."""
    (left, right), (top, bottom) = transform("EPSG:32633", "EPSG:4326", [west, west + side], [north, north - side])
    return Affine((right - left) / values.shape[1], 0, left, 0, (bottom - top) / values.shape[0], top)


@pytest.mark.parametrize("shape", [(64, 64), (300, 280), (11, 13)])
def test_another_crs_is_sampled_as_gdal_does(write, shape):
    values = random(shape)
    map_path = write("map.tif", random((64, 64)))
    path = write("truth.tif", values, "EPSG:4326", on_degrees(values))
    band = stored_band(path, probe(map_path))
    found, valid = band.read(Window(0, 0, 64, 64))
    expected = np.zeros((64, 64), np.uint8)
    reproject(
        values, expected, src_transform=on_degrees(values), src_crs="EPSG:4326", dst_transform=UTM,
        dst_crs="EPSG:32633", resampling=Resampling.nearest, tolerance=0,
    )  # fmt: skip
    assert (valid == (expected != 0)).mean() > 0.99
    # Centers that fall on the border of two pixels may go either way.
    assert (found == expected)[valid & (expected != 0)].mean() > 0.99
    assert band.resampled


@pytest.mark.parametrize("window", [Window(5, 7, 20, 30), Window(0, 0, 1, 64), Window(63, 63, 1, 1)])
def test_a_pixel_is_the_same_in_every_window(write, window):
    values = random((200, 190))
    band = stored_band(
        write("truth.tif", values, "EPSG:4326", on_degrees(values)), probe(write("m.tif", random((64, 64))))
    )
    whole, everywhere = band.read(Window(0, 0, 64, 64))
    part, valid = band.read(window)
    assert np.array_equal(part, whole[window.slices])
    assert np.array_equal(valid, everywhere[window.slices])


def test_a_much_finer_raster_is_read_in_pieces(write, monkeypatch):
    values = random((640, 640))
    path, map_path = write("truth.tif", values, affine=UTM @ Affine.scale(0.1)), write("m.tif", random((64, 64)))
    whole, _ = stored_band(path, probe(map_path)).read(Window(0, 0, 64, 64))
    assert np.array_equal(whole, values[5::10, 5::10])
    largest = []
    own = nearest.StoredBand._own
    monkeypatch.setattr(nearest, "MOST_PIXELS", 1000)
    monkeypatch.setattr(
        nearest.StoredBand, "_own", lambda self, span: largest.append(span.height * span.width) or own(self, span)
    )
    parts, valid = stored_band(path, probe(map_path)).read(Window(0, 0, 64, 64))
    assert np.array_equal(parts, whole)
    assert valid.all()
    assert max(largest) <= 1000


def test_the_same_grid_is_read_as_it_is_and_a_part_lies_at_its_place(write):
    values = random((64, 64))
    map_path = write("map.tif", values)
    same = stored_band(write("same.tif", values), probe(map_path))
    assert not same.resampled
    assert same.share == 1
    part = stored_band(write("part.tif", values[8:40, 16:64], affine=UTM @ Affine.translation(16, 8)), probe(map_path))
    found, valid = part.read(Window(0, 0, 64, 64))
    assert np.array_equal(found[valid], values[8:40, 16:64].ravel())
    assert valid.sum() == 32 * 48
    assert part.share == pytest.approx(32 * 48 / 64**2)


def test_declared_no_data_is_not_valid(write):
    values = random((8, 8))
    values[2] = 200
    _, valid = stored_band(write("m.tif", values, nodata=200)).read(Window(0, 0, 8, 8))
    assert np.array_equal(valid, values != 200)


def test_without_any_crs_equal_sizes_lie_on_each_other(write):
    values = random((8, 9))
    placeless = write("truth.tif", values, None, Affine.identity())
    other = write("map.tif", values, None, Affine.identity())
    assert np.array_equal(stored_band(placeless, probe(other)).read(Window(0, 0, 8, 9))[0], values)
    small = write("small.tif", values[:4], None, Affine.identity())
    with pytest.raises(SceneError, match=r"small\.tif has 4 x 9 pixels .*map\.tif 8 x 9"):
        stored_band(small, probe(other))


def test_one_crs_of_two_needs_to_be_told_that_pixels_match(write):
    values = random((8, 9))
    placeless, placed = write("truth.tif", values, None, Affine.identity()), write("map.tif", values)
    for first, second in ((placeless, placed), (placed, placeless)):
        with pytest.raises(MissingCRS, match=r"truth\.tif has no coordinate.*map\.tif has one \(EPSG:32633\)"):
            stored_band(first, probe(second))
    assert not stored_band(placeless, probe(placed), pixel_grid=True).resampled


def test_rasters_apart_and_of_several_bands_are_refused(write, tmp_path):
    values = random((8, 8))
    map_path = write("map.tif", values)
    with pytest.raises(NoOverlap, match=r"map\.tif and far\.tif do not overlap"):
        stored_band(write("far.tif", values, affine=Affine.translation(1e6, 0) @ UTM), probe(map_path))
    with rasterio.open(tmp_path / "rgb.tif", "w", driver="GTiff", count=3, dtype="uint8", height=8, width=8) as target:
        target.write(np.zeros((3, 8, 8), np.uint8))
    with pytest.raises(SceneError, match=r"rgb\.tif has 3 bands"):
        stored_band(str(tmp_path / "rgb.tif"), probe(map_path))
