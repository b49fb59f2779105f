"""`mmovseg eval` as it is run: maps of `segment` against labels, a model on a set, clouds, outputs, bad input."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import rasterio.warp
import shapely
from affine import Affine
from PIL import Image

from tests.conftest import ROOT
from tests.dataset_copies import COPIES

NORTH_UP = Affine(10, 0, 500000, 0, -10, 5000000)
WORDS = ("--classes", "dark,bright")


@pytest.fixture
def halves() -> np.ndarray:
    """Labels of the scene of `pixels`: dark (1) in the left half, bright (2) in the right."""
    labels = np.full((1, 64, 64), 1, np.uint8)
    labels[:, :, 32:] = 2
    return labels


@pytest.fixture
def mapped(scene, run) -> Path:
    """A map of `segment` with its confidence: maps/s2_labels.tif."""
    assert run("segment", *scene, *WORDS, "-o", "maps", "--confidence", "--no-polygons").exit_code == 0
    return Path("maps/s2_labels.tif")


@pytest.fixture
def a_set(here) -> Path:
    """A set of four images with both sensors, 40 x 48 pixels; in the last one the labels are the other way round."""
    (here / "set.yaml").write_text(
        "title: A set\nclasses: {0: dark, 1: bright}\nseen: [dark]\nunseen: [bright]\nevaluate: val\n"
        "splits:\n  val:\n    optical: rgb/{id}.png\n    sar: sar/{id}.png\n    labels: labels/{id}.png\n",
        encoding="utf-8",
    )
    for number in range(4):
        truth = np.repeat([0, 1], [14 + 2 * number, 26 - 2 * number])[:, None] + np.zeros((40, 48))
        shown = np.repeat(200 * truth[..., None], 3, axis=2) + 20
        for folder, pixels in (("rgb", shown), ("sar", shown[..., 0]), ("labels", 1 - truth if number == 3 else truth)):
            (here / "data" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(here / "data" / folder / f"{number}.png")
    return Path("set.yaml")


def told(result) -> dict:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def scores(run, *arguments, predictions="maps", labels="truth.tif") -> dict:
    return told(run("eval", "--predictions", predictions, "--labels", labels, *arguments, "--json"))


def by_name(found: dict) -> dict[str, dict]:
    return {entry["name"]: entry for entry in found["classes"]}


def test_a_map_of_segment_is_scored_against_labels_of_its_ids(mapped, write, halves, run):
    halves[:, :, 24:32] = 2  # an eighth of the scene is labelled bright and mapped dark
    write("truth.tif", halves)
    found = scores(run)
    classes = by_name(found)
    assert classes["dark"]["iou"] == pytest.approx(24 / 32)
    assert classes["bright"]["iou"] == pytest.approx(32 / 40)
    assert classes["dark"]["precision"] == pytest.approx(24 / 32)
    assert classes["dark"]["recall"] == 1
    assert found["scores"]["accuracy"] == pytest.approx(56 / 64)
    assert found["scores"]["pixels"] == 64 * 64
    assert found["scores"]["calibration_error"] is not None
    assert found["scores"]["mean_boundary_f1"] == 0
    assert found["intervals"] is None


def test_the_table_on_stdout_has_a_line_for_each_class_in_hundredths(mapped, write, halves, run):
    write("truth.tif", halves)
    lines = run("eval", "--predictions", "maps", "--labels", "truth.tif").stdout.splitlines()
    assert lines[0] == "maps against truth.tif"
    assert any(re.match(r"dark +100\.0 +100\.0 +100\.0 +100\.0 +100\.0 +50\.0$", line) for line in lines), lines
    assert any(line.startswith("mIoU, classes in the labels  ") for line in lines)
    assert "tolerance of 2 pixels" in lines[-1]


def test_a_map_against_itself_under_another_name_is_perfect(mapped, here, run):
    (here / "truth.tif").write_bytes(mapped.read_bytes())
    found = scores(run)
    assert {entry["iou"] for entry in found["classes"]} == {1}
    assert found["scores"]["mean_boundary_f1"] == 1


def test_truth_of_another_crs_and_resolution_is_aligned_and_said(mapped, write, halves, run):
    to_degrees = rasterio.warp.transform("EPSG:32633", "EPSG:4326", [500000, 500640], [5000000, 4999360])
    (west, east), (north, south) = to_degrees
    fine = np.kron(halves[0], np.ones((3, 3), np.uint8))[None]
    step = Affine((east - west) / 192, 0, west, 0, (south - north) / 192, north)
    write("truth.tif", fine, crs="EPSG:4326", transform=step)
    result = run("eval", "--predictions", "maps", "--labels", "truth.tif", "--json")
    assert told(result)["scores"]["accuracy"] > 0.98
    assert "truth.tif (EPSG:4326, " in result.stderr
    assert "is laid on the grid of the map (EPSG:32633, 10 m): nearest pixel" in result.stderr


def test_truth_of_a_part_is_scored_there_and_said(mapped, write, halves, run):
    write("truth.tif", halves[:, 16:48, 16:48])
    write("part.tif", halves[:, 16:48, 16:48], transform=NORTH_UP @ Affine.translation(16, 16))
    result = run("eval", "--predictions", "maps", "--labels", "part.tif", "--json")
    assert told(result)["scores"]["pixels"] == 32 * 32
    assert told(result)["scores"]["accuracy"] == 1
    assert "part.tif covers 25% of s2_labels.tif; the rest is not scored." in result.stderr


def test_values_that_are_to_be_ignored_are_not_scored(mapped, write, halves, run):
    halves[:, :8], halves[:, 8:16] = 7, 9
    write("truth.tif", halves)
    assert scores(run, "--ignore", "7,9")["scores"]["pixels"] == 48 * 64
    assert scores(run, "--ignore", "7,9,dark")["scores"]["pixels"] == 48 * 32


def test_no_data_of_truth_is_not_scored_and_of_the_map_is_wrong(write, halves, run, here):
    truth = halves.copy()
    truth[:, :16] = 0
    write("truth.tif", truth, nodata=0)
    found = halves.copy()
    found[:, 16:24] = 99
    write("maps/m.tif", found, nodata=99)
    result = scores(run, *WORDS)
    assert result["scores"]["pixels"] == 48 * 64
    assert result["scores"]["accuracy"] == pytest.approx(40 / 48)
    assert result["confusion"] == [[40 * 32, 0, 8 * 32], [0, 40 * 32, 8 * 32]]


def test_classes_of_a_file_match_map_and_truth_by_words(mapped, here, write, halves, run):
    """The map says dark and bright; the truth is of a program that wrote other ids."""
    (here / "classes.yaml").write_text("40: [shadow, dark]\n50: [light, bright]\n")
    write("truth.tif", np.where(halves == 1, 40, 50).astype(np.uint8))
    found = scores(run, "--classes-file", "classes.yaml")
    assert [(entry["id"], entry["name"], entry["iou"]) for entry in found["classes"]] == [
        (40, "shadow", 1), (50, "light", 1),
    ]  # fmt: skip


def test_folders_are_paired_by_name_and_scenes_give_intervals(write, halves, run):
    for name, wrong in (("north", 0), ("south", 8), ("west", 16)):
        found = halves.copy()
        found[:, :wrong] = 1
        write(f"maps/{name}/{name}_rgb_labels.tif", found)
        write(f"truth/{name}_gt.tif", halves)
    write("truth/nowhere_gt.tif", halves)
    result = run("eval", "--predictions", "maps", "--labels", "truth", *WORDS, "--json")
    found = told(result)
    assert "1 files of labels have no map and are not scored: nowhere_gt.tif" in result.stderr
    assert [scene["name"] for scene in found["scenes"]] == ["north_rgb", "south_rgb", "west_rgb"]
    low, high = found["intervals"]["accuracy"]
    assert low <= found["scores"]["accuracy"] <= high
    assert low < high
    assert scores(run, *WORDS, "--draws", "0", labels="truth")["intervals"] is None


def shapes(path: str, *boxes: tuple, crs: str = "EPSG:4326", field: str = "kind") -> None:
    """Boxes (class, first row, last row, first col, last col) of the scene's pixels as a vector file."""
    geometry = [
        shapely.box(500000 + 10 * left, 5000000 - 10 * below, 500000 + 10 * right, 5000000 - 10 * top)
        for _, top, below, left, right in boxes
    ]
    frame = geopandas.GeoDataFrame({field: [box[0] for box in boxes]}, geometry=geometry, crs="EPSG:32633")
    frame.to_crs(crs).to_file(path)


