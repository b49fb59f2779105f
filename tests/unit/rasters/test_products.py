"""Products as they are delivered become scenes with the right bands, scale, offset and facts."""

from __future__ import annotations

import json
import shutil
import tarfile

import numpy as np
import pytest

from mmovseg_geo.errors import MissingBand, SceneError
from mmovseg_geo.grid import Window
from mmovseg_geo.rasters.products import image_facts, radar_facts
from mmovseg_geo.rasters.products.names import relative_orbit, scene_name, told_by_name, told_by_tags
from mmovseg_geo.rasters.radiometry import BRIGHT_REFLECTANCE
from mmovseg_geo.rasters.scene import open_scene
from tests import delivered

SIDE = 60


def reflectance(band: str) -> np.ndarray:
    """(60, 60) of a level that tells the band, with a gradient."""
    level = {"B02": 0.04, "B03": 0.08, "B04": 0.12, "B08": 0.2, "B11": 0.16}[band]
    return level + np.add.outer(np.arange(SIDE), np.arange(SIDE)) / SIDE * 0.03


RGB = ("B04", "B03", "B02")
TEN_METERS = {band: reflectance(band) for band in ("B02", "B03", "B04", "B08")}
LANDSAT = {"B2": reflectance("B02"), "B3": reflectance("B03"), "B4": reflectance("B04"), "B5": reflectance("B08")}


def shown(image, **options):
    """The optical pixels of a scene as reflectance."""
    with open_scene(image, **options) as scene:
        tile = scene.read(Window(0, 0, *scene.shape))
        assert tile.optical_valid.all()
        return tile.optical / 255 * BRIGHT_REFLECTANCE


def true_color(*bands):
    return np.stack([reflectance(band) for band in bands or RGB])


