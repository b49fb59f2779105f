"""A run that was killed, interrupted or failed goes on after its finished strips, and ends as if nothing had been."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmovseg_geo.unfinished import hidden_folder

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and forks are POSIX")

TILES = ("--tile-size", "64", "--overlap", "16", "--batch-size", "3")
WORDS = ("--classes", "dark,middle,bright", *TILES)

MODEL = '''
"""The threshold model; it counts its batches, and stops at the one that a file names."""
from pathlib import Path
from mmovseg_geo.models.threshold import threshold

REASONS = {"ctrl-c": KeyboardInterrupt(), "lost": RuntimeError("the device is gone"), "memory": MemoryError()}


def build(vocabulary, **settings):
    segmenter = threshold(vocabulary, **settings)
    if Path("revision").exists():
        segmenter.provenance["weights_sha256"] = Path("revision").read_text()

    class Frail:
        def __getattr__(self, name):
            return getattr(segmenter, name)

        def __call__(self, batch):
            count = Path("batches")
            done = int(count.read_text()) + 1 if count.exists() else 1
            count.write_text(str(done))
            if Path("stop").exists():
                number, reason = Path("stop").read_text().split()
                if done == int(number) or (reason == "memory" and done > int(number)):
                    raise REASONS[reason]
            return segmenter(batch)

    return Frail()
'''

FORKING = """
import importlib, json, os, signal, sys, time
for name in ("mmovseg_geo.maps", "mmovseg_geo.polygons", "mmovseg_geo.report", "mmovseg_geo.models.threshold",
             "mmovseg_geo.unfinished", "pyproj", "odc.geo.geobox", "scipy.ndimage"):
    importlib.import_module(name)
from mmovseg_cli.app import app
for line in sys.stdin:
    order = json.loads(line)
    started = time.monotonic()
    child = os.fork()
    if not child:
        log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1), os.dup2(log, 2)
        app(order["words"])
    while time.monotonic() - started < order["kill_after"]:
        time.sleep(0.002)
        if os.waitpid(child, os.WNOHANG)[0]:
            break
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        print(json.dumps("killed"), flush=True)
        continue
    print(json.dumps(time.monotonic() - started), flush=True)