@pytest.mark.parametrize("suffix", ["gpkg", "geojson"])
def test_truth_drawn_as_polygons_is_burned_on_the_grid_of_the_map(mapped, run, suffix):
    shapes(f"truth.{suffix}", ("dark", 0, 32, 0, 40), ("bright", 0, 32, 40, 60))
    found = scores(run, "--class-field", "kind", labels=f"truth.{suffix}")
    assert found["scores"]["pixels"] == 32 * 60
    assert by_name(found)["dark"]["recall"] == pytest.approx(32 / 40)
    assert by_name(found)["bright"]["recall"] == 1


def test_pixels_in_no_polygon_can_have_a_class(mapped, run):
    shapes("truth.gpkg", ("bright", 0, 64, 32, 64), crs="EPSG:32633", field="class_name")
    assert scores(run, labels="truth.gpkg")["scores"]["pixels"] == 64 * 32
    found = scores(run, "--outside", "dark", labels="truth.gpkg")
    assert found["scores"]["pixels"] == 64 * 64
    assert found["scores"]["accuracy"] == 1


def test_the_polygons_of_a_map_are_true_to_it(scene, run):
    run("segment", *scene, *WORDS, "-o", "maps")
    found = scores(run, labels="maps/s2_polygons.gpkg", predictions="maps/s2_labels.tif")
    assert {entry["iou"] for entry in found["classes"]} == {1}


