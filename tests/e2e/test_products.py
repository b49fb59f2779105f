"""Products as they are delivered go through the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio

from tests import delivered

SIDE = 64
LEFT = np.arange(SIDE)[None, :] < 32
WORDS = ("--classes", "dark,bright")


def halves(dark: float, bright: float) -> np.ndarray:
    return np.where(LEFT, dark, bright) * np.ones((SIDE, 1))


@pytest.fixture
def sentinel_2(here):
    bands = {band: halves(0.02, 0.28) for band in ("B02", "B03", "B04", "B08")}
    return delivered.sentinel_2(here, bands)


@pytest.fixture
def sentinel_1(here):
    numbers = {"VV": halves(30, 450).astype(np.uint16), "VH": halves(15, 150).astype(np.uint16)}
    return delivered.sentinel_1(here, numbers)


@pytest.fixture
def landsat(here):
    return delivered.landsat(here, {band: halves(0.02, 0.28) for band in ("B2", "B3", "B4", "B5")})


def planet(here, bands):
    numbers = np.stack([halves(200, 2800)] * bands).astype(np.uint16)
    return delivered.planet(here, numbers, asset="AnalyticMS_SR" if bands == 4 else "AnalyticMS_SR_8b")


def labels(here, name):
    with rasterio.open(here / "map" / f"{name}_labels.tif") as dataset:
        return dataset.read(1), json.loads(dataset.tags()["mmovseg_inputs"])


def mapped(run, here, *arguments):
    result = run("segment", *arguments, *WORDS, "-o", "map", "--no-preview")
    assert result.exit_code == 0, result.output
    return result


def test_a_sentinel_2_folder_becomes_a_map_on_its_grid(run, here, sentinel_2):
    mapped(run, here, sentinel_2)
    found, inputs = labels(here, delivered.S2_NAME)
    assert np.array_equal(found, np.where(LEFT, 1, 2) * np.ones((SIDE, 1)))
    assert inputs["optical"]["product"]["acquired"] == "2023-01-15T05:11:21Z"


def test_zips_of_both_sensors_become_a_map(run, here, sentinel_2, sentinel_1):
    result = mapped(run, here, delivered.zipped(sentinel_2), delivered.zipped(sentinel_1), "--gcps", "tps")
    assert "control points" in result.stderr
    found, inputs = labels(here, delivered.S2_NAME)
    assert np.array_equal(found, np.where(LEFT, 1, 2) * np.ones((SIDE, 1)))
    assert [part["product"]["polarization"] for part in inputs["sar"]] == ["VV", "VH"]
    assert inputs["sar"][0]["product"]["pass"] == "descending"
    assert str(here) not in json.dumps(inputs)


def test_a_radar_product_alone_becomes_a_map(run, here, sentinel_1):
    mapped(run, here, sentinel_1, "--sar-only", "--gcps", "tps")
    found, _ = labels(here, delivered.S1_NAME)
    assert {1, 2} <= set(np.unique(found).tolist()) <= {1, 2, 255}


@pytest.mark.parametrize("bands", [4, 8])
def test_planet_files_become_maps(run, here, bands):
    path = planet(here, bands)
    mapped(run, here, path)
    assert set(np.unique(labels(here, path.stem)[0]).tolist()) == {1, 2}


def test_landsat_folders_become_maps(run, here, landsat):
    mapped(run, here, landsat)
    assert set(np.unique(labels(here, delivered.LANDSAT_NAME)[0]).tolist()) == {1, 2}


def test_band_files_become_a_map_called_by_what_they_share(run, here, write):
    for band in ("B02", "B03", "B04"):
        write(f"T32TNS_20210601T101559_{band}.tif", halves(200, 2800).astype(np.uint16)[None])
    names = ",".join(f"T32TNS_20210601T101559_{band}.tif" for band in ("B04", "B03", "B02"))
    mapped(run, here, names)
    assert set(np.unique(labels(here, "T32TNS_20210601T101559")[0]).tolist()) == {1, 2}


def test_aerial_pictures_with_alpha_become_maps(run, here, write):
    pixels = np.stack([halves(10, 240)] * 3 + [np.where(np.arange(SIDE)[:, None] < 9, 0, 255) * np.ones((1, SIDE))])
    write("aerial.tif", pixels.astype(np.uint8), photometric="RGB", alpha="YES")
    mapped(run, here, "aerial.tif")
    found = labels(here, "aerial")[0]
    assert (found[:9] == 255).all()
    assert set(np.unique(found[9:]).tolist()) == {1, 2}


def test_a_run_twice_gives_equal_bytes(run, here, sentinel_2, sentinel_1):
    arguments = (sentinel_2, sentinel_1, "--gcps", "tps", "--speckle", "refined-lee")
    mapped(run, here, *arguments)
    first = (here / "map" / f"{delivered.S2_NAME}_labels.tif").read_bytes()
    mapped(run, here, *arguments, "--overwrite")
    assert (here / "map" / f"{delivered.S2_NAME}_labels.tif").read_bytes() == first


def test_products_are_aligned_and_written_as_backscatter(run, here, sentinel_2, sentinel_1):
    result = run("coregister", sentinel_2, sentinel_1, "--gcps", "tps", "-o", "aligned")
    assert result.exit_code == 0, result.output
    path = next((here / "aligned").glob("*-vv-*_aligned.tif"))
    with rasterio.open(path) as dataset:
        assert dataset.dtypes == ("float32",)
        values = dataset.read(1)
    assert np.nanmax(values) == pytest.approx(450**2 / 500**2, rel=0.01)


def test_info_tells_what_a_product_says_of_itself(run, here, sentinel_1, sentinel_2):
    result = run("info", sentinel_1, "--gcps", "tps")
    assert result.exit_code == 0, result.output
    for words in (
        delivered.S1_NAME,
        "Sentinel-1A, IW GRD HR, 2018-07-16T00:40:42Z, descending, relative orbit 165, absolute orbit 22812, VV",
        "calibrated to sigma nought by the annotation",
    ):
        assert words in result.stdout
    told = json.loads(run("info", delivered.zipped(sentinel_2), "--json").stdout)
    assert told["optical"]["product"]["baseline"] == "05.09"
    assert told["optical"]["scaling"]["offset"] == pytest.approx(-0.1)


def test_info_tells_of_a_swath_before_it_is_asked_how_to_warp_it(run, sentinel_1):
    result = run("info", sentinel_1)
    assert result.exit_code == 0, result.output
    assert "16 control points" in result.stdout
    assert "say --gcps tps" in result.stderr


def test_info_of_an_incomplete_product_says_what_it_lacks(run, here):
    safe = delivered.sentinel_2(here, {"B02": halves(0.02, 0.28), "B04": halves(0.02, 0.28)})
    result = run("info", safe)
    assert result.exit_code == 1
    assert "lacks B3" in result.stderr


def test_clouds_of_a_product_are_told_and_masked(run, here):
    bands = {band: halves(0.02, 0.28) for band in ("B02", "B03", "B04")}
    classes = np.where(np.arange(32)[:, None] < 8, 9, 4) * np.ones((32, 32), np.int64)
    safe = delivered.sentinel_2(here, bands, scene_classes=classes)
    assert "clouds   25.0 % of the optical image" in run("info", safe).stdout
    mapped(run, here, safe, "--mask-clouds")
    found, inputs = labels(here, delivered.S2_NAME)
    assert (found[:16] == 255).all()
    assert np.array_equal(found[16:], (np.where(LEFT, 1, 2) * np.ones((SIDE, 1)))[16:])
    assert "scene classification" in inputs["clouds"]["masked"]
    report = json.loads((here / "map" / f"{delivered.S2_NAME}_run.json").read_text())
    assert report["scene"]["clouds"]["share"] == 0.25
    mapped(run, here, safe, "--clouds", "off", "--overwrite")
    assert (labels(here, delivered.S2_NAME)[0] != 255).all()


def test_a_mask_that_is_not_there_is_named(refused, here, sentinel_2):
    assert "nowhere.tif: no such file" in refused("segment", sentinel_2, *WORDS, "--clouds", "nowhere.tif")


def test_a_batch_takes_products_from_a_folder_and_a_table(run, here, sentinel_2, landsat):
    zipped = delivered.zipped(sentinel_2)
    (here / "scenes.csv").write_text(f"optical,sar\n{zipped.name},\n{landsat.name},\n")
    result = run("batch", "scenes.csv", *WORDS, "-o", "maps", "--no-preview", "--no-polygons")
    assert result.exit_code == 0, result.output
    assert len(list(here.glob("maps/*/*_labels.tif"))) == 2
    again = run("batch", "scenes.csv", *WORDS, "-o", "maps", "--no-preview", "--no-polygons")
    assert "skipped" in again.output
    (here / "in").mkdir()
    sentinel_2.rename(here / "in" / sentinel_2.name)
    result = run("batch", "in", *WORDS, "-o", "others", "--no-preview", "--no-polygons")
    assert result.exit_code == 0, result.output
    assert (here / "others" / delivered.S2_NAME / f"{delivered.S2_NAME}_labels.tif").exists()


def test_products_that_cannot_be_read_end_in_advice(refused, here, sentinel_1, sentinel_2):
    assert "--gcps tps" in refused("segment", sentinel_2, sentinel_1, *WORDS)
    assert "is a radar image of Sentinel-1" in refused("segment", sentinel_1, *WORDS)
    assert "is an optical image" in refused("segment", sentinel_2, sentinel_2, *WORDS)
    complex_product = delivered.sentinel_1(here, {}, name=delivered.S1_NAME.replace("GRDH", "SLC_"))
    assert "deburst" in refused("segment", sentinel_2, complex_product, *WORDS)
    assert "deburst" in refused("info", complex_product)


def test_a_zip_that_is_no_product_is_named(refused, here):
    (here / "docs").mkdir()
    (here / "docs" / "readme.txt").write_text("hello")
    assert "no product that is known here" in refused("segment", delivered.zipped(here / "docs"), *WORDS)
    (here / "cut.zip").write_bytes(b"PK")
    assert "not an archive that can be read" in refused("info", "cut.zip")
