from __future__ import annotations

import numpy as np
import pytest

from mmovseg_geo.errors import ConfigError
from mmovseg_geo.grid import Window
from mmovseg_geo.rasters.scene import open_scene

WHOLE = Window(0, 0, 64, 64)
NAMES = ("B02", "B03", "B04", "B08")


@pytest.fixture
def reflectance():
    """(4, 64, 64) float64 reflectance 0.01 .. 0.4."""
    return np.random.default_rng(3).uniform(0.01, 0.4, (4, 64, 64))


def scaling_of(*args, **options):
    scene = open_scene(*args, **options)
    layer = scene.optical or scene.sar[0]
    return layer.scaling


def test_8_bit_values_stay(raster, rgb):
    scaling = scaling_of(raster("a.tif", rgb))
    assert scaling.name == "8bit"
    assert np.array_equal(scaling.apply(rgb.astype(np.float32)), rgb)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_named_bands_of_numbers_are_reflectance_times_10000(raster, reflectance, dtype):
    path = raster("a.tif", np.round(reflectance * 1e4).astype(dtype), descriptions=NAMES)
    scene = open_scene(path)
    assert scene.optical.scaling.name == "reflectance-10000"
    expected = np.clip(reflectance[[2, 1, 0]] / 0.3, 0, 1) * 255
    assert np.abs(scene.read(WHOLE).optical - expected).max() < 0.1


def test_an_added_1000_is_seen_and_taken_off(raster, reflectance):
    pixels = np.round(reflectance * 1e4 + 1000).astype(np.uint16)
    scene = open_scene(raster("a.tif", pixels, descriptions=NAMES))
    assert scene.optical.scaling.name == "reflectance-10000-offset"
    expected = np.clip(reflectance[[2, 1, 0]] / 0.3, 0, 1) * 255
    assert np.abs(scene.read(WHOLE).optical - expected).max() < 0.1


def test_dark_values_refute_a_baseline_that_adds_1000(raster, reflectance):
    name = "S2A_MSIL2A_20230101T101031_N0509_R022_T33UUP.tif"
    dark = np.round(reflectance * 1e4).astype(np.uint16)
    assert scaling_of(raster(name, dark, descriptions=NAMES)).name == "reflectance-10000"


def test_a_baseline_tells_of_the_offset_in_a_bright_scene(raster, reflectance):
    bright = np.round(reflectance * 1e4 + 4000).astype(np.uint16)
    name = "S2A_MSIL2A_20230101T101031_N0509_R022_T33UUP.tif"
    assert "05.09" in scaling_of(raster(name, bright, descriptions=NAMES)).why
    assert scaling_of(raster("bright.tif", bright, descriptions=NAMES)).name == "reflectance-10000"


def test_pixels_of_10_m_speak_for_reflectance(raster, reflectance):
    path = raster("a.tif", np.round(reflectance[:3] * 1e4).astype(np.uint16), photometric="minisblack")
    assert scaling_of(path).name == "reflectance-10000"


def test_unknown_numbers_are_stretched_jointly(raster, reflectance):
    from affine import Affine

    pixels = np.round(reflectance[:3] * 2000 + 50).astype(np.uint16)
    path = raster("a.tif", pixels, transform=Affine(0.5, 0, 5e5, 0, -0.5, 5e6), photometric="minisblack")
    scaling = scaling_of(path)
    assert scaling.name == "stretch"
    assert len(set(scaling.low)) == len(set(scaling.high)) == 1
    assert scaling.low[0] == pytest.approx(np.percentile(pixels, 1), abs=2)


def test_scale_and_offset_of_the_file_are_applied(raster, reflectance):
    pixels = np.round((reflectance[:3] + 0.2) / 2.75e-5).astype(np.uint16)
    path = raster("a.tif", pixels, scales=(2.75e-5,) * 3, offsets=(-0.2,) * 3, photometric="minisblack")
    tile = open_scene(path).read(WHOLE)
    assert np.abs(tile.optical - np.clip(reflectance[:3] / 0.3, 0, 1) * 255).max() < 0.1


def test_landsat_is_known_by_its_file_name(raster, reflectance):
    pixels = np.round((reflectance + 0.2) / 2.75e-5).astype(np.uint16)
    path = raster("LC08_L2SP_193026_20200101_02_T1.tif", pixels, descriptions=("SR_B2", "SR_B3", "SR_B4", "SR_B5"))
    scene = open_scene(path)
    assert scene.optical.choice.bands == (3, 2, 1)
    assert scene.optical.scaling.gain == pytest.approx(2.75e-5)


def test_small_floats_are_reflectance(raster, reflectance):
    assert scaling_of(raster("a.tif", reflectance[:3].astype(np.float32))).name == "reflectance"