def test_the_folder_holds_tables_pictures_and_error_maps(mapped, here, write, halves, run):
    halves[:, :8] = 2
    halves[:, 60:] = 255
    write("truth.tif", halves)
    result = run("eval", "--predictions", "maps", "--labels", "truth.tif", "-o", "scores", "--xlsx")
    assert result.exit_code == 0, result.output
    assert {path.relative_to(here / "scores").as_posix() for path in (here / "scores").rglob("*.*")} == {
        "report.md", "classes.csv", "scores.csv", "scenes.csv", "confusion.csv", "scores.json", "scores.xlsx",
        "confusion.png", "errors/s2_errors.tif", "errors/s2_errors.png",
    }  # fmt: skip
    assert "wrote scores/report.md" in result.stderr
    rows = list(csv.DictReader((here / "scores" / "classes.csv").open(encoding="utf-8")))
    assert [row["class"] for row in rows] == ["dark", "bright"]
    assert float(rows[0]["precision"]) == pytest.approx(52 / 60, abs=1e-6)
    assert "| dark |" in (here / "scores" / "report.md").read_text(encoding="utf-8")
    with rasterio.open(here / "scores" / "errors" / "s2_errors.tif") as errors:
        assert errors.crs.to_epsg() == 32633
        assert errors.transform == NORTH_UP
        values, counts = np.unique(errors.read(1), return_counts=True)
    found = dict(zip(values.tolist(), counts.tolist(), strict=True))
    assert found == {1: 60 * 64 - 8 * 32, 2: 8 * 32, 255: 4 * 64}
    for name in ("confusion.png", "errors/s2_errors.png"):
        with Image.open(here / "scores" / name) as picture:
            assert picture.format == "PNG"
            assert len(picture.getcolors(1 << 20)) > 10


def test_the_workbook_holds_the_numbers_of_the_tables(mapped, here, write, halves, run):
    openpyxl = pytest.importorskip("openpyxl", reason="openpyxl is not installed")
    write("truth.tif", halves)
    run("eval", "--predictions", "maps", "--labels", "truth.tif", "-o", "scores", "--xlsx")
    book = openpyxl.load_workbook(here / "scores" / "scores.xlsx")
    assert book.sheetnames == ["classes", "scores", "scenes", "confusion"]
    rows = list(book["classes"].values)
    assert rows[0][:2] == ("class", "IoU")
    assert rows[1][:2] == ("dark", 1)