def radar(level=300):
    return {"VV": np.full((40, 50), level, np.uint16), "VH": np.full((40, 50), level // 3, np.uint16)}


# Sentinel-2


@pytest.mark.parametrize("offset", [-1000, None])
@pytest.mark.parametrize("name", [delivered.S2_NAME, delivered.S2_NAME.replace("L2A", "L1C")])
def test_sentinel_2_is_scaled_by_its_metadata(tmp_path, offset, name):
    safe = delivered.sentinel_2(tmp_path, TEN_METERS, offset=offset, name=name)
    assert np.allclose(shown(safe), true_color(), atol=1e-4)
    facts = image_facts(safe)
    assert ("offset -1000" in facts.product.why) == (offset is not None)
    assert facts.product.told["baseline"] == "05.09"


def test_sentinel_2_may_be_named_by_any_of_its_doors(tmp_path):
    safe = delivered.sentinel_2(tmp_path, TEN_METERS)
    bands = next(safe.glob("GRANULE/*/IMG_DATA/R10m"))
    files = [str(next(bands.glob(f"*_{band}_10m.jp2"))) for band in RGB]
    for door in (safe, delivered.zipped(safe), safe / "MTD_MSIL2A.xml", bands, ",".join(files), files):
        assert np.allclose(shown(door), true_color(), atol=1e-4), door
        assert image_facts(door).product.name == delivered.S2_NAME


def test_an_archive_of_another_name_is_known_by_what_it_holds(tmp_path):
    path = delivered.zipped(delivered.sentinel_2(tmp_path, TEN_METERS), "download.zip")
    assert image_facts(path).product.name == delivered.S2_NAME


def test_other_bands_of_sentinel_2_come_at_the_size_they_share(tmp_path):
    at_20 = {f"{band}@20": reflectance(band)[::2, ::2] for band in ("B11", "B03", "B04")}
    safe = delivered.sentinel_2(tmp_path, {**TEN_METERS, **at_20})
    with open_scene(safe) as scene:
        assert scene.gsd_m == pytest.approx(10, rel=1e-3)
    with open_scene(safe, bands=("B11", "B04", "green")) as scene:
        assert scene.gsd_m == pytest.approx(20, rel=1e-3)
        tile = scene.read(Window(0, 0, *scene.shape))
    assert np.allclose(tile.optical / 255 * 0.3, true_color("B11", "B04", "B03")[:, ::2, ::2], atol=1e-4)


def test_a_number_asked_of_a_product_is_that_of_its_band(tmp_path):
    safe = delivered.sentinel_2(tmp_path, TEN_METERS)
    assert np.allclose(shown(safe, bands=(8, 4, 3)), true_color("B08", "B04", "B03"), atol=1e-4)


def test_band_files_without_metadata_are_scaled_by_their_names_and_values(tmp_path):
    for band in RGB:
        stored = (reflectance(band) * 10000).astype(np.uint16)
        delivered.write(tmp_path / f"T32TNS_20210601T101559_{band}.jp2", stored, driver="JP2OpenJPEG")
    files = [tmp_path / f"T32TNS_20210601T101559_{band}.jp2" for band in ("B02", "B04", "B03")]
    assert np.allclose(shown(files), true_color(), atol=2e-4)
    assert scene_name(files) == "T32TNS_20210601T101559"
    assert image_facts(files).product.told["acquired"] == "2021-06-01T10:15:59Z"
    assert np.allclose(shown(tmp_path), true_color(), atol=2e-4)


def test_three_files_whose_names_tell_nothing_are_red_green_blue(tmp_path):
    files = []
    for name, band in zip("xyz", RGB, strict=True):
        level = (reflectance(band) / 0.3 * 255).astype(np.uint8)
        files.append(delivered.write(tmp_path / f"{name}.tif", level))
    with open_scene(files) as scene:
        assert scene.optical.choice.why == "order of the files"
        assert scene.warnings == []
    assert np.allclose(shown(files), true_color(), atol=2e-3)


def test_missing_pixels_of_sentinel_2_are_zeros_in_every_band(tmp_path):
    holed = {band: np.where(np.arange(SIDE) < 20, np.nan, values) for band, values in TEN_METERS.items()}
    with open_scene(delivered.sentinel_2(tmp_path, holed)) as scene:
        valid = scene.read(Window(0, 0, SIDE, SIDE)).optical_valid
    assert not valid[:, :20].any()
    assert valid[:, 20:].all()


def test_a_mask_of_one_band_file_counts(tmp_path):
    import rasterio

    files = [delivered.write(tmp_path / f"{band}.tif", (reflectance(band) * 800).astype(np.uint8)) for band in RGB]
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(files[1], "r+") as dataset:
        dataset.write_mask(np.where(np.arange(SIDE) < 7, 0, 255) * np.ones((SIDE, 1), np.uint8))
    with open_scene(files) as scene:
        valid = scene.read(Window(0, 0, SIDE, SIDE)).optical_valid
    assert not valid[:, :7].any()
    assert valid[:, 7:].all()


def test_sentinel_2_without_a_band_says_which(tmp_path):
    safe = delivered.sentinel_2(tmp_path, {band: TEN_METERS[band] for band in ("B02", "B04")})
    with pytest.raises(MissingBand, match=r"lacks B3; it holds 10 m: B2, B4"):
        image_facts(safe)


def test_sentinel_2_bands_of_no_common_size_are_named(tmp_path):
    safe = delivered.sentinel_2(tmp_path, {**TEN_METERS, "B11@20": reflectance("B11")[::2, ::2]})
    with pytest.raises(MissingBand, match="B11, B4, B8 at no common pixel size"):
        image_facts(safe, ("B11", "B4", "B8"))


def test_sentinel_2_without_metadata_or_bands_is_incomplete(tmp_path):
    with pytest.raises(SceneError, match=r"no MTD_MSIL1C\.xml or MTD_MSIL2A\.xml"):
        image_facts(delivered.sentinel_2(tmp_path / "a", TEN_METERS, metadata=False))
    with pytest.raises(MissingBand, match="holds no band files"):
        image_facts(delivered.sentinel_2(tmp_path / "b", {}))


def test_damaged_metadata_name_the_file(tmp_path):
    safe = delivered.sentinel_2(tmp_path, TEN_METERS)
    (safe / "MTD_MSIL2A.xml").write_text("<cut")
    with pytest.raises(SceneError, match=r"MTD_MSIL2A\.xml: not an XML file"):
        image_facts(safe)
    (safe / "MTD_MSIL2A.xml").write_text("<a><BOA_QUANTIFICATION_VALUE>ten</BOA_QUANTIFICATION_VALUE></a>")
    with pytest.raises(SceneError, match=r"BOA_QUANTIFICATION_VALUE or BOA_ADD_OFFSET is no number"):
        image_facts(safe)


def test_mixed_tiles_are_refused(tmp_path):
    one = delivered.write(tmp_path / "T32TNS_20210601T101559_B04.tif", np.ones((9, 9), np.uint16))
    two = delivered.write(tmp_path / "T33TNS_20210601T101559_B03.tif", np.ones((9, 9), np.uint16), crs="EPSG:32633")
    with pytest.raises(SceneError, match=r"one pixel grid.\n.*tile 32TNS.*\n.*tile 33TNS.*\n.*Mosaic"):
        image_facts([one, two, one])
    coarse = delivered.write(tmp_path / "T32TNS_20210601T101559_B11.tif", np.ones((5, 5), np.uint16), 20.0)
    with pytest.raises(SceneError, match="one pixel size"):
        image_facts([one, coarse, one])
    safe = delivered.sentinel_2(tmp_path, TEN_METERS)
    images = next(safe.glob("GRANULE/*/IMG_DATA/R10m"))
    shutil.copy(next(images.glob("*_B04_10m.jp2")), images / "T33TNS_20230115T051121_B04_10m.jp2")
    with pytest.raises(SceneError, match="holds the tiles T32TNS, T33TNS"):
        image_facts(safe)


# Landsat


@pytest.mark.parametrize("metadata", [True, False])
def test_landsat_level_2_is_scaled_by_its_own_group_of_the_metadata(tmp_path, metadata):
    folder = delivered.landsat(tmp_path, LANDSAT, metadata=metadata)
    assert np.allclose(shown(folder), true_color(), atol=3e-5)
    told = image_facts(folder).product.told
    assert told["mission"] == "Landsat 8"
    assert told["acquired"] == ("2021-06-01T10:02:11Z" if metadata else "2021-06-01")


def test_landsat_level_1_is_reflectance_under_the_sun_as_it_stood(tmp_path):
    folder = delivered.landsat(tmp_path, LANDSAT, name="LC09_L1TP_190031_20220601_20220602_02_T1")
    assert np.allclose(shown(folder), true_color(), atol=6e-5)
    assert "sine of the sun's height" in image_facts(folder).product.why


def test_older_landsats_number_their_bands_otherwise(tmp_path):
    older = {"B1": reflectance("B02"), "B2": reflectance("B03"), "B3": reflectance("B04"), "B4": reflectance("B08")}
    folder = delivered.landsat(tmp_path, older, name="LT05_L2SP_190031_20100601_20200823_02_T1")
    assert np.allclose(shown(folder), true_color(), atol=3e-5)
    files = [next(folder.glob(f"*_{band}.TIF")) for band in ("B3", "B2", "B1")]
    assert np.allclose(shown(files), true_color(), atol=3e-5)


def test_landsat_comes_as_tar_too(tmp_path):
    folder = delivered.landsat(tmp_path, LANDSAT)
    path = tmp_path / f"{delivered.LANDSAT_NAME}.tar"
    with tarfile.open(path, "w") as bundle:
        for file in sorted(folder.iterdir()):
            bundle.add(file, file.name)
    shutil.rmtree(folder)
    assert np.allclose(shown(path), true_color(), atol=3e-5)
    assert scene_name(path) == delivered.LANDSAT_NAME


def test_landsat_without_a_color_says_which(tmp_path):
    folder = delivered.landsat(tmp_path, {band: LANDSAT[band] for band in ("B2", "B4")})
    with pytest.raises(MissingBand, match="lacks the green band"):
        image_facts(folder)


# PlanetScope


def numbers(*bands):
    return np.stack([np.round(reflectance(band) * 10000) for band in bands]).astype(np.uint16)


@pytest.mark.parametrize(
    ("bands", "asset"),
    [
        (("B02", "B03", "B04", "B08"), "AnalyticMS_SR"),
        (("B08", "B02", "B08", "B03", "B08", "B04", "B08", "B08"), "AnalyticMS_SR_8b"),
    ],
)
def test_planet_bands_are_told_by_their_number(tmp_path, bands, asset):
    path = delivered.planet(tmp_path, numbers(*bands), asset=asset)
    assert np.allclose(shown(path), true_color(), atol=1e-4)
    told = image_facts(path).product.told
    assert told["mission"] == "PlanetScope"
    assert told["cloud cover"] == "25.0 %"


def test_planet_radiance_becomes_reflectance_by_a_coefficient_for_each_band(tmp_path):
    coefficients = (2.3e-5, 2.5e-5, 2.8e-5, 4.1e-5)
    stored = np.stack([reflectance(b) / c for b, c in zip(("B02", "B03", "B04", "B08"), coefficients, strict=True)])
    folder = tmp_path / "order"
    path = delivered.planet(folder, stored.astype(np.uint16), asset="AnalyticMS", coefficients=coefficients)
    assert np.allclose(shown(path), true_color(), atol=1e-4)
    archive = delivered.zipped(folder, "../order.zip")
    for named in (archive, f"/vsizip/{archive}/order/{path.name}"):
        assert np.allclose(shown(named), true_color(), atol=1e-4)


def test_planet_is_told_by_its_name_wherever_it_lies(tmp_path):
    path = delivered.planet(tmp_path / "order", numbers("B02", "B03", "B04", "B08"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.path.isfile", lambda _: False)  # as of an address
        assert np.allclose(shown(path), true_color(), atol=1e-4)
        assert image_facts(path).product.told["mission"] == "PlanetScope"
    with pytest.raises(SceneError, match="no such file"):
        image_facts(tmp_path / path.name)


def test_planet_metadata_without_every_coefficient_is_named(tmp_path):
    path = delivered.planet(tmp_path, numbers("B02", "B03", "B04", "B08"), asset="AnalyticMS", coefficients=(2.3e-5,))
    with pytest.raises(SceneError, match="no reflectance coefficient of every band"):
        image_facts(path)


def test_a_picture_of_planet_is_a_picture(tmp_path):
    path = delivered.planet(tmp_path, np.full((4, SIDE, SIDE), 200, np.uint8), asset="Visual")
    with open_scene(path) as scene:
        assert scene.optical.scaling.name == "8bit"
        assert scene.optical.choice.bands == (1, 2, 3)


# Sentinel-1


def test_sentinel_1_may_be_named_by_any_of_its_doors(tmp_path):
    safe = delivered.sentinel_1(tmp_path, radar(), sigma=600.0)
    files = ",".join(
        str(path) for path in sorted(safe.glob("measurement/*vh*")) + sorted(safe.glob("measurement/*vv*"))
    )
    for door in (safe, delivered.zipped(safe), safe / "manifest.safe", files):
        with open_scene(sar=door, gcps="tps") as scene:
            assert [layer.choice.names for layer in scene.sar] == [("VV",), ("VH",)]
            assert [layer.found.ranges[0][1] for layer in scene.sar] == pytest.approx([0.25, 1 / 36])
            told = scene.describe()["sar"][0]["product"]
            assert told["pass"] == "descending"
            assert told["relative orbit"] == "165"
            assert scene.provenance()["sar"][0]["product"]["name"] == delivered.S1_NAME


def test_a_copy_of_sentinel_1_on_amazon_has_other_names(tmp_path):
    safe = delivered.sentinel_1(tmp_path, radar(), manifest=False, noise=10.0)
    copy = tmp_path / "copy"
    for file in safe.rglob("*.*"):
        if file.is_file():
            head = file.name.partition("s1a-iw")[0]
            name = f"{head}iw-{'vv' if '-vv-' in file.name else 'vh'}{file.suffix}"
            (copy / file.relative_to(safe).parent).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy / file.relative_to(safe).parent / name)
    info = {"missionId": "S1A", "absoluteOrbitNumber": 22812, "startTime": "2018-07-16T00:40:42", "polarization": "DV"}
    (copy / "productInfo.json").write_text(json.dumps(info))
    for facts in (*radar_facts(copy), *radar_facts(copy / "measurement" / "iw-vv.tiff")):
        assert facts.calibration.noise is not None
        assert facts.product.meaning == "power"
        assert facts.product.told["relative orbit"] == "165"


def test_one_polarization_is_enough(tmp_path):
    facts = radar_facts(delivered.sentinel_1(tmp_path, {"HH": radar()["VV"]}))
    assert [one.product.told["polarization"] for one in facts] == ["HH"]


@pytest.mark.parametrize(("kind", "words"), [("SLC", "single-look complex"), ("OCN", "holds no backscatter image")])
def test_other_products_of_sentinel_1_are_refused_with_advice(tmp_path, kind, words):
    safe = delivered.sentinel_1(tmp_path, radar(), name=delivered.S1_NAME.replace("GRDH", f"{kind}_"))
    with pytest.raises(SceneError, match=words):
        radar_facts(safe)
    disguised = delivered.sentinel_1(tmp_path / "renamed", radar(), kind=kind, name="scene")
    with pytest.raises(SceneError, match=words):
        radar_facts(disguised)


def test_an_incomplete_sentinel_1_is_refused(tmp_path):
    safe = delivered.sentinel_1(tmp_path, {})
    with pytest.raises(SceneError, match="holds no measurement"):
        radar_facts(safe)


def test_damaged_calibration_is_named(tmp_path):
    safe = delivered.sentinel_1(tmp_path, radar())
    for path in safe.glob("annotation/calibration/*.xml"):
        path.write_text(path.read_text().replace("<sigmaNought>", "<sigmaNought>x "))
    with pytest.raises(SceneError, match="no calibration vectors that can be used"):
        radar_facts(safe)


def test_terrain_corrected_polarizations_may_come_in_one_folder(tmp_path):
    name = "S1A_IW_20210110T000531_DVP_RTC30_G_gdunem_5C7E"
    for polarization, level in (("VV", -10.0), ("VH", -17.0)):
        delivered.write(tmp_path / name / f"{name}_{polarization}.tif", np.full((20, 20), level, np.float32))
    with open_scene(sar=tmp_path / name) as scene:
        assert [layer.choice.names for layer in scene.sar] == [("VV",), ("VH",)]
        assert {layer.scaling.kind for layer in scene.sar} == {"db"}
        assert scene.sar[0].scaling.why == "product name of HyP3"
        assert scene.describe()["sar"][0]["product"]["level"] == "IW RTC"


def test_sensors_in_each_others_places_are_told_apart(tmp_path):
    sentinel_1, sentinel_2 = delivered.sentinel_1(tmp_path, radar()), delivered.sentinel_2(tmp_path, TEN_METERS)
    with pytest.raises(MissingBand, match="is a radar image of Sentinel-1"):
        image_facts(sentinel_1)
    with pytest.raises(MissingBand, match="is an optical image"):
        radar_facts(sentinel_2)
    three = delivered.write(tmp_path / "s1.tif", np.ones((3, 9, 9), np.float32), descriptions=["VV", "VH", "ratio"])
    with pytest.raises(MissingBand, match="named VV, VH"):
        open_scene(three)


# folders and archives that are none


def test_a_folder_or_archive_without_a_product_names_what_it_holds(tmp_path):
    folder = tmp_path / "mine"
    delivered.write(folder / "a.tif", np.ones((3, 9, 9), np.uint8))
    for path, words in ((folder, "is a folder"), (delivered.zipped(folder), "is an archive")):
        for read in (image_facts, radar_facts):
            with pytest.raises(SceneError, match=rf"{words}.*\n.*a\.tif"):
                read(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SceneError, match="It holds no rasters"):
        image_facts(tmp_path / "empty")


def test_a_damaged_archive_is_named(tmp_path):
    path = tmp_path / "cut.zip"
    path.write_bytes(b"PK not a zip")
    with pytest.raises(SceneError, match=r"cut\.zip: not an archive"):
        image_facts(path)


def test_two_files_of_a_band_are_not_chosen_from(tmp_path):
    for name in ("a_B04", "b_B04", "a_B03", "a_B02"):
        delivered.write(tmp_path / f"{name}.tif", np.ones((9, 9), np.uint16))
    with pytest.raises(SceneError, match=r"more than one file of a band: .*a_B04\.tif, .*b_B04\.tif"):
        image_facts(tmp_path)


# names and tags


@pytest.mark.parametrize(
    ("stem", "told"),
    [
        (delivered.S1_NAME, ("Sentinel-1A", "IW GRDH", "2018-07-16T00:40:42Z", "165", "22812", "VV VH")),
        ("s1b-ew-grd-hv-20200101t101010-20200101t101110-019632-0251a1-002",
         ("Sentinel-1B", "EW GRD", "2020-01-01T10:10:10Z", "6", "19632", "HV")),
        ("S1A_IW_GRDH_20180716T004042_vv", ("Sentinel-1A", "IW GRDH", "2018-07-16T00:40:42Z")),
        ("S1A_IW_20210110T000531_DVP_RTC30_G_gpunem_5C7E_VV", ("Sentinel-1A", "IW RTC", "2021-01-10T00:05:31Z")),
        ("OPERA_L2_RTC-S1_T035-073251-IW2_20230418T015952Z_20230418T180512Z_S1A_30_v1.0_VV",
         ("Sentinel-1A", "OPERA RTC", "2023-04-18T01:59:52Z", "35")),
        (delivered.S2_NAME, ("Sentinel-2B", "L2A", "2023-01-15T05:11:21Z", "19", "32TNS", "05.09")),
        ("T32TNS_20210601T101559_B04_10m", ("Sentinel-2", "2021-06-01T10:15:59Z", "32TNS")),
        ("LE07_L1TP_190031_20010601_20200823_02_T1_B3",
         ("Landsat 7", "L1TP collection 2", "2001-06-01", "190", "31")),
        ("20210601_101559_03_245d_3B_AnalyticMS_SR", ("PlanetScope", "3B AnalyticMS", "2021-06-01T10:15:59Z", "245d")),
        ("my_field_20210601", ()),
    ],
)  # fmt: skip
def test_names_tell_mission_date_and_orbit(stem, told):
    assert tuple(told_by_name(stem).values()) == told


def test_tags_tell_date_and_pass_whoever_wrote_them():
    told = told_by_tags({"ORBIT_PASS_DIRECTION": "Ascending", "ZERO_DOPPLER_START_TIME": "2023-04-18T01:59:52.1Z"})
    assert told == {"pass": "ascending", "acquired": "2023-04-18T01:59:52.1Z"}
    assert told_by_tags({"ORBIT_DIRECTION": "D", "TRACK_NUMBER": "35"}) == {
        "pass": "descending",
        "relative orbit": "35",
    }
    assert told_by_tags({"ORBIT": "22812", "TIFFTAG_DATETIME": "2018:07:16 06:06:23", "AREA_OR_POINT": "Area"}) == {}


def test_orbits_repeat():
    assert relative_orbit("S1A", 22812) == "165"
    assert relative_orbit("S1A", 22812 + 175) == "165"
    assert relative_orbit("S1C", 500) == ""


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("a/S2A.SAFE", "S2A"),
        ("a/S2A.SAFE/", "S2A"),
        ("b/S2A.SAFE.zip", "S2A"),
        ("b/LC08_x.tar.gz", "LC08_x"),
        ("b/LC08_x/LC08_x_MTL.txt", "LC08_x"),
        ("b/S2A.SAFE/MTD_MSIL2A.xml", "S2A"),
        ("x/B04.jp2,x/B03.jp2,x/B02.jp2", "x"),
        ("https://a.b/tiles/S2A_1/B04.tif?x=1/2,https://a.b/tiles/S2A_1/B03.tif?x=1/3", "S2A_1"),
        ("x/B04.jp2,y/B03.jp2", "B04"),
        ("/B04.jp2,/B03.jp2", "B04"),
        ("x/red_tile-7.tif,x/green_tile-7.tif,x/blue_tile-7.tif", "tile-7"),
        ("x/scene_red.tif,x/scene_green.tif,x/scene_blue.tif", "scene"),
        ("s1/vv.tif,s1/vh.tif", "s1"),
        ("some.scene.tif", "some.scene"),
    ],
)
def test_a_scene_is_called_by_its_product(given, name):
    assert scene_name(given) == name


def test_bands_that_share_nothing_are_called_by_their_folder_however_it_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bare = ["B04.tif", "B03.tif", "B02.tif"]
    assert scene_name(",".join(bare)) == tmp_path.name
    assert scene_name([tmp_path / name for name in bare]) == tmp_path.name
