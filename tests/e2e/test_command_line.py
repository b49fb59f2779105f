"""How the command line behaves: help, results on stdout, talk on stderr, settings from files and options."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import rasterio
from mmovseg_cli.app import app

COMMANDS = ["segment", "batch", "coregister", "polygonize", "info", "train", "eval", "doctor", "benchmark"]
GROUPS = ["models"]
WORDS = ("--classes", "dark,bright")
HEAVY = ("torch", "rasterio", "numpy", "geopandas", "odc", "pyproj", "yaml", "mmovseg_geo.models")


def labels(path) -> set[int]:
    with rasterio.open(path) as dataset:
        return set(dataset.read(1).ravel().tolist())


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["--version"], *([name, "-h"] for name in (*COMMANDS, *GROUPS))])
def test_help_loads_nothing_that_takes_its_time(words):
    """Seconds are measured by `python -m tests.benchmarks help`; a clock in a test fails on a busy machine."""
    script = (
        "import sys; from mmovseg_cli.app import app\n"
        f"try: app({words!r})\n"
        f"finally: print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "[]"


def test_all_commands_are_there():
    assert sorted(command.name or command.callback.__name__ for command in app.registered_commands) == sorted(COMMANDS)
    assert [group.typer_instance.info.name for group in app.registered_groups] == GROUPS


def test_every_switch_that_is_on_can_be_put_off(run):
    text = run("segment", "--help").output
    assert all(f"--no-{name}" in text for name in ("polygons", "confidence", "preview"))


def test_results_are_paths_on_stdout_and_nothing_else(here, scene, run):
    result = run("segment", *scene, *WORDS)
    paths = result.stdout.splitlines()
    assert all((here / path).is_file() for path in paths)
    assert [path.rpartition("/")[2] for path in paths] == [
        "s2_labels.tif",
        "s2_confidence.tif",
        "s2_labels.qml",
        "s2_polygons.gpkg",
        "s2_preview.png",
        "s2_run.json",
    ]


def test_what_was_understood_is_said_on_stderr(scene, run):
    said = run("segment", *scene, *WORDS).stderr
    assert "red = band 1" in said
    assert "SAR covers 100 %" in said


def test_quiet_says_nothing_but_results(scene, run):
    result = run("segment", *scene, *WORDS, "-q")
    assert result.stderr == ""
    assert result.stdout


def test_json_is_one_object_with_outputs_and_timings(scene, run):
    told = json.loads(run("segment", *scene, *WORDS, "--json").stdout)
    assert told["schema_version"] == 1
    assert told["command"] == "segment"
    assert set(told["outputs"]) == {"labels", "confidence", "style", "polygons", "preview", "run"}
    assert told["outputs"]["labels"] == "s2_mmovseg/s2_labels.tif"
    assert {"open", "shift", "load_model", "stream", "close"} <= told["timings_s"].keys()
    assert told["counts"]["pixels"] == 64 * 64
    assert isinstance(told["warnings"], list)


def test_what_is_not_wanted_is_not_written(here, scene, run):
    run("segment", *scene, *WORDS, "--no-polygons", "--no-confidence", "--no-preview", "-o", "map")
    assert {path.name for path in (here / "map").iterdir()} == {"s2_labels.tif", "s2_labels.qml", "s2_run.json"}


def test_a_dry_run_tells_the_plan_and_writes_nothing(here, scene, run):
    before = sorted(here.rglob("*"))
    result = run("segment", *scene, *WORDS, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "tiles" in result.stdout
    assert "64 x 64" in result.stdout
    plan = json.loads(run("segment", *scene, *WORDS, "--dry-run", "--json").stdout)
    assert plan["tiles"]["count"] == 1
    assert sorted(here.rglob("*")) == before


def test_a_dry_run_refuses_what_the_run_would_refuse(scene, run, refused):
    run("segment", *scene, *WORDS)
    assert "--overwrite" in refused("segment", *scene, *WORDS, "--dry-run")
    other = ("segment", *scene, *WORDS, "-o", "other", "--dry-run")
    assert "add --background" in refused(*other, "--min-score", "0.7")


def test_optical_alone_is_a_scene(scene, run):
    assert run("segment", scene[0], *WORDS).exit_code == 0


def test_radar_alone_is_a_scene_when_said_so(here, scene, run, refused):
    assert "--sar-only" in refused("segment", scene[1], *WORDS)
    result = run("segment", scene[1], "--sar-only", *WORDS)
    assert result.exit_code == 0, result.output
    assert labels("s1_mmovseg/s1_labels.tif") == {1, 2}
    refused("segment", *scene, "--sar-only", *WORDS, code=2)


def test_a_replaced_map_leaves_no_polygons_of_the_old_one(here, scene, run):
    run("segment", *scene, *WORDS)
    run("segment", *scene, "--classes", "a,b,c", "--overwrite", "--no-polygons")
    assert not (here / "s2_mmovseg/s2_polygons.gpkg").exists()
    assert (here / "s2_mmovseg/s2_preview.png").exists()


def test_two_radar_files_are_one_scene(scene, write, pixels, run):
    write("vv.tif", pixels["sar"][:1])
    write("vh.tif", pixels["sar"][1:])
    result = run("segment", scene[0], "vv.tif,vh.tif", *WORDS)
    assert result.exit_code == 0, result.output
    assert "VH" in result.stderr


def test_a_single_class_gets_a_background_and_a_note(here, scene, run):
    result = run("segment", *scene, "--classes", "water")
    assert result.exit_code == 0
    assert "background class is added" in result.stderr
    assert labels("s2_mmovseg/s2_labels.tif") <= {0, 1}


def test_options_win_over_the_settings_file(here, scene, run):
    (here / "settings.yaml").write_text(
        "classes: [dark, middle, bright]\npolygons: false\ntiling: {size: 32, overlap: 8}\n"
    )
    told = json.loads(run("segment", *scene, "--config", "settings.yaml", "--classes", "a,b", "--json").stdout)
    assert [entry["name"] for entry in told["classes"]] == ["a", "b"]
    assert told["tiling"]["size"] == 32
    assert "polygons" not in told["outputs"]


def test_a_switch_that_the_settings_file_puts_on_can_be_put_off(here, scene, run):
    (here / "settings.yaml").write_text("classes: [dark, bright]\nbackground: true\n")
    words = ("segment", *scene, "--config", "settings.yaml", "--no-polygons", "--json")
    for options, names in (((), ["background", "dark", "bright"]), (("--no-background",), ["dark", "bright"])):
        told = json.loads(run(*words, *options, "-o", "".join(options) or "on").stdout)
        assert [entry["name"] for entry in told["classes"]] == names


def test_paths_in_a_settings_file_are_relative_to_it(here, scene, run):
    (here / "set").mkdir()
    (here / "set" / "words.txt").write_text("dark, night\nbright\n")
    (here / "set" / "settings.yaml").write_text("classes_file: words.txt\n")
    result = run("segment", *scene, "--config", "set/settings.yaml")
    assert result.exit_code == 0, result.output


def test_unknown_settings_are_refused_with_the_nearest(here, scene, refused):
    (here / "settings.yaml").write_text("clases: [dark, bright]\n")
    message = refused("segment", *scene, "--config", "settings.yaml")
    assert "settings.yaml: unknown key clases" in message
    assert "classes" in message


def test_bbox_is_another_word_for_bounds(scene, run):
    result = run("segment", *scene, *WORDS, "--bbox", "500000,4999800,500200,5000000", "--json")
    assert json.loads(result.stdout)["counts"]["pixels"] == 400


def test_debug_shows_the_traceback_of_an_error(run):
    assert "Traceback" in run("segment", "nowhere.tif", *WORDS, "--debug").stderr


def test_a_bug_is_called_a_bug_without_a_traceback(scene, run, monkeypatch):
    monkeypatch.setattr("mmovseg_geo.maps.map_scene", lambda *_, **__: 1 / 0)
    result = run("segment", *scene, *WORDS)
    assert result.exit_code == 1
    assert "This is a bug in mmovseg: ZeroDivisionError" in result.stderr
    assert "Traceback" not in result.stderr


def test_out_of_memory_comes_with_advice(scene, run, monkeypatch):
    def full(*_, **__):
        raise MemoryError

    monkeypatch.setattr("mmovseg_geo.maps.map_scene", full)
    result = run("segment", *scene, *WORDS)
    assert result.exit_code == 1
    assert "--batch-size" in result.stderr


def test_info_tells_bands_scaling_and_overlap(scene, run):
    text = run("info", *scene).stdout
    for part in (
        "s2.tif",
        "uint8",
        "red = band 1",
        "EPSG:32633",
        "8-bit file",
        "s1.tif",
        "VV = band 1",
        "-25 dB",
        "overlap",
    ):
        assert part in text


def test_info_takes_one_or_two_bands_for_radar(scene, run):
    told = json.loads(run("info", scene[1], "--json").stdout)
    assert told["sensors"] == ["sar"]
    assert told["command"] == "info"


def test_info_follows_the_options_of_segment(scene, write, pixels, run):
    write("vh_s1.tif", pixels["sar"][:1])
    text = run("info", scene[0], "vh_s1.tif", "--optical-scale", "0,100", "--sar-bands", "1").stdout
    assert "VH = band 1" in text
    assert "0 .. 100 become" in text


def test_info_refuses_what_segment_refuses(scene, refused):
    assert "nowhere.tif" in refused("info", scene[0], "nowhere.tif")


def test_polygonize_makes_polygons_of_a_map(here, scene, run):
    run("segment", *scene, *WORDS, "--no-polygons", "-o", "map")
    result = run("polygonize", "map/s2_labels.tif", "--min-area", "500", "--simplify", "1.5px")
    assert result.stdout == "s2_polygons.gpkg\n"
    assert (here / "s2_polygons.gpkg").is_file()


def test_holes_of_polygons_are_filled_up_to_the_size_asked_for(write, pixels, run):
    """A bright square of 4 x 4 pixels in the dark half, 1600 m²."""
    pixels["optical"][:, 10:14, 10:14] = 210
    run("segment", write("s2.tif", pixels["optical"]), *WORDS, "--no-polygons", "-o", "map")
    for size, count in (("1500", 3), ("1700", 2), ("15px", 3), ("17px", 2)):
        result = run("polygonize", "map/s2_labels.tif", "--fill-holes", size, "--overwrite", "--json")
        assert json.loads(result.stdout)["counts"]["polygons"] == count


def test_polygonize_writes_the_format_of_the_suffix(here, scene, run):
    run("segment", *scene, *WORDS, "--no-polygons", "-o", "map")
    told = run("polygonize", "map/s2_labels.tif", "-o", "p.geojson", "--confidence", "map/s2_confidence.tif", "--json")
    assert json.loads(told.stdout)["counts"]["polygons"] == len(
        json.loads((here / "p.geojson").read_text())["features"]
    )


@pytest.mark.parametrize(
    ("name", "says"), [("p.shp", "suffix"), ("s1.tif/p.gpkg", "not a folder"), ("old.gpkg", "--overwrite")]
)
def test_polygonize_refuses_places_it_cannot_write(here, scene, run, refused, name, says):
    run("segment", *scene, *WORDS, "--no-polygons", "-o", "map")
    (here / "old.gpkg").write_text("kept")
    assert says in refused("polygonize", "map/s2_labels.tif", "-o", name)


def test_polygonize_refuses_what_is_no_map(scene, refused):
    assert "s2.tif" in refused("polygonize", scene[0])
    assert "nowhere.tif" in refused("polygonize", "nowhere.tif")


def test_train_refuses_settings_that_are_no_recipe(here, refused):
    (here / "settings.yaml").write_text("model: threshold\nclasses: [dark, bright]\n")
    message = refused("train", "settings.yaml", "-o", "run")
    assert "settings.yaml lacks `concepts`, so it is no training recipe" in message


def test_train_refuses_a_recipe_that_is_not_there(refused):
    assert "nowhere.yaml" in refused("train", "nowhere.yaml", "-o", "run")