def test_only_the_worst_scenes_have_error_maps(here, write, halves, run):
    for name, wrong in (("a", 4), ("b", 0), ("c", 9), ("d", 7)):
        found = halves.copy()
        found[:, :wrong] = 3 - found[:, :wrong]
        write(f"maps/{name}.tif", found)
        write(f"truth/{name}.tif", halves)
    run("eval", "--predictions", "maps", "--labels", "truth", *WORDS, "-o", "scores", "--error-maps", "2")
    assert sorted(path.name for path in (here / "scores" / "errors").iterdir()) == [
        "c_errors.png", "c_errors.tif", "d_errors.png", "d_errors.tif",
    ]  # fmt: skip
    run("eval", "--predictions", "maps", "--labels", "truth", *WORDS, "-o", "none", "--error-maps", "0")
    assert not (here / "none" / "errors").exists()


def test_an_existing_folder_is_replaced_only_when_asked(mapped, here, write, halves, run):
    write("truth.tif", halves)
    command = ("eval", "--predictions", "maps", "--labels", "truth.tif", "-o", "scores")
    assert run(*command, "--xlsx").exit_code == 0
    (here / "scores" / "notes.txt").write_text("mine")
    (here / "scores" / "errors" / "mine.txt").write_text("too")
    before = (here / "scores" / "scores.json").read_bytes()
    refused = run(*command)
    assert refused.exit_code == 1
    assert "--overwrite" in refused.stderr
    write("truth.tif", 3 - halves)
    assert run(*command, "--overwrite", "--error-maps", "0").exit_code == 0
    assert (here / "scores" / "scores.json").read_bytes() != before
    assert not (here / "scores" / "scores.xlsx").exists()
    assert [path.name for path in (here / "scores" / "errors").iterdir()] == ["mine.txt"]
    assert (here / "scores" / "notes.txt").read_text() == "mine"


def test_a_failure_leaves_an_existing_folder_as_it_was(mapped, here, write, halves, run):
    write("truth.tif", halves)
    command = ("eval", "--predictions", "maps", "--labels", "truth.tif", "-o", "scores")
    assert run(*command).exit_code == 0
    before = {path: path.read_bytes() for path in (here / "scores").rglob("*.*")}
    write("truth.tif", halves + 40)
    assert run(*command, "--overwrite").exit_code == 1
    assert {path: path.read_bytes() for path in (here / "scores").rglob("*.*")} == before


def test_a_model_is_run_over_a_set(a_set, run):
    result = run("eval", "--dataset", a_set, "--model", "threshold", "--json")
    found = told(result)
    assert found["title"] == "threshold on set (val)"
    assert [scene["accuracy"] for scene in found["scenes"]] == [1, 1, 1, 0]
    assert found["scores"]["accuracy"] == 0.75
    assert found["scores"]["seen"] == by_name(found)["dark"]["iou"]
    assert found["scores"]["unseen"] == by_name(found)["bright"]["iou"]
    seen, unseen = found["scores"]["seen"], found["scores"]["unseen"]
    assert found["scores"]["harmonic"] == pytest.approx(2 * seen * unseen / (seen + unseen))
    assert found["scores"]["calibration_error"] is not None
    assert found["intervals"]["accuracy"][0] < 0.75 < found["intervals"]["accuracy"][1]


def test_maps_of_segment_score_as_the_model_that_made_them(a_set, here, run):
    """`eval --model` and `segment` followed by `eval --predictions` agree."""
    for number in range(4):
        place = [here / "data" / kind / f"{number}.png" for kind in ("rgb", "sar")]
        done = run("segment", *place, "--pixel-grid", "--classes-file", a_set, "-o", f"maps/{number}", "--no-polygons")
        assert done.exit_code == 0, done.output
    files = scores(run, "--draws", "0", labels="data/labels")
    model = told(run("eval", "--dataset", a_set, "--model", "threshold", "--draws", "0", "--json"))
    assert files["confusion"] == model["confusion"]


