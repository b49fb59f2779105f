"""Clouds and shadows come from a product's mask, a file, or the image itself, on the scene's grid."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmovseg_geo.errors import ConfigError, MissingBand, NoOverlap
from mmovseg_geo.grid import Window
from mmovseg_geo.rasters.cloud_index import cloud_probability
from mmovseg_geo.rasters.scene import open_scene
from mmovseg_geo.summary import summary
from tests import delivered

SIDE = 120
BANDS = ("B02", "B03", "B04", "B08", "B11")
GRASS, SNOW, SAND, CLOUD, SHADE = (
    (0.04, 0.07, 0.05, 0.35, 0.18),
    (0.75, 0.75, 0.74, 0.65, 0.08),
    (0.16, 0.22, 0.30, 0.38, 0.48),
    (0.52, 0.53, 0.55, 0.58, 0.42),
    (0.015, 0.02, 0.015, 0.08, 0.06),
)


def land(*patches):
    """(5, 120, 120) reflectance: grass, with (spectrum, rows, cols) laid over it."""
    pixels = np.broadcast_to(np.array(GRASS)[:, None, None], (5, SIDE, SIDE)).copy()
    for spectrum, rows, cols in patches:
        pixels[:, rows, cols] = np.array(spectrum)[:, None, None]
    return pixels


A_CLOUD = (CLOUD, slice(20, 60), slice(20, 60))
ITS_SHADE = (SHADE, slice(50, 80), slice(62, 90))


@pytest.fixture
def image(raster):
    def written(pixels, name="s2.tif"):
        return raster(name, np.round(pixels * 10000).astype(np.uint16), descriptions=BANDS)

    return written


def marked(path, **options):
    options = {"clouds": "auto", **options}
    with open_scene(path, **options) as scene:
        return scene.clouds.read(Window(0, 0, *scene.shape)), scene


def test_a_cloud_and_its_shadow_are_seen_and_grass_is_not(image):
    found, scene = marked(image(land(A_CLOUD, ITS_SHADE)))
    assert found[24:56, 24:56].all()
    assert found[52:78, 70:88].all()
    assert not found[:, 100:].any()
    assert not found[100:].any()
    assert scene.clouds.share == pytest.approx(found.mean(), abs=0.02)
    assert scene.clouds.why == "index of red, green, blue, nir, swir"
    assert scene.clouds.sure


def test_snow_and_sand_are_no_clouds_where_shortwave_infrared_tells(image):
    found, _ = marked(image(land((SNOW, slice(0, 40), slice(0, 120)), (SAND, slice(60, 120), slice(0, 120)))))
    assert not found.any()


def test_without_shortwave_infrared_snow_looks_like_cloud(image, raster):
    pixels = land((SNOW, slice(0, 40), slice(0, 120)))[2::-1]
    path = raster("rgb.tif", np.round(pixels * 10000).astype(np.uint16), descriptions=["red", "green", "blue"])
    found, scene = marked(path)
    assert found[10:30].all()
    assert not scene.clouds.sure
    assert scene.clouds.why.endswith("; shadows not looked for; snow looks like clouds to it")


def test_a_dark_lake_far_from_clouds_is_no_shadow(image):
    found, _ = marked(image(land((SHADE, slice(20, 80), slice(20, 80)))))
    assert not found.any()


def test_a_lake_beside_a_cloud_is_no_shadow(image):
    water = (0.03, 0.04, 0.02, 0.01, 0.005)
    found, _ = marked(image(land(A_CLOUD, (water, slice(0, 120), slice(80, 120)))))
    assert found[24:56, 24:56].all()
    assert not found[:, 82:].any()


def test_a_white_house_is_smaller_than_a_cloud(image):
    assert not marked(image(land((CLOUD, slice(50, 53), slice(50, 53)))))[0].any()


def test_cirrus_is_seen_where_its_band_is(raster):
    pixels = np.concatenate([land(), np.full((1, SIDE, SIDE), 0.001)])
    pixels[5, :60] = 0.05
    path = raster("s2.tif", np.round(pixels * 10000).astype(np.uint16), descriptions=(*BANDS, "cirrus"))
    found, _ = marked(path)
    assert found[:50].all()
    assert not found[70:].any()


def test_probability_rises_with_brightness():
    levels = np.linspace(0.05, 0.6, 20, dtype=np.float32)[None]
    likely = cloud_probability({"red": levels, "green": levels, "blue": levels})[0]
    assert (np.diff(likely) >= 0).all()
    assert likely[0] == 0
    assert likely[-1] == 1


def test_pictures_of_bytes_have_an_index_too(raster):
    shown = np.clip(land(A_CLOUD)[2::-1] / 0.3 * 255, 0, 255).astype(np.uint8)
    found, scene = marked(raster("rgb.tif", shown))
    assert found[24:56, 24:56].all()
    assert scene.clouds.why.endswith("; bright ground and snow look like clouds to it")
    (line,) = (line for line in summary(scene.describe()) if line.startswith("clouds"))
    assert "of the optical image look like clouds (index of red, green, blue;" in line


def test_fine_pixels_and_unknown_sizes_have_no_index(raster):
    from affine import Affine

    shown = np.clip(land(A_CLOUD)[2::-1] / 0.3 * 255, 0, 255).astype(np.uint8)
    fine = raster("fine.tif", shown, transform=Affine(0.1, 0, 5e5, 0, -0.1, 5e6))
    with open_scene(fine, clouds="auto") as scene:
        assert scene.clouds is None
        assert scene.describe()["clouds"] is None
    with pytest.raises(ConfigError, match="nothing to mask clouds by"):
        open_scene(fine, clouds="auto", mask_clouds=True)


def test_off_is_off(image):
    with open_scene(image(land(A_CLOUD)), clouds="off") as scene:
        assert scene.clouds is None


# files


def half(value, other=0, side=SIDE):
    return np.where(np.arange(side)[:, None] < side // 2, value, other) * np.ones((side, side), np.int64)


@pytest.mark.parametrize(
    ("name", "cloudy", "clear"),
    [
        ("x_SCL_20m.tif", 9, 6),
        ("x_SCL_20m.tif", 3, 4),
        ("LC08_QA_PIXEL.tif", 1 << 3 | 1 << 8, 1 << 6),
        ("LC08_QA_PIXEL.tif", 1 << 4, 1 << 5 | 1 << 6),
        ("HLS.Fmask.tif", 1 << 1, 1 << 4 | 1 << 5),
        ("MSK_CLDPRB_20m.tif", 80, 20),
        ("anything.tif", 255, 0),
    ],
)
def test_a_file_is_read_by_what_its_name_says(image, raster, name, cloudy, clear):
    path = raster(name, half(cloudy, clear)[None].astype(np.uint16))
    found, scene = marked(image(land()), clouds=str(path))
    assert np.array_equal(found, half(1, 0) > 0)
    assert scene.clouds.share == 0.5
    assert path.name in scene.clouds.why


def test_a_file_of_coarser_pixels_in_another_place_is_laid_on_the_grid(image, raster):
    from affine import Affine

    coarse = raster("SCL.tif", half(8, 5, 62)[None].astype(np.uint8), transform=Affine(20, 0, 499980, 0, -20, 5000020))
    found, _ = marked(image(land()), clouds=str(coarse))
    assert np.array_equal(found, np.arange(SIDE)[:, None] < 60 * np.ones((1, SIDE)))


def test_a_kind_may_stand_before_the_file(image, raster):
    values = np.random.default_rng(0).choice([2, 4, 5, 6, 9], (1, SIDE, SIDE)).astype(np.uint8)
    path = raster("classes.tif", values)
    with pytest.raises(ConfigError, match=r"scl:classes\.tif"):
        marked(image(land()), clouds=str(path))
    assert np.array_equal(marked(image(land()), clouds=f"scl:{path}")[0], values[0] == 9)


def test_files_that_do_not_fit_are_refused(image, raster):
    from affine import Affine

    away = raster("SCL.tif", half(8)[None].astype(np.uint8), transform=Affine(10, 0, 7e5, 0, -10, 5e6))
    with pytest.raises(NoOverlap):
        marked(image(land()), clouds=str(away))
    with pytest.raises(MissingBand, match="UDM2"):
        marked(image(land()), clouds=str(raster("x_udm2.tif", half(1)[None].astype(np.uint8))))


# products


def test_products_bring_their_own_masks(tmp_path):
    grass = {band: np.full((SIDE, SIDE), level) for band, level in zip(("B02", "B03", "B04"), GRASS, strict=False)}
    classes = half(9, 4, SIDE // 2)
    sentinel_2 = delivered.sentinel_2(tmp_path, grass, scene_classes=classes)
    quality = half(1 << 3, 1 << 6)
    landsat = delivered.landsat(tmp_path, {"B2": grass["B02"], "B3": grass["B03"], "B4": grass["B04"]}, quality=quality)
    mask = np.stack([half(0, 1), *[half(0)] * 4, half(1), half(90), half(0)])
    numbers = np.stack([grass["B02"], grass["B03"], grass["B04"], grass["B04"]]) * 10000
    planet = delivered.planet(tmp_path, numbers.astype(np.uint16), mask=mask)
    for path, why in (
        (sentinel_2, "scene classification"),
        (delivered.zipped(sentinel_2), "scene classification"),
        (landsat, "QA_PIXEL"),
        (planet, "UDM2"),
    ):
        found, scene = marked(path)
        assert np.array_equal(found, half(1) > 0), why
        assert why in scene.clouds.why


def test_level_1_of_sentinel_2_brings_its_own_classes(tmp_path):
    grass = {band: np.full((SIDE, SIDE), level) for band, level in zip(("B02", "B03", "B04"), GRASS, strict=False)}
    safe = delivered.sentinel_2(tmp_path, grass, name=delivered.S2_NAME.replace("L2A", "L1C"))
    classes = np.stack([half(1, 0, 20), half(0, 0, 20), half(0, 1, 20)]).astype(np.uint8)
    granule = next(safe.glob("GRANULE/*"))
    delivered.write(granule / "QI_DATA" / "MSK_CLASSI_B00.jp2", classes, 60.0, "JP2OpenJPEG")
    found, scene = marked(safe)
    assert np.array_equal(found, half(1) > 0)
    assert "cloud classification" in scene.clouds.why


# masking


def test_masked_clouds_leave_the_place_to_radar(image, raster, decibels):
    sar = raster("sar.tif", np.tile(decibels, (1, 2, 2))[:, :SIDE, :SIDE])
    path = image(land(A_CLOUD))
    with open_scene(path, sar, clouds="auto", mask_clouds=True) as scene:
        tile = scene.read(Window(0, 0, SIDE, SIDE))
        cloud = scene.clouds.read(Window(0, 0, SIDE, SIDE))
        assert np.array_equal(tile.optical_valid, ~cloud)
        assert (tile.optical[:, cloud] == 0).all()
        assert tile.sar_valid.all()
        assert scene.provenance()["clouds"] == {"masked": scene.clouds.why}
    with open_scene(path, sar, clouds="auto") as scene:
        assert scene.read(Window(0, 0, SIDE, SIDE)).optical_valid.all()
        assert "clouds" not in scene.provenance()


@pytest.fixture(scope="module")
def cloudy(tmp_path_factory):
    random = np.random.default_rng(6)
    pixels = land(A_CLOUD, ITS_SHADE, (CLOUD, slice(90, 118), slice(85, 120))) + random.normal(0, 0.01, (5, SIDE, SIDE))
    folder = tmp_path_factory.mktemp("cloudy")
    stored = np.clip(np.round(pixels * 10000), 1, 65535).astype(np.uint16)
    stored[:, random.random((SIDE, SIDE)) < 0.02] = 0
    path = delivered.write(folder / "s2.tif", stored, descriptions=BANDS)
    with open_scene(path, clouds="auto", mask_clouds=True) as scene:
        yield scene


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_window_equals_the_same_part_of_the_whole(cloudy, data):
    whole = cloudy.clouds.read(Window(0, 0, SIDE, SIDE))
    row, col = data.draw(st.integers(0, SIDE - 1)), data.draw(st.integers(0, SIDE - 1))
    inside = Window(row, col, data.draw(st.integers(1, 60)), data.draw(st.integers(1, 60))).intersection(
        Window(0, 0, SIDE, SIDE)
    )
    assert np.array_equal(cloudy.clouds.read(inside), whole[inside.slices])


def test_the_whole_grid_in_fewer_pixels_is_about_the_same(cloudy, image, raster):
    whole = cloudy.clouds.read(Window(0, 0, SIDE, SIDE))
    for shape in ((40, 40), (23, 40)):
        thinned = cloudy.clouds.thinned(shape)
        assert thinned.shape == shape
        assert thinned.mean() == pytest.approx(whole.mean(), abs=0.05)
    assert np.array_equal(cloudy.clouds.thinned((SIDE, SIDE)), whole)
    marks = raster("x_SCL.tif", half(9)[None].astype(np.uint8))
    with open_scene(image(land()), clouds=str(marks)) as scene:
        assert np.array_equal(scene.clouds.thinned((4, 3)), [[True] * 3] * 2 + [[False] * 3] * 2)


def test_a_pickled_scene_sees_the_same_clouds(cloudy):
    window = Window(10, 10, 70, 70)
    copy = pickle.loads(pickle.dumps(cloudy))
    assert np.array_equal(copy.clouds.read(window), cloudy.clouds.read(window))
    assert np.array_equal(copy.read(window).optical, cloudy.read(window).optical)