"""
"""Starts commands in forks of one process, because to import everything takes longer than to run."""


@pytest.fixture
def tall(write) -> tuple[Path, Path]:
    """A scene of 17 rows of two 64-pixel windows: smooth patches, with noise in some rows of the lower half."""
    rng = np.random.default_rng(3)
    optical = np.kron(rng.integers(1, 256, (42, 5)), np.ones((20, 20))).astype(np.uint8)
    optical[540:660] = rng.integers(1, 256, (120, 100))
    sar = rng.normal(-12, 3, (2, 840, 100)).astype(np.float32)
    return write("s2.tif", np.stack([optical] * 3)), write("s1.tif", sar)


@pytest.fixture
def frail(here, monkeypatch):
    """Words that choose a model which counts its batches and can be told to stop."""
    (here / "frail_model.py").write_text(MODEL)
    monkeypatch.syspath_prepend(str(here))
    monkeypatch.setenv("OGR_CURRENT_DATE", "2026-01-01T00:00:00Z")
    return ("--model", "frail_model:build")


def batches(here: Path) -> int:
    found = int((here / "batches").read_text())
    (here / "batches").unlink()
    return found


def hidden(here: Path, folder: str = "map") -> Path:
    return hidden_folder({"run": here / folder / "s2_run.json"})


def outputs(folder: Path) -> dict[str, object]:
    """Files by name: bytes, and of the record all but its timings. Hidden ones are left out."""
    found: dict[str, object] = {
        path.name: path.read_bytes() for path in folder.glob("*") if not path.name.startswith(".")
    }
    if "s2_run.json" in found:
        found["s2_run.json"] = {k: v for k, v in json.loads(found["s2_run.json"]).items() if k != "timings_s"}  # type: ignore[call-overload]
    return found


PLAIN = ("--no-polygons", "--no-preview")


@pytest.fixture
def stopped(here, tall, frail, run):
    """A run that was stopped in its 9th batch of 12: its result, the words to repeat it, and what gives a whole run."""

    def stop(reason: str = "ctrl-c", more: tuple[str, ...] = PLAIN):
        words = ("segment", *tall, *WORDS, *frail, *more, "-o", "map")
        (here / "stop").write_text(f"9 {reason}")
        result = run(*words)
        (here / "stop").unlink()
        assert batches(here) == (10 if reason == "memory" else 9)

        def whole(*changed: str) -> dict[str, object]:
            (here / "batches").unlink(missing_ok=True)
            assert run(*words[:-1], "whole", *changed).exit_code == 0
            assert batches(here) == 12
            return outputs(here / "whole")

        return result, words, whole

    return stop


def test_a_run_killed_at_twenty_random_moments_ends_like_one_that_was_not(here, tall):
    words = ["segment", *map(str, tall), *WORDS, "--model", "threshold", "--resume", "-q"]
    forks = subprocess.Popen(
        [sys.executable, "-c", FORKING],
        cwd=here,
        env={**os.environ, "OGR_CURRENT_DATE": "2026-01-01T00:00:00Z", "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def command(out: str, kill_after: float = 1e9) -> object:
        forks.stdin.write(json.dumps({"words": [*words, "-o", out], "kill_after": kill_after}) + "\n")
        forks.stdin.flush()
        return json.loads(forks.stdout.readline())

    seconds = command("whole")
    expected = outputs(here / "whole")
    assert len(expected) == 6, (here / "log").read_text()
    moment, kills, finished = random.Random(6), 0, 0
    while kills < 20:
        if command("map", moment.uniform(0, seconds)) == "killed":
            kills += 1
            seen = outputs(here / "map")
            assert seen == {name: expected[name] for name in seen}
        else:
            finished += 1
            assert outputs(here / "map") == expected, (here / "log").read_text()
            assert not hidden(here).exists()
            shutil.rmtree(here / "map")
    command("map")
    assert outputs(here / "map") == expected, (here / "log").read_text()
    assert not hidden(here).exists()
    forks.stdin.close()
    forks.wait(30)


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(here, stopped, run):
    result, words, whole = stopped("ctrl-c", more=())
    assert result.exit_code == 130
    assert "Interrupted" in result.stderr
    assert "--resume" in result.stderr
    assert [path.name for path in (here / "map").iterdir()] == [".s2.unfinished"]
    assert run(*words, "--resume").exit_code == 0
    assert batches(here) <= 6
    assert outputs(here / "map") == whole()
    assert not hidden(here).exists()


@pytest.mark.parametrize(("reason", "says"), [("lost", "the device is gone"), ("memory", "Out of memory")])
def test_a_failure_keeps_what_is_finished(here, stopped, run, reason, says):
    result, words, whole = stopped(reason)
    assert result.exit_code == 1
    assert says in result.stderr
    assert "--resume" in result.stderr
    assert run(*words, "--resume").exit_code == 0
    assert outputs(here / "map") == whole()


def test_nothing_is_left_where_nothing_was_finished(here, tall, frail, run):
    (here / "stop").write_text("1 ctrl-c")
    result = run("segment", *tall, *WORDS, *frail, "-o", "map")
    assert result.exit_code == 130
    assert "Nothing unfinished was left behind" in result.stderr
    assert not (here / "map").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("--tile-size", "48"), "tile-size (64, now 48)"),
        (("--classes", "dark,bright"), "classes"),
        (("--no-confidence",), "confidence (True, now False)"),
        (("--optical-scale", "0,200"), "optical-scale"),
    ],
)
def test_other_settings_do_not_resume(here, stopped, run, change, says):
    _, words, _ = stopped()
    kept = sorted(hidden(here).rglob("*.strip"))
    result = run(*words, "--resume", *change)
    assert result.exit_code == 1
    assert says in result.stderr
    assert sorted(hidden(here).rglob("*.strip")) == kept != []


def test_another_input_does_not_resume(here, stopped, run):
    _, words, _ = stopped()
    os.utime("s1.tif", ns=(1, 1))
    result = run(*words, "--resume")
    assert result.exit_code == 1
    assert "inputs (s1.tif)" in result.stderr


def test_other_weights_do_not_resume(here, stopped, run):
    _, words, _ = stopped()
    (here / "revision").write_text("another training")
    result = run(*words, "--resume")
    assert result.exit_code == 1
    assert "model (weights sha256)" in result.stderr


def test_what_is_done_with_the_whole_map_may_change(here, stopped, run):
    _, words, whole = stopped()
    changed = ("--co", "COMPRESS=LZW", "--preview")
    assert run(*words, "--resume", *changed, "--batch-size", "2").exit_code == 0
    assert batches(here) <= 9
    assert outputs(here / "map") == whole(*changed)


def test_torn_strips_are_computed_again(here, stopped, run):
    _, words, whole = stopped()
    first, second, third, *_ = sorted(hidden(here).rglob("*.strip"))
    first.write_bytes(first.read_bytes()[:-5])
    content = bytearray(third.read_bytes())
    content[-9] ^= 1
    third.write_bytes(content)
    second.unlink()
    assert run(*words, "--resume").exit_code == 0
    assert 8 <= batches(here) <= 10
    assert outputs(here / "map") == whole()


def test_without_resume_an_interrupted_run_is_not_thrown_away(here, stopped, run):
    _, words, whole = stopped()
    result = run(*words)
    assert result.exit_code == 1
    assert "--resume to go on" in result.stderr
    assert run(*words, "--overwrite").exit_code == 0
    assert batches(here) == 12
    assert outputs(here / "map") == whole()


def test_strips_of_other_settings_give_way_to_a_new_run(here, stopped, run):
    _, words, _ = stopped()
    result = run(*words, "--tile-size", "48")
    assert result.exit_code == 0
    assert "removed" in result.stderr
    assert not hidden(here).exists()


def test_a_finished_run_is_not_run_again_by_resume(here, stopped, run):
    _, words, _ = stopped()
    run(*words, "--resume")
    batches(here)
    expected = outputs(here / "map")
    assert run(*words, "--resume").exit_code == 0
    assert not (here / "batches").exists()
    assert outputs(here / "map") == expected
    changed = run(*words, "--resume", "--tile-size", "48")
    assert changed.exit_code == 1
    assert "other tile-size" in changed.stderr


def test_an_overwriting_run_resumes_too(here, stopped, run):
    _, words, whole = stopped()
    expected = whole()
    shutil.copytree(here / "whole", here / "map", dirs_exist_ok=True)
    (here / "map" / "s2_labels.tif").write_text("of another run")
    assert run(*words, "--resume", "--overwrite").exit_code == 0
    assert batches(here) <= 6
    assert outputs(here / "map") == expected


def test_a_failure_after_the_labels_costs_no_strip(here, stopped, run):
    _, words, _ = stopped(more=("--no-preview",))
    failed = run(*words, "--resume", "--lco", "GEOMETRY_NAME=class_id")
    assert failed.exit_code == 1, failed.output
    batches(here)
    assert run(*words, "--resume").exit_code == 0
    assert not (here / "batches").exists()


def test_a_run_stopped_while_its_outputs_are_moved_is_completed(here, stopped, run, monkeypatch):
    _, words, whole = stopped(more=("--no-preview",))
    moved = Path.replace

    def replace(path, target):
        if path.name == "s2_polygons.gpkg":
            raise PermissionError(13, "Permission denied")
        return moved(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        result = run(*words, "--resume")
    assert result.exit_code == 1
    assert "--resume to move them" in result.stderr
    assert {path.name for path in (here / "map").glob("s2*")} == {
        "s2_labels.tif", "s2_labels.qml", "s2_confidence.tif"
    }  # fmt: skip
    batches(here)
    assert run(*words, "--resume").exit_code == 0
    assert not (here / "batches").exists()
    assert not hidden(here).exists()
    assert outputs(here / "map") == whole()


def limited(here: Path, room: int, *words: object) -> subprocess.CompletedProcess[str]:
    """The command line in a process that cannot write files of more than `room` bytes, as on a full disk."""
    code = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room})); "
    return subprocess.run(
        [sys.executable, "-c", code + "from mmovseg_cli.app import main; main()", *map(str, words)],
        cwd=here,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OGR_CURRENT_DATE": "2026-01-01T00:00:00Z"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("room", [3_000, 12_000])
def test_a_full_disk_ends_with_an_error_and_can_be_gone_on_from(here, tall, frail, run, room):
    """The smaller room takes the strips of the upper half, the larger one all strips but not the raster of labels."""
    words = ("segment", *tall, *WORDS, "--model", "threshold", *PLAIN, "-o", "map")
    result = limited(here, room, *words)
    assert result.returncode == 1
    assert "✗" in result.stderr
    assert "Traceback" not in result.stderr
    assert "--resume" in result.stderr
    assert [path.name for path in (here / "map").iterdir()] == [".s2.unfinished"]
    assert run(*words, "--resume").exit_code == 0
    assert run(*words[:-1], "whole").exit_code == 0
    assert outputs(here / "map") == outputs(here / "whole")


def test_two_runs_do_not_write_to_one_place(here, stopped, run):
    from filelock import FileLock

    _, words, _ = stopped()
    with FileLock(hidden(here) / "lock"):
        result = run(*words, "--resume")
    assert result.exit_code == 1
    assert "Another process" in result.stderr
    assert run(*words, "--resume").exit_code == 0


def test_a_batch_goes_on_inside_a_scene(here, stopped, run):
    _, words, whole = stopped()
    (here / "scenes.csv").write_text("optical,sar,out\ns2.tif,s1.tif,map\n")
    result = run("batch", "scenes.csv", *words[3:-1], ".")
    assert result.exit_code == 0, result.output
    assert batches(here) <= 6
    assert outputs(here / "map") == whole()


def test_a_batch_that_must_resume_refuses_other_settings(here, stopped, run):
    _, words, _ = stopped()
    (here / "scenes.csv").write_text("optical,sar,out\ns2.tif,s1.tif,map\n")
    changed = ("batch", "scenes.csv", *words[3:-1], ".", "--tile-size", "48")
    refused = run(*changed, "--resume")
    assert refused.exit_code == 3
    assert "tile-size (64, now 48)" in refused.stderr
    assert run(*changed).exit_code == 0