def test_a_settings_file_gives_set_model_and_options(a_set, here, run):
    (here / "conf").mkdir()
    (here / "conf" / "eval.yaml").write_text(
        "dataset: ../set.yaml\ndata: ../data\nmodel: threshold\nignore: [bright]\ndraws: 0\ntiling: {size: 32}\n"
    )
    found = told(run("eval", "conf/eval.yaml", "--json"))
    assert found["scores"]["pixels"] == sum(found["confusion"][0])
    assert found["intervals"] is None
    assert told(run("eval", "conf/eval.yaml", "--draws", "10", "--json"))["intervals"]["draws"] == 10


def test_scores_fall_as_clouds_grow(a_set, here, run):
    result = run("eval", "--dataset", a_set, "--model", "threshold", "--clouds", "0,50,100", "-o", "scores", "--json")
    found = told(result)["clouds"]
    assert [one["cover"] for one in found] == [0, 0.5, 1]
    dark = [one["scenes"][0]["iou"]["dark"] for one in found]
    assert dark[0] == 1
    assert dark[0] > dark[1] > dark[2]
    assert {path.name for path in (here / "scores").iterdir()} >= {"clouds.csv", "clouds.png"}
    again = told(run("eval", "--dataset", a_set, "--model", "threshold", "--clouds", "50", "--json"))["clouds"]
    assert again[0]["confusion"] == found[1]["confusion"]
    other = run("eval", "--dataset", a_set, "--model", "threshold", "--clouds", "50", "--seed", "3", "--json")
    assert told(other)["clouds"][0]["confusion"] != found[1]["confusion"]
    table = run("eval", "--dataset", a_set, "--model", "threshold", "--clouds", "0,50").stdout.splitlines()
    assert table[2].split()[:2] == ["clouds", "mIoU"]
    assert [line.split()[0] for line in table[3:5]] == ["0.0", "50.0"]


def test_clouds_do_not_reach_the_sar_images(a_set, run):
    command = ("eval", "--dataset", a_set, "--model", "threshold", "--json")
    alone = told(run(*command, "--sensors", "sar"))
    assert alone["title"] == "threshold on set (val, sar alone)"
    assert alone["scores"]["accuracy"] == 0.75


@pytest.fixture
def pohang(here) -> Path:
    """A copy of three images of DDHR-SK below data/."""
    copy = next(copy for copy in COPIES if (copy.dataset, copy.split) == ("ddhr-sk", "val"))
    copy.write(here / "data")
    return ROOT / "configs" / "eval" / "ddhr-sk.yaml"


def test_published_numbers_stand_beside_those_of_the_published_model(pohang, run, monkeypatch):
    from mmovseg_geo.evaluation import run as room
    from mmovseg_geo.models import load_segmenter

    asked = []

    def as_published(config, method, **settings):
        asked.append((config.name, method))
        return load_segmenter("threshold", config.vocabulary(method, settings["split"]))

    monkeypatch.setattr(room, "load_as_published", as_published)
    result = run("eval", pohang)
    assert result.exit_code == 0, result.output
    assert asked == [("ddhr-sk", "mmovseg-vitb16")]
    assert "runs on ddhr-sk with the words and settings it was published with" in result.stderr
    lines = result.stdout.splitlines()
    assert lines[2].endswith("published mmovseg-vitb16")
    assert next(line for line in lines if line.startswith("road")).endswith(" 21.2")
    assert next(line for line in lines if line.startswith("mIoU, classes in the labels")).endswith(" 73.1")
    assert any(line.startswith("harmonic mean of seen and unseen") for line in lines)
    assert "published" not in run("eval", pohang, "--model", "threshold", "--json").stderr


