from __future__ import annotations

import numpy as np
import pytest

from mmovseg_geo.errors import MissingBand
from mmovseg_geo.grid import Window
from mmovseg_geo.rasters.bands import choose_optical, choose_sar
from mmovseg_geo.rasters.scene import open_scene
from mmovseg_geo.rasters.source import probe

SENTINEL_2 = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")


@pytest.fixture
def facts(raster):
    def build(count, name="a.tif", dtype=np.uint16, **options):
        return probe(str(raster(name, np.ones((count, 4, 4), dtype), **options)))

    return build


def test_named_colors_are_found_in_any_order(facts):
    assert choose_optical(facts(4, descriptions=("Blue", "Green", "Red", "NIR")), None).bands == (3, 2, 1)


def test_sentinel_2_names_are_found(facts):
    assert choose_optical(facts(12, descriptions=SENTINEL_2), None).bands == (4, 3, 2)


def test_descriptions_weigh_more_than_color_interpretation(facts):
    found = facts(3, dtype=np.uint8, descriptions=("blue", "green", "red"), colors=("red", "green", "blue"))
    assert choose_optical(found, None).bands == (3, 2, 1)


def test_color_interpretation_is_honored(facts):
    assert choose_optical(facts(3, colors=("blue", "green", "red")), None).bands == (3, 2, 1)


def test_unnamed_sentinel_2_stacks_are_known_by_their_count(facts):
    choice = choose_optical(facts(13), None)
    assert choice.bands == (4, 3, 2)
    assert "Sentinel-2" in choice.warning


def test_unnamed_bands_are_taken_in_order_with_a_warning(facts):
    choice = choose_optical(facts(4, photometric="minisblack"), None)
    assert choice.bands == (1, 2, 3)
    assert "does not say" in choice.warning


def test_alpha_is_never_a_color(facts):
    found = facts(4, dtype=np.uint8, colors=("alpha", "undefined", "undefined", "undefined"))
    assert choose_optical(found, None).bands == (2, 3, 4)


def test_one_band_is_not_enough_for_optical(facts):
    with pytest.raises(MissingBand, match="--bands 1,1,1"):
        choose_optical(facts(1), None)


def test_one_band_can_be_taken_as_gray(raster):
    pixels = np.arange(1, 65, dtype=np.uint8).reshape(1, 8, 8)
    tile = open_scene(raster("a.tif", pixels), bands=(1, 1, 1)).read(Window(0, 0, 8, 8))
    assert np.array_equal(tile.optical, np.repeat(pixels, 3, axis=0))


@pytest.mark.parametrize("wanted", [(4, 3, 2), ("4", "3", "2"), ("B4", "B03", "b2"), ("red", "green", "blue")])
def test_bands_are_asked_for_by_number_or_name(facts, wanted):
    assert choose_optical(facts(12, descriptions=SENTINEL_2), wanted).bands == (4, 3, 2)


@pytest.mark.parametrize("wanted", [(4, 3, 13), (0, 1, 2), ("nir", "red", "green"), (1, 2)])
def test_a_band_that_is_not_there_is_refused(facts, wanted):
    with pytest.raises(MissingBand):
        choose_optical(facts(12, descriptions=SENTINEL_2), wanted)


def test_the_message_lists_the_bands_there_are(facts):
    with pytest.raises(MissingBand, match="4 nir"):
        choose_optical(facts(4, descriptions=("blue", "green", "red", "nir")), (1, 2, 7))


@pytest.mark.parametrize(
    ("descriptions", "bands", "names"),
    [
        (("VV", "VH"), (1, 2), ("VV", "VH")),
        (("VH_dB", "VV_dB"), (2, 1), ("VV", "VH")),
        (("sigma0 HV", "sigma0 HH"), (2, 1), ("HH", "HV")),
        (("angle", "Gamma0_VV"), (2,), ("VV",)),
        ((None, None), (1, 2), ("VV", "VH")),
    ],
)
def test_polarizations_are_put_in_order(facts, descriptions, bands, names):
    choice = choose_sar(facts(2, dtype=np.float32, descriptions=[d or "" for d in descriptions]), None)
    assert (choice.bands, choice.names) == (bands, names)


def test_a_single_band_is_named_by_its_file(facts):
    assert choose_sar(facts(1, name="s1a-iw-grd-vh-2018.tif"), None).names == ("VH",)
    assert choose_sar(facts(1, name="scene.tif"), None).names == ("co",)


def test_sar_bands_are_asked_for_by_polarization(facts):
    choice = choose_sar(facts(2, dtype=np.float32, descriptions=("VV_dB", "VH_dB")), ("vh",))
    assert (choice.bands, choice.names) == ((2,), ("VH",))


def test_two_files_make_one_sar_image_with_the_co_polarized_first(raster, decibels):
    vh, vv = raster("x_vh.tif", decibels[1:]), raster("x_vv.tif", decibels[:1])
    scene = open_scene(sar=f"{vh},{vv}")
    assert [layer.choice.names for layer in scene.sar] == [("VV",), ("VH",)]
    assert scene.read(Window(0, 0, 64, 64)).sar.shape == (2, 64, 64)
