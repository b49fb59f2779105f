"""`mmovseg coregister`, and `segment --coregister`, through the real command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio
from PIL import Image
from scipy.spatial import KDTree

from mmovseg_geo.rasters.scene import open_scene

SIDE = 192
SHIFT = (3, -2)


@pytest.fixture
def fields():
    """Optical (3, H, W) and SAR (1, H, W) of random fields; SAR content must move by SHIFT."""
    rng = np.random.default_rng(5)
    points = rng.uniform(0, SIDE + 40, (90, 2))
    nearest = KDTree(points).query(np.moveaxis(np.mgrid[0 : SIDE + 40, 0 : SIDE + 40], 0, -1))[1]
    optical = rng.uniform(20, 230, (3, 90))[:, nearest[20 : 20 + SIDE, 20 : 20 + SIDE]]
    at = (20 + SHIFT[0], 20 + SHIFT[1])
    sar = rng.uniform(-22, -2, 90)[nearest[at[0] : at[0] + SIDE, at[1] : at[1] + SIDE]]
    return optical.astype(np.uint8), (sar + rng.normal(0, 2, sar.shape))[None].astype(np.float32)


@pytest.fixture
def pair(write, fields):
    return write("s2.tif", fields[0]), write("s1.tif", fields[1])


def test_the_aligned_image_lies_on_the_optical_grid(run, here, pair, fields):
    result = run("coregister", *pair, "-o", "aligned")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (here / "aligned").iterdir()) == [
        "s1_aligned.tif",
        "s2_coregistration.json",
        "s2_coregistration.png",
    ]
    record = json.loads((here / "aligned" / "s2_coregistration.json").read_text())
    assert record["applied"]
    assert record["shift"]["confident"]
    assert (record["shift"]["rows"], record["shift"]["cols"]) == pytest.approx(SHIFT, abs=0.3)
    with rasterio.open("aligned/s1_aligned.tif") as aligned, rasterio.open("s2.tif") as optical:
        assert (aligned.crs, aligned.transform, aligned.shape) == (optical.crs, optical.transform, optical.shape)
        assert aligned.dtypes == ("float32",)
        values = aligned.read(1)
    assert np.isnan(values[:2]).all()
    there = fields[1][0][: -SHIFT[0], -SHIFT[1] :]
    assert np.corrcoef(np.nan_to_num(values[SHIFT[0] :, : SHIFT[1]]).ravel(), there.ravel())[0, 1] > 0.7
    with Image.open("aligned/s2_coregistration.png") as picture:
        assert picture.width > 1500


def test_equal_inputs_give_equal_bytes(run, here, pair):
    for folder in ("one", "two"):
        assert run("coregister", *pair, "-o", folder).exit_code == 0
    for path in (here / "one").iterdir():
        assert path.read_bytes() == (here / "two" / path.name).read_bytes(), path.name


def test_a_check_measures_and_writes_nothing(run, here, pair):
    before = sorted(here.rglob("*"))
    result = run("coregister", *pair, "--check", "--json")
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert told["command"] == "coregister"
    assert told["shift"]["confident"] is True
    assert set(told["shift"]) == {"rows", "cols", "confidence", "confident"}
    assert sorted(here.rglob("*")) == before


def test_segment_aligns_by_itself_and_says_so(run, here, pair):
    result = run("segment", *pair, "--classes", "low,high", "-o", "map", "--no-polygons")
    assert result.exit_code == 0, result.output
    assert "windows together say" in result.stderr
    report = json.loads((here / "map" / "s2_run.json").read_text())
    assert (report["shift"]["rows"], report["shift"]["cols"]) == pytest.approx(SHIFT, abs=0.3)
    assert report["coregistration"]["how"] == "auto"
    with rasterio.open("map/s2_labels.tif") as labels:
        assert '"rows"' in " ".join(labels.tags().values())


def test_a_record_is_applied_and_equals_the_estimate(run, here, pair):
    assert run("coregister", *pair, "-o", "aligned").exit_code == 0
    record = "aligned/s2_coregistration.json"
    for name, how in (("auto", "auto"), ("file", record)):
        result = run("segment", *pair, "--classes", "low,high", "-o", name, "--no-polygons", "--coregister", how)
        assert result.exit_code == 0, result.output
    with rasterio.open("auto/s2_labels.tif") as one, rasterio.open("file/s2_labels.tif") as other:
        np.testing.assert_array_equal(one.read(), other.read())


def test_off_leaves_the_image_where_it_is(run, here, pair):
    result = run("segment", *pair, "--classes", "low,high", "-o", "map", "--no-polygons", "--coregister", "off")
    assert result.exit_code == 0
    report = json.loads((here / "map" / "s2_run.json").read_text())
    assert report["shift"] == {"rows": 0.0, "cols": 0.0}
    assert report["coregistration"] is None


def test_info_tells_the_alignment(run, pair):
    assert "windows together say" in run("info", *pair).stdout


def test_places_under_clouds_are_not_compared_and_their_share_is_told(run, here, write, fields):
    optical, hidden = fields[0].copy(), slice(0, SIDE // 2)
    optical[:, hidden] = np.random.default_rng(6).integers(0, 255, optical[:, hidden].shape)
    classes = np.full((1, SIDE, SIDE), 4, np.uint8)
    classes[:, hidden] = 9
    pair = write("s2.tif", optical), write("s1.tif", fields[1])
    mask = write("x_SCL.tif", classes)
    result = run("coregister", *pair, "--check", "--json", "--clouds", mask)
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["windows"]["cloud"] == sum(record["windows"].values()) // 2
    assert record["clouds"] == {
        "share": 0.5,
        "why": "scene classification of Sentinel-2, x_SCL.tif",
        "sure": True,
    }
    assert (record["shift"]["rows"], record["shift"]["cols"]) == pytest.approx(SHIFT, abs=0.4)
    assert run("segment", *pair, "--classes", "low,high", "-o", "map", "--clouds", mask).exit_code == 0
    report = json.loads((here / "map" / "s2_run.json").read_text())
    assert report["scene"]["clouds"]["share"] == 0.5
    assert report["coregistration"]["windows"] == record["windows"]
    everywhere = write("y_SCL.tif", np.full_like(classes, 9))
    result = run("coregister", *pair, "--check", "--clouds", everywhere)
    assert "100 % of windows are cloud; shift not applied" in result.stdout


def test_small_scenes_are_left_alone_in_words(run, scene):
    result = run("info", *scene)
    assert "too few to tell" in result.stdout


@pytest.mark.parametrize("model", ["affine", "field"])
def test_every_model_writes_a_record_that_segment_reads(run, here, pair, model):
    result = run("coregister", *pair, "-o", model, "--model", model)
    assert result.exit_code == 0, result.output
    record = json.loads((here / model / "s2_coregistration.json").read_text())
    assert record["model"]["asked"] == model
    with open_scene(*pair) as plain:
        from mmovseg_geo.rasters.registration import coregistered

        assert coregistered(plain, f"{model}/s2_coregistration.json").shift == pytest.approx(SHIFT, abs=0.4)


@pytest.mark.parametrize(
    ("turn", "says"),
    [(lambda x: x[..., ::-1], "mirrored"), (lambda x: np.rot90(x, 1, (-2, -1)), "rotated")],
)
def test_turned_images_are_told_and_left_alone(run, here, write, fields, turn, says):
    sar = np.ascontiguousarray(turn(fields[1]))
    write("s2.tif", fields[0]), write("s1.tif", sar)
    result = run("coregister", "s2.tif", "s1.tif", "-o", "aligned")
    assert result.exit_code == 0, result.output
    assert says in result.stderr
    record = json.loads((here / "aligned" / "s2_coregistration.json").read_text())
    assert not record["applied"]
    assert not record["shift"]["confident"]
    with rasterio.open("aligned/s1_aligned.tif") as aligned:
        np.testing.assert_array_equal(aligned.read(), sar)


def test_all_water_is_told(run, write):
    rng = np.random.default_rng(0)
    write("s2.tif", np.full((3, SIDE, SIDE), 20, np.uint8))
    write("s1.tif", rng.normal(-24, 1, (1, SIDE, SIDE)).astype(np.float32))
    result = run("coregister", "s2.tif", "s1.tif", "--check")
    assert result.exit_code == 0
    assert "100 % of windows are water; shift not applied" in result.stdout


def test_no_texture_is_told(run, write, fields):
    write("s2.tif", np.full((3, SIDE, SIDE), 200, np.uint8))
    write("s1.tif", fields[1])
    result = run("coregister", "s2.tif", "s1.tif", "--check")
    assert "100 % of windows are without texture; shift not applied" in result.stdout


def test_one_valid_stripe_is_told(run, write, fields):
    write("s2.tif", fields[0])
    sar = np.full_like(fields[1], np.nan)
    sar[:, 90:98] = fields[1][:, 90:98]
    write("s1.tif", sar, nodata=float("nan"))
    result = run("coregister", "s2.tif", "s1.tif", "--check")
    assert "without data" in result.stdout
    assert json.loads(run("coregister", "s2.tif", "s1.tif", "--check", "--json").stdout)["shift"]["confident"] is False


def test_ten_times_coarser_pixels_are_told(run, write, fields):
    write("s2.tif", fields[0])
    write("s1.tif", fields[1][:, :20, :20], transform=rasterio.Affine(100, 0, 500000, 0, -100, 5000000))
    result = run("coregister", "s2.tif", "s1.tif", "--check")
    assert result.exit_code == 0
    assert "10 times coarser" in result.stdout


def test_other_years_are_warned_of(run, write, fields):
    pair = write("S2A_20170612T101031.tif", fields[0]), write("S1A_IW_20190918T004042.tif", fields[1])
    result = run("coregister", *pair, "--check")
    assert "of different years (2017, 2019)" in result.stderr
    result = run("segment", *pair, "--classes", "low,high", "-o", "map", "--no-polygons", "--coregister", "off")
    assert "of different years (2017, 2019)" in result.stderr


def test_when_a_file_was_written_is_not_when_it_was_taken(run, pair):
    for path, day in zip(pair, ("2019:01:05 00:00:00", "2021:01:05 00:00:00"), strict=True):
        with rasterio.open(path, "r+") as file:
            file.update_tags(TIFFTAG_DATETIME=day)
    assert "different years" not in run("info", *pair).output


def test_a_real_image_that_is_turned_is_told(run, write, shared):
    folder = shared / "data" / "s1_s2_flood" / "Spain_7370579"
    with rasterio.open(folder / "sar.tif") as source:
        turned = np.rot90(source.read(), 1, (1, 2)).copy()
        place = {"crs": source.crs, "transform": source.transform, "nodata": source.nodata}
    result = run("coregister", folder / "rgb.tif", write("s1.tif", turned, **place), "--check")
    assert "the SAR image seems rotated by 90 degrees counterclockwise; shift not applied" in result.stdout


def test_a_record_of_another_place_is_refused(run, refused, here, write, pair, fields):
    assert run("coregister", *pair, "-o", "aligned").exit_code == 0
    away = rasterio.Affine(10, 0, 600000, 0, -10, 5000000)
    there = write("there/s2.tif", fields[0], transform=away), write("there/s1.tif", fields[1], transform=away)
    told = refused("segment", *there, "--classes", "a,b", "--coregister", "aligned/s2_coregistration.json")
    assert "in another place: EPSG:32633 from 500000, 5000000, this one EPSG:32633 from 600000, 5000000" in told


def test_places_that_do_not_overlap_are_refused(refused, write, fields):
    write("s2.tif", fields[0])
    write("s1.tif", fields[1], transform=rasterio.Affine(10, 0, 600000, 0, -10, 5000000))
    assert "do not overlap" in refused("coregister", "s2.tif", "s1.tif")


def test_pictures_without_a_place_are_one_pixel_grid(run, here, fields):
    Image.fromarray(np.moveaxis(fields[0], 0, -1)).save("optical.png")
    Image.fromarray(np.clip((fields[1][0] + 30) * 8, 0, 255).astype(np.uint8)[:180]).save("sar.png")
    result = run("coregister", "optical.png", "sar.png", "--check", "--json")
    assert result.exit_code == 0, result.output
    shift = json.loads(result.stdout)["shift"]
    assert (shift["rows"], shift["cols"]) == pytest.approx(SHIFT, abs=0.3)


def test_pictures_of_other_sizes_are_refused(refused, here, fields):
    Image.fromarray(np.moveaxis(fields[0], 0, -1)).save("optical.png")
    Image.fromarray(fields[0][0][:19, :19]).save("sar.png")
    assert "10 times apart" in refused("coregister", "optical.png", "sar.png")


def test_gray_optical_images_are_taken(run, write, fields):
    write("s2.tif", fields[0][:1]), write("s1.tif", fields[1])
    assert run("coregister", "s2.tif", "s1.tif", "--check").exit_code == 0


def test_outputs_that_exist_are_kept_unless_told_otherwise(run, refused, pair):
    assert run("coregister", *pair, "-o", "aligned").exit_code == 0
    assert "Add --overwrite" in refused("coregister", *pair, "-o", "aligned")
    assert run("coregister", *pair, "-o", "aligned", "--overwrite").exit_code == 0


def test_a_check_takes_no_folder(refused, pair):
    assert "writes nothing" in refused("coregister", *pair, "--check", "-o", "aligned", code=2)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nothing", "is not JSON"),
        ("[]", "holds no shift"),
        ('{"shift": {"rows": "up"}}', "numbers rows and cols"),
        ('{"shift": {"rows": 1, "cols": 2}, "shape": [7, 7]}', "7 x 7 pixels"),
        ('{"shift": {"rows": 1, "cols": 2}, "displacement": {"shift": [1]}}', "cannot be read"),
    ],
)
def test_records_that_cannot_be_meant_are_refused(refused, here, pair, text, says):
    (here / "mine.json").write_text(text)
    assert says in refused("segment", *pair, "--classes", "a,b", "--coregister", "mine.json")


@pytest.mark.parametrize(
    ("place", "rows", "cols"),
    [
        ("s1_s2_landcover/637U_59R_1_3", 1, 3),
        ("s1_s2_landcover/609U_541L_3_0", 0, 0),
        ("s1_s2_flood/Spain_7370579", 1, 1),
    ],
)
def test_real_pairs_are_found_beside_each_other_as_read_off(run, shared, place, rows, cols):
    folder = shared / "data" / place
    told = json.loads(run("coregister", folder / "rgb.tif", folder / "sar.tif", "--check", "--json").stdout)
    assert told["shift"]["confident"]
    assert (told["shift"]["rows"], told["shift"]["cols"]) == pytest.approx((rows, cols), abs=1.0)
    assert told["mutual_information"]["after"] > told["mutual_information"]["before"]