def test_floats_up_to_255_are_a_picture(raster, rgb):
    assert scaling_of(raster("a.tif", rgb.astype(np.float32))).name == "8bit"


@pytest.mark.parametrize(
    ("option", "low", "high"),
    [("8bit", 0, 255), ("reflectance", 0, 0.3), ("reflectance-10000", 0, 0.3), ("100,900", 100, 900)],
)
def test_the_users_optical_scale_is_used(raster, reflectance, option, low, high):
    path = raster("a.tif", np.round(reflectance * 1e4).astype(np.uint16), descriptions=NAMES)
    scaling = scaling_of(path, optical_scale=option)
    assert (scaling.low[0], scaling.high[0]) == (low, high)
    assert "as asked for" in scaling.why


@pytest.mark.parametrize("option", ["bright", "1,2,3", "9,1"])
def test_an_unknown_scale_is_refused(raster, rgb, decibels, option):
    optical, sar = raster("a.tif", rgb), raster("b.tif", decibels)
    with pytest.raises(ConfigError, match="--optical-scale"):
        open_scene(optical, optical_scale=option)
    with pytest.raises(ConfigError, match="--sar-scale"):
        open_scene(sar=sar, sar_scale=option)


def test_decibels_of_both_polarizations_have_their_own_range(raster, decibels):
    tile = open_scene(sar=raster("b.tif", decibels, descriptions=("VV", "VH"))).read(WHOLE)
    assert np.abs(tile.sar[0] - np.clip((decibels[0] + 25) / 25 * 255, 0, 255)).max() < 0.01
    assert np.abs(tile.sar[1] - np.clip((decibels[1] + 32) / 25 * 255, 0, 255)).max() < 0.01


def test_power_looks_like_its_decibels(raster, decibels):
    power = np.power(10, decibels / 10)
    from_power = open_scene(sar=raster("p.tif", power)).read(WHOLE).sar
    from_decibels = open_scene(sar=raster("d.tif", decibels)).read(WHOLE).sar
    assert np.abs(from_power - from_decibels).max() < 0.01


def test_decibels_times_100_in_whole_numbers_are_understood(raster, decibels):
    whole = np.round(decibels * 100).astype(np.int16)
    from_whole = open_scene(sar=raster("w.tif", whole)).read(WHOLE).sar
    from_decibels = open_scene(sar=raster("d.tif", decibels)).read(WHOLE).sar
    assert np.abs(from_whole - from_decibels).max() < 0.2


def test_amplitude_spreads_each_band_by_its_own_percentiles(raster, decibels):
    amplitude = np.round(np.power(10, decibels / 20) * 1000 + 1).astype(np.uint16)
    scene = open_scene(sar=raster("a.tif", amplitude))
    sar = scene.read(WHOLE).sar
    assert scene.sar[0].scaling.name == "amplitude"
    for band in sar:
        assert 0.005 < (band == 0).mean() < 0.015
        assert 0.005 < (band == 255).mean() < 0.015


def test_zero_amplitude_is_no_data(raster, decibels):
    amplitude = np.round(np.power(10, decibels / 20) * 1000 + 1).astype(np.uint16)
    amplitude[0, 5, 6] = 0
    tile = open_scene(sar=raster("a.tif", amplitude)).read(WHOLE)
    assert np.argwhere(~tile.sar_valid).tolist() == [[5, 6]]


def test_the_users_sar_range_is_in_decibels(raster, decibels):
    tile = open_scene(sar=raster("p.tif", np.power(10, decibels / 10)), sar_scale="-30,10").read(WHOLE)
    assert np.abs(tile.sar - np.clip((decibels + 30) / 40 * 255, 0, 255)).max() < 0.01


def test_statistics_leave_out_no_data(raster, reflectance):
    from affine import Affine

    fine = Affine(0.5, 0, 5e5, 0, -0.5, 5e6)
    pixels = np.round(reflectance[:3] * 2000 + 50).astype(np.uint16)
    options = {"transform": fine, "nodata": 65535, "photometric": "minisblack"}
    clean = scaling_of(raster("a.tif", pixels[:, 32:], **options))
    pixels[:, :32] = 65535
    assert scaling_of(raster("b.tif", pixels, **options)).high == clean.high


@pytest.mark.parametrize(
    ("name", "form"), [("VV_amplitude", "amplitude"), ("sigma0_VV_dB", "db"), ("sigma0_VV", "power")]
)
def test_what_a_band_is_called_decides_between_small_positive_values(raster, decibels, name, form):
    path = raster("a.tif", np.power(10, decibels[:1] / 20), descriptions=(name,))
    assert scaling_of(sar=path).name == form
