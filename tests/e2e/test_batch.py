"""Many scenes through the real command line: folders, failures, and what a second run does."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from mmovseg_geo import models
from mmovseg_geo.config import SegmentConfig
from mmovseg_geo.maps import map_scene

WORDS = ("--classes", "dark,bright", "-o", "maps")


@pytest.fixture
def scenes(write, pixels, here):
    """Three scenes in folders `opt` and `sar`, the last without SAR, and the table `scenes.csv`."""
    for name in ("a", "b", "c"):
        write(f"opt/{name}.tif", pixels["optical"])
    for name in ("a", "b"):
        write(f"sar/{name}.tif", pixels["sar"])
    (here / "scenes.csv").write_text("optical,sar\nopt/a.tif,sar/a.tif\nopt/b.tif,sar/b.tif\nopt/c.tif,\n")
    return "scenes.csv"


def statuses(result) -> list[str]:
    return [scene["status"] for scene in json.loads(result.stdout)["scenes"]]


def test_a_batch_writes_a_folder_for_each_scene(here, scenes, run):
    result = run("batch", scenes, *WORDS)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == ["maps/a", "maps/b", "maps/c"]
    assert all((here / "maps" / name / f"{name}_labels.tif").is_file() for name in "abc")


def test_a_batch_gives_the_files_that_single_runs_give(here, scenes, run):
    run("batch", scenes, *WORDS)
    run("segment", "opt/a.tif", "sar/a.tif", "--classes", "dark,bright", "-o", "single")
    for kind in ("labels.tif", "confidence.tif", "polygons.gpkg"):
        assert (here / "maps/a" / f"a_{kind}").read_bytes() == (here / "single" / f"a_{kind}").read_bytes()


def test_folders_are_paired_by_name(here, scenes, run):
    (here / "opt/c.tif").unlink()
    assert statuses(run("batch", "opt", "sar", *WORDS, "--json")) == ["done", "done"]


def test_a_second_run_skips_what_is_finished(here, scenes, run):
    run("batch", scenes, *WORDS)
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*") if path.is_file()}
    result = run("batch", scenes, *WORDS, "--json")
    assert result.exit_code == 0
    assert statuses(result) == ["skipped"] * 3
    assert {path: path.stat().st_mtime_ns for path in here.rglob("*") if path.is_file()} == before


def test_only_what_is_missing_is_mapped_again(here, scenes, run):
    import shutil

    run("batch", scenes, *WORDS)
    shutil.rmtree(here / "maps/b")
    assert statuses(run("batch", scenes, *WORDS, "--json")) == ["skipped", "done", "skipped"]


def test_a_damaged_output_does_not_count_as_finished(here, scenes, run):
    run("batch", scenes, *WORDS)
    labels = here / "maps/b/b_labels.tif"
    labels.write_bytes(labels.read_bytes()[:-1] + b"!")
    result = run("batch", scenes, *WORDS)
    assert result.exit_code == 3
    assert "b_labels.tif is not what the run wrote" in result.stderr
    assert "--overwrite" in result.stderr


def test_a_missing_output_does_not_count_as_finished(here, scenes, run):
    run("batch", scenes, *WORDS)
    (here / "maps/b/b_preview.png").unlink()
    result = run("batch", scenes, *WORDS)
    assert result.exit_code == 3
    assert "b_preview.png is missing" in result.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--classes", "dark,gray", "-o", "maps"), "other classes"),
        ((*WORDS, "--tile-size", "32"), "other tile-size"),
        ((*WORDS, "--simplify", "1px"), "other simplify"),
    ],
)
def test_other_settings_do_not_skip(scenes, run, options, says):
    run("batch", scenes, *WORDS)
    result = run("batch", scenes, *options)
    assert result.exit_code == 3
    assert says in result.stderr


def test_a_changed_input_does_not_skip(here, scenes, run):
    run("batch", scenes, *WORDS)
    os.utime(here / "opt/b.tif", ns=(1, 1))
    result = run("batch", scenes, *WORDS)
    assert result.exit_code == 3
    assert "maps/b was made with other inputs" in result.stderr


def test_overwrite_maps_everything_again(scenes, run):
    run("batch", scenes, *WORDS)
    assert (
        statuses(run("batch", scenes, "--classes", "dark,gray", "-o", "maps", "--overwrite", "--json")) == ["done"] * 3
    )


def test_a_failed_scene_does_not_stop_the_others(here, scenes, run):
    (here / "opt/a.tif").write_text("no raster")
    result = run("batch", scenes, *WORDS, "--json")
    assert result.exit_code == 3
    told = json.loads(result.stdout)
    assert told["counts"] == {"done": 2, "skipped": 0, "failed": 1}
    assert "a.tif" in told["scenes"][0]["message"]
    assert "✗ opt/a.tif: cannot be read" in result.stderr
    assert not (here / "maps/a").exists()


def test_a_scene_that_fails_at_work_leaves_nothing(here, scenes, write, run):
    """Its second half is cut off, which is found when the strip is read."""
    rows = np.random.default_rng(0).integers(1, 256, (3, 900, 64)).astype(np.uint8)
    path = write("opt/b.tif", rows, blockysize=8)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    result = run("batch", scenes, *WORDS, "--tile-size", "64", "--json")
    assert statuses(result) == ["done", "failed", "done"]
    assert "b.tif" in result.stderr
    assert not (here / "maps/b").exists()


def test_a_bug_in_one_scene_does_not_stop_the_others(scenes, run, monkeypatch):
    from mmovseg_geo import batch

    mapped = batch.map_opened

    def map_opened(scene, *arguments, **settings):
        return 1 / 0 if scene.name == "a" else mapped(scene, *arguments, **settings)

    monkeypatch.setattr(batch, "map_opened", map_opened)
    result = run("batch", scenes, *WORDS)
    assert result.exit_code == 3
    assert "This is a bug" in result.stderr
    assert result.stdout.splitlines() == ["maps/b", "maps/c"]


def test_the_model_is_loaded_once(scenes, run, monkeypatch):
    loaded = []
    load = models.load_segmenter

    def counted(*arguments, **settings):
        loaded.append(1)
        return load(*arguments, **settings)

    monkeypatch.setattr("mmovseg_geo.maps.load_segmenter", counted)
    run("batch", scenes, *WORDS)
    assert len(loaded) == 1


def test_a_model_that_is_loaded_already_maps_a_scene_as_it_is(here, scene):
    loaded = models.load_segmenter("threshold", "night,day")
    config = SegmentConfig(model="nothing", polygons=False, preview=False)
    report = map_scene(*scene, here / "map", config=config, segmenter=loaded).report
    assert [entry["name"] for entry in report["classes"]] == ["night", "day"]


def test_an_unknown_model_stops_the_batch_at_once(scenes, refused):
    assert "Unknown model" in refused("batch", scenes, *WORDS, "--model", "nothing")


def test_classes_are_checked_before_any_work(scenes, refused):
    assert "twice" in refused("batch", scenes, "--classes", "a,a", "-o", "maps")


def test_wrong_tables_are_refused_before_any_work(here, scenes, refused):
    (here / "bad.csv").write_text("optical,sar\nopt/a.tif,nowhere.tif\n")
    assert "nowhere.tif" in refused("batch", "bad.csv", *WORDS)
    assert "leave sar out" in refused("batch", "bad.csv", "sar", *WORDS)


def test_the_output_must_be_a_folder(scenes, refused):
    assert "scenes.csv is a file" in refused("batch", scenes, "--classes", "a,b", "-o", "scenes.csv")


def test_a_dry_run_lists_pairs_and_folders(here, scenes, run):
    before = sorted(here.rglob("*"))
    lines = run("batch", scenes, *WORDS, "--dry-run").stdout.splitlines()
    assert lines[0].endswith("a.tif -> maps/a")
    assert "no SAR" in lines[2]
    assert sorted(here.rglob("*")) == before
