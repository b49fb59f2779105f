"""Real optical and SAR files become scenes that say the right things of themselves."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import Transformer

from mmovseg_geo.errors import SceneError
from mmovseg_geo.grid import Window
from mmovseg_geo.rasters.scene import open_scene


@pytest.fixture
def data(shared):
    return shared / "data"


def folders(data, pattern):
    found = sorted(path for path in data.glob(pattern) if path.is_dir())
    assert found, f"{pattern} matches nothing in {data}"
    return found


def whole(scene):
    return scene.read(Window(0, 0, *scene.shape))


def test_land_cover_scenes_need_no_resampling(data):
    for folder in folders(data, "s1_s2_landcover/*"):
        scene = open_scene(folder / "rgb.tif", folder / "sar.tif")
        assert scene.gsd_m == 10.0
        assert scene.overlap == 1.0
        assert [(layer.scaling.name, layer.choice.names) for layer in scene.sar] == [("db", ("VV", "VH"))]
        assert not scene.sar[0].resampled
        assert scene.warnings == []


def test_sentinel_2_numbers_look_like_their_8_bit_picture(data):
    for folder in folders(data, "s1_s2_landcover/*"):
        scene = open_scene(folder / "s2_l2a.tif")
        assert scene.optical.choice.bands == (4, 3, 2)
        assert scene.optical.scaling.name == "reflectance-10000"
        picture = whole(open_scene(folder / "rgb.tif")).optical
        assert np.corrcoef(whole(scene).optical.ravel(), picture.ravel())[0, 1] > 0.7


def test_the_flood_scene_in_degrees_knows_its_meters_and_holes(data):
    folder = data / "s1_s2_flood" / "Spain_7370579"
    scene = open_scene(folder / "rgb.tif", folder / "sar.tif")
    assert scene.grid.crs.geographic
    assert scene.gsd_m == pytest.approx(8.9, abs=0.1)
    with rasterio.open(folder / "sar.tif") as dataset:
        assert np.array_equal(whole(scene).sar_valid, np.isfinite(dataset.read()).all(axis=0))


def test_raw_flood_files_are_understood(data):
    folder = data / "s1_s2_flood" / "Spain_7370579"
    scene = open_scene(folder / "Spain_7370579_S2Hand.tif", folder / "Spain_7370579_S1Hand.tif")
    assert scene.optical.choice.bands == (4, 3, 2)
    assert scene.optical.scaling.name == "reflectance-10000"
    assert scene.sar[0].scaling.name == "db"


def test_16_bit_patches_are_reflectance(data):
    for folder in folders(data, "s1_s2_bigearthnet/S2*"):
        for name, bands in (("rgb_uint16.tif", (1, 2, 3)), ("s2_10m.tif", (3, 2, 1))):
            scene = open_scene(folder / name, folder / "sar.tif")
            assert scene.optical.choice.bands == bands
            assert scene.optical.scaling.name == "reflectance-10000"


def test_20_m_bands_under_10_m_sar_are_one_scene(data):
    for folder in folders(data, "s1_s2_bigearthnet/S2*"):
        scene = open_scene(folder / "s2_20m.tif", folder / "sar.tif", bands=(1, 2, 3))
        assert scene.shape == (60, 60)
        assert scene.sar[0].placement.scale == pytest.approx((2.0, 2.0))
        assert whole(scene).sar_valid.all()


def test_harmonized_chips_without_a_crs_are_reflectance(data):
    for path in sorted((data / "hls_worldcover" / "images").glob("*.tif"))[::25]:
        scene = open_scene(path, pixel_grid=True)
        assert scene.optical.choice.bands == (3, 2, 1)
        assert scene.optical.scaling.name == "reflectance-10000"


def test_png_pairs_are_scenes_on_a_pixel_grid(data):
    optical = sorted((data / "s1_s2_pairs_png" / "optical").glob("*.png"))
    sar = sorted((data / "s1_s2_pairs_png" / "sar").glob("*.png"))
    assert len(optical) == len(sar) > 0
    for pair in zip(optical, sar, strict=True):
        assert whole(open_scene(*pair, pixel_grid=True)).sar_valid.all()


def test_drone_pictures_in_web_mercator_know_their_centimeters(data):
    for path in sorted((data / "rgb_buildings").glob("**/*rgb.tif")):
        assert open_scene(path).gsd_m == pytest.approx(0.0744, abs=1e-4)


def test_palette_pictures_of_optical_and_sar_are_expanded(data):
    folder = data / "sar_optical_matching" / "cfog_visible_sar1"
    scene = open_scene(folder / "visible1_ref.tif", folder / "SAR1_sen.tif", pixel_grid=True)
    tile = whole(scene)
    assert tile.optical.shape == (3, 600, 600)
    assert tile.sar.shape == (1, 600, 600)
    assert tile.sar.std() > 20
    assert sum("palette" in warning for warning in scene.warnings) == 2


def test_a_complex_product_is_refused(data):
    with pytest.raises(SceneError, match="complex"):
        open_scene(sar=data / "s1_grd_gcp" / "slc_complex_int16.tif")


def test_a_sentinel_1_swath_falls_on_the_coast_of_kerala(data, tmp_path):
    """The sea is dark in VH, the land is not: at Kochi the coast runs along 76.2 E between 10.0 and 10.2 N."""
    x, y = Transformer.from_crs(4326, 32643, always_xy=True).transform(76.0, 10.25)
    grid = Affine(200.0, 0.0, round(x), 0.0, -200.0, round(y))
    with rasterio.open(
        tmp_path / "invented.tif", "w", driver="GTiff", count=3, dtype="uint8", width=220, height=150,
        crs="EPSG:32643", transform=grid,
    ) as dataset:  # fmt: skip
        dataset.write(np.full((3, 150, 220), 9, np.uint8))
    swath = data / "s1_grd_gcp" / "S1A_IW_GRDH_20180716T004042_"
    pair = f"{swath}vv.tiff,{swath}vh.tiff"
    with pytest.raises(SceneError, match="--gcps tps"):
        open_scene(tmp_path / "invented.tif", pair)
    scene = open_scene(tmp_path / "invented.tif", pair, gcps="tps")
    assert [layer.choice.names for layer in scene.sar] == [("VV",), ("VH",)]
    assert scene.describe()["sar"][0]["gcps"]["left_out_rms_px"] < 0.5
    tile = whole(scene)
    lon, lat = np.meshgrid(np.linspace(76.02, 76.12, 11), np.linspace(10.02, 10.2, 11))
    sea = sampled(tile.sar[1], grid, lon, lat)
    land = sampled(tile.sar[1], grid, lon + 0.25, lat)
    assert tile.sar_valid.all()
    assert np.median(land) - np.median(sea) > 100


def sampled(values, grid, lon, lat):
    x, y = Transformer.from_crs(4326, 32643, always_xy=True).transform(lon, lat)
    return values[((y - grid.f) / grid.e).astype(int), ((x - grid.c) / grid.a).astype(int)]


def test_a_real_swath_tells_its_product_and_loses_no_measured_pixel(data):
    swath = data / "s1_grd_gcp" / "S1A_IW_GRDH_20180716T004042_"
    scene = open_scene(sar=f"{swath}vv.tiff,{swath}vh.tiff", gcps="tps")
    for layer, polarization in zip(scene.sar, ("VV", "VH"), strict=True):
        told = layer.describe()["product"]
        assert told["mission"] == "Sentinel-1A"
        assert told["acquired"] == "2018-07-16T00:40:42Z"
        assert told["relative orbit"] == "165"
        assert told["polarization"] == polarization
        with rasterio.open(layer.source.path) as dataset:
            measured = dataset.read(1) > 0
        valid = layer.source.read(Window(0, 0, *layer.source.shape))[1]
        assert not valid[~measured].any()
        assert valid[measured].mean() > 0.9999