def test_a_published_model_without_its_weights_says_how_to_get_them(pohang, run, monkeypatch, here):
    monkeypatch.setenv("HF_HOME", str(here / "cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "cache"))
    result = run("eval", pohang)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "mmovseg models pull mmovseg-vitb16-ddhr-sk" in result.stderr


REFUSED = {
    "nothing": ((), "There is nothing to score"),
    "only maps": (("--predictions", "maps"), "give --labels, the truth"),
    "only labels": (("--labels", "truth.tif"), "give --predictions, the maps"),
    "model and maps": (("--predictions", "maps", "--labels", "truth.tif", "--model", "threshold"), "--model is for a"),
    "clouds and maps": (("--predictions", "maps", "--labels", "truth.tif", "--clouds", "5"), "--clouds is for a model"),
    "no such folder": (("--predictions", "map", "--labels", "truth.tif"), "map: no such file or folder"),
    "the same file": (("--predictions", "maps", "--labels", "maps"), "was given as map and as labels"),
    "elsewhere": (("--predictions", "maps", "--labels", "elsewhere.tif"), "do not overlap"),
    "beyond the list": (("--predictions", "maps", "--labels", "beyond.tif"), "beyond.tif holds 7 (64 pixels), which"),
    "no CRS": (("--predictions", "maps", "--labels", "placeless.tif"), "placeless.tif has no coordinate reference"),
    "three bands": (("--predictions", "maps", "--labels", "s2.tif"), "s2.tif has 3 bands; a raster of labels has one"),
    "fractions": (("--predictions", "maps", "--labels", "fractions.tif"), "fractions.tif holds fractions"),
    "nothing labelled": (("--predictions", "maps", "--labels", "empty.tif"), "No pixel was scored"),
    "empty class": (("--predictions", "maps", "--labels", "truth.tif", "--classes", "a,,b"), "A class name is empty"),
    "other classes": (
        ("--predictions", "maps", "--labels", "truth.tif", "--classes", "cat,dog"),
        "none of them is among cat, dog",
    ),
    "no classes": (("--predictions", "truth.tif", "--labels", "other.tif"), "--classes-file"),
    "no such class ignored": (
        ("--predictions", "maps", "--labels", "truth.tif", "--ignore", "cloud"),
        "no class has this name",
    ),
    "no such field": (
        ("--predictions", "maps", "--labels", "truth.gpkg", "--class-field", "crop"),
        "truth.gpkg has no field 'crop'; it has: kind",
    ),
    "no field told": (("--predictions", "maps", "--labels", "truth.gpkg"), "does not tell which field holds the class"),
    "unknown kind": (
        ("--predictions", "maps", "--labels", "truth.gpkg", "--class-field", "kind"),
        "the field 'kind' holds 'green' (1 shapes), which is no class",
    ),
    "shapes elsewhere": (
        ("--predictions", "maps", "--labels", "far.gpkg", "--class-field", "kind"),
        "No shape of far.gpkg",
    ),
    "field of a raster": (
        ("--predictions", "maps", "--labels", "truth.tif", "--class-field", "kind"),
        "--class-field is for labels drawn as shapes; truth.tif is a raster",
    ),
    "clouds over radar": (
        ("--dataset", "set.yaml", "--model", "threshold", "--sensors", "sar", "--clouds", "50"),
        "Clouds lie over optical images, but threshold on set sees sar alone",
    ),
    "a sensor that is not there": (
        ("--dataset", "radar.yaml", "--model", "threshold", "--sensors", "optical"),
        "radar has no optical images; it has sar",
    ),
    "a model of another sensor": (
        ("--dataset", "radar.yaml", "--model", "segearth-ov"),
        "segearth-ov needs optical images; radar shows sar",
    ),
    "percent of clouds": (("--dataset", "set.yaml", "--clouds", "120"), "120 is not between 0 and 100"),
    "no such set": (("--dataset", "sets.yaml", "--data", "."), "sets.yaml: No such file"),
    "no data": (("--dataset", "set.yaml", "--data", "there"), "there: there is no such folder. Give the one"),
    "no such model": (("--dataset", "set.yaml", "--model", "treshold"), "Did you mean threshold"),
    "no such split": (("--dataset", "set.yaml", "--split", "train"), "has no split 'train'"),
    "xlsx to nowhere": (("--predictions", "maps", "--labels", "truth.tif", "--xlsx"), "give the folder for it with -o"),
}


@pytest.fixture
def bad(mapped, a_set, write, halves) -> None:
    """Files that do not fit the map, and some that do."""
    Path("radar.yaml").write_text(a_set.read_text().replace("    optical: rgb/{id}.png\n", ""))
    write("truth.tif", halves)
    write("other.tif", halves)
    write("elsewhere.tif", halves, transform=Affine.translation(1e6, 0) @ NORTH_UP)
    write("placeless.tif", halves, crs=None, transform=None)
    write("fractions.tif", halves / np.float32(2))
    write("empty.tif", np.full_like(halves, 255))
    halves[0, 5] = 7
    write("beyond.tif", halves)
    shapes("truth.gpkg", ("dark", 0, 4, 0, 4), ("green", 8, 12, 8, 12))
    shapes("far.gpkg", ("dark", 900, 904, 0, 4))


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_scored_is_refused_with_a_reason(name, bad, refused):
    arguments, reason = REFUSED[name]
    out = () if "--xlsx" in arguments else ("-o", "scores")
    assert reason in refused("eval", *arguments, *out)


def test_a_wrong_label_of_a_set_is_told_before_any_image_is_mapped(a_set, here, refused, monkeypatch):
    from mmovseg_geo.evaluation import labelled

    monkeypatch.setattr(labelled, "segment", lambda *_, **__: pytest.fail("work was begun"))
    Image.fromarray(np.full((40, 48), 5, np.uint8)).save(here / "data" / "labels" / "2.png")
    assert "2.png: the stored value 5 stands for no class" in refused(
        "eval", "--dataset", a_set, "--model", "threshold"
    )


def test_an_unknown_key_of_a_settings_file_is_named(a_set, here, refused):
    (here / "eval.yaml").write_text("datset: set.yaml\n")
    assert "unknown key datset. Did you mean dataset?" in refused("eval", "eval.yaml")


def test_a_missing_openpyxl_is_said_before_work(mapped, write, halves, refused, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    write("truth.tif", halves)
    said = refused("eval", "--predictions", "maps", "--labels", "truth.tif", "-o", "scores", "--xlsx")
    assert 'pip install "mmovseg-geo[xlsx]"' in said


def test_real_outlines_of_buildings_lie_on_the_raster_of_the_same(shared, here, run):
    """The raster holds buildings of neighboring blocks too, so only recall is full."""
    (here / "classes.yaml").write_text("0: background\n1: building\n")
    block = shared / "data" / "rgb_buildings" / "block_309606_261636"
    found = scores(
        run, "--inside", "building", "--outside", "background", "--classes-file", "classes.yaml",
        predictions=block / "labels.tif", labels=block / "buildings.geojson",
    )  # fmt: skip
    building = by_name(found)["building"]
    assert building["recall"] > 0.999
    assert 0.9 < building["iou"] < 1
    assert found["scores"]["mean_boundary_f1"] > 0.9


def test_real_labels_in_degrees_are_laid_on_a_map_in_meters(shared, here, run):
    truth = shared / "data" / "s1_s2_flood" / "Spain_7370579" / "labels.tif"
    with rasterio.open(truth) as source:
        box = rasterio.warp.transform_bounds(source.crs, "EPSG:32630", *source.bounds)
        affine, side = Affine(15, 0, box[0], 0, -15, box[3]), (int(box[2] - box[0]) // 15, int(box[3] - box[1]) // 15)
        found = np.full(side[::-1], 255, np.uint8)
        rasterio.warp.reproject(
            source.read(1), found, src_transform=source.transform, src_crs=source.crs, dst_transform=affine,
            dst_crs="EPSG:32630", src_nodata=255, dst_nodata=255,
        )  # fmt: skip
    with rasterio.open(
        "map.tif", "w", driver="GTiff", count=1, dtype="uint8", height=side[1], width=side[0], crs="EPSG:32630",
        transform=affine, nodata=255,
    ) as target:  # fmt: skip
        target.write(found, 1)
    (here / "classes.yaml").write_text("0: dry\n1: water\n")
    result = run("eval", "--predictions", "map.tif", "--labels", truth, "--classes-file", "classes.yaml", "--json")
    told_scores = told(result)["scores"]
    assert told_scores["accuracy"] > 0.995
    assert told_scores["pixels"] == pytest.approx((found != 255).sum(), rel=0.01)
    assert "labels.tif (EPSG:4326, " in result.stderr
