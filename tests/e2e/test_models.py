"""`mmovseg models` through the real command line: names, files, and errors that say what to do."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import rasterio
from safetensors.torch import save_file

from mmovseg_geo.models import registry
from tests.small_hub import SmallHub, serving
from tests.unit.models.published import ENCODER, REPOSITORY, archive, official, pickled, plain, use_small_registry

PIE = "mmovseg-vitb16-pie"


@pytest.fixture
def cache(tmp_path_factory, monkeypatch) -> Path:
    """An empty cache beside the current folder."""
    home = tmp_path_factory.mktemp("home") / "hf"
    for variable in ("HF_HUB_CACHE", "HF_ASSETS_CACHE", "HF_HUB_OFFLINE", "HF_ENDPOINT", "HF_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(home))
    return home


@pytest.fixture
def small(cache, monkeypatch) -> Iterator[SmallHub]:
    """A registry of small files, and the hub that has them."""
    use_small_registry(monkeypatch, cache)
    with serving() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        hub.files = {
            (REPOSITORY, "encoder.safetensors"): plain(),
            (REPOSITORY, "encoder.pt"): pickled(),
            (REPOSITORY, "B16.zip"): archive(modelPIE=official()),
        }
        yield hub


def test_all_names_are_listed_with_what_is_known(cache, run):
    lines = run("models", "list").stdout.splitlines()
    assert lines[0].split() == ["NAME", "METHOD", "SENSORS", "RESOLUTION", "SIZE", "LICENCE", "HERE"]
    assert [line.split()[0] for line in lines[1:]] == list(registry.names())
    row = next(line for line in lines if line.startswith(f"{PIE} "))
    assert row.split() == [PIE, "MM-OVSeg", "optical,", "sar", "0.5-3", "m", "~1.3", "GB", "unknown", "no"]


def test_the_list_as_json_says_null_where_nothing_is_known(cache, run):
    told = json.loads(run("models", "list", "--json").stdout)
    assert (told["command"], told["schema_version"]) == ("models list", 1)
    entries = {entry["name"]: entry for entry in told["models"]}
    pie = entries[PIE]
    assert pie["licence"] is None
    assert pie["source"] == {
        "kind": "hub",
        "repository": "YiminJimmy/MM-OVSeg",
        "file": "B16.zip",
        "revision": None,
        "size": None,
        "sha256": None,
    }
    assert pie["classes"] == ["backbroad", "city", "forest", "farmland"]
    assert pie["normalization"]["mean"] == [122.7709383, 116.7460125, 104.09373615]
    assert entries["mmovseg-compact"]["here"] == "bundled"
    assert entries["segearth-ov"]["parts"] == ["clip-vitb16-openai"]


def test_what_is_known_of_a_name_is_shown(cache, run):
    text = run("models", "show", PIE).stdout
    assert "licence        unknown" in text
    assert "member         modelPIE.pth" in text
    assert "the official README states none" in text


@pytest.mark.parametrize("verb", ["show", "pull", "verify", "path"])
def test_an_unknown_name_suggests_the_nearest(cache, refused, verb):
    assert f"Did you mean {PIE}?" in refused("models", verb, "mmovseg-vitb16-pye")


def test_where_weights_are_is_printed_or_how_to_get_them(cache, run, refused):
    assert Path(run("models", "path", "mmovseg-compact").stdout.strip()).is_file()
    assert "mmovseg models pull clip-vitb16-openai" in refused("models", "path", "segearth-ov")
    assert "mmovseg models pull" in refused("models", "verify", PIE)


def test_pull_then_path_verify_and_show(small, here, run):
    path = run("models", "pull", "pickled").stdout.strip()
    assert run("models", "path", "pickled").stdout.strip() == path
    assert "checksum of the tensors" in run("models", "verify", "pickled").stdout
    assert "source_file      encoder.pt" in run("models", "show", path).stdout
    told = json.loads(run("models", "verify", path, "--json").stdout)
    assert told["files"][0]["network"] == "encoder"
    listed = json.loads(run("models", "list", "--json").stdout)["models"]
    assert {entry["name"]: entry["here"] for entry in listed}["pickled"] == "cached"


def test_a_published_checkpoint_maps_a_scene_by_name_and_by_path(small, here, scene, run):
    (here / "modelPIE.pth").write_bytes(official())
    made = run("models", "convert", "modelPIE.pth", "-o", "pie.safetensors")
    assert made.stdout.strip() == "pie.safetensors"
    assert "licence unknown" in made.stderr
    assert run("models", "pull", PIE).exit_code == 0
    maps = []
    for model in (PIE, "pie.safetensors"):
        result = run("segment", *scene, "--model", model, "--device", "cpu", "-o", f"map_{len(maps)}", "--json")
        assert result.exit_code == 0, result.output
        outputs = json.loads(result.stdout)["outputs"]
        record = json.loads(Path(outputs["run"]).read_text())
        assert record["request"]["model"]["model"] == PIE
        assert [entry["name"] for entry in record["request"]["classes"]] == ["city", "road", "forest"]
        with rasterio.open(outputs["labels"]) as labels:
            maps.append(labels.read(1))
    assert (maps[0] == maps[1]).all()
    assert set(maps[0].ravel()) <= {1, 2, 3}


def test_a_checkpoint_as_published_says_how_to_convert_it(small, here, scene, refused):
    (here / "modelPIE.pth").write_bytes(official())
    assert "mmovseg models convert modelPIE.pth" in refused("segment", *scene, "--model", "modelPIE.pth")


def test_a_folder_is_called_so_and_what_is_in_it_is_named(small, here, scene, refused):
    (here / "weights").mkdir()
    (here / "weights" / "modelPIE.pth").write_bytes(official())
    for command in (
        ("models", "convert", "weights", "-o", "out.safetensors"),
        ("models", "pull", PIE, "--from", "weights"),
        ("segment", *scene, "--model", "weights"),
    ):
        message = refused(*command)
        assert "weights is a folder; expected a checkpoint file" in message
        assert "modelPIE.pth" in message.splitlines()[1]


def test_an_upsampler_in_the_place_of_a_model_says_where_it_belongs(cache, here, scene, refused):
    save_file({"up1.range_temp": ENCODER["encoder.bias"]}, here / "jbu-stack.safetensors", {"variant": "jbu-stack"})
    message = refused("segment", *scene, "--model", "jbu-stack.safetensors", "--classes", "water")
    assert "jbu-stack.safetensors: jbu-stack is no whole model" in message
    assert "--model segearth-ov --model-option upsampler=jbu-stack.safetensors" in message


def test_an_existing_file_is_not_overwritten(small, here, refused):
    (here / "encoder.pt").write_bytes(pickled())
    (here / "mine.safetensors").write_bytes(b"kept")
    assert "--overwrite" in refused("models", "convert", "encoder.pt", "-o", "mine.safetensors")
    assert (here / "mine.safetensors").read_bytes() == b"kept"


def test_a_pickle_that_runs_code_needs_trust(small, here, run, refused):
    (here / "odd.pt").write_bytes(pickled({"state_dict": ENCODER, "args": argparse.Namespace(lr=1)}))
    assert "--trust-pickle" in refused("models", "convert", "odd.pt", "-o", "odd.safetensors")
    assert run("models", "convert", "odd.pt", "-o", "odd.safetensors", "--trust-pickle").exit_code == 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pickled({"fc.weight": ENCODER["encoder.weight"]}), "does not know"),
        (pickled()[:200], "incomplete"),
        (b"<html>404</html>", "not a checkpoint"),
    ],
)
def test_files_that_cannot_be_converted_are_named(small, here, refused, content, said):
    (here / "file.pth").write_bytes(content)
    message = refused("models", "convert", "file.pth", "-o", "out.safetensors")
    assert "file.pth" in message
    assert said in message


@pytest.mark.parametrize("name", ["brought", "plain"])
def test_a_damaged_file_that_is_brought_is_named(small, here, refused, name):
    (here / "cut.safetensors").write_bytes(plain()[:-20])
    message = refused("models", "pull", name, "--from", "cut.safetensors")
    assert "cut.safetensors: cannot be read as safetensors" in message
    assert "get it again" in message


def test_altered_weights_are_found(small, here, run, refused):
    path = Path(run("models", "pull", "pickled").stdout.strip())
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert "--overwrite" in refused("models", "verify", "pickled")
    assert run("models", "pull", "pickled", "--overwrite").exit_code == 0
    assert run("models", "verify", "pickled").exit_code == 0


@pytest.mark.parametrize(
    ("fault", "said"),
    [({"status": 404}, "404"), ({"status": 401}, "HF_TOKEN"), ({"shortened": True}, "incomplete")],
)
def test_a_hub_that_fails_leaves_no_model(small, here, refused, fault, said, monkeypatch):
    monkeypatch.setattr("mmovseg_geo.models.hub._PAUSE_S", 0)
    for name, value in fault.items():
        setattr(small, name, value)
    assert said in refused("models", "pull", "plain")
    assert "mmovseg models pull plain" in refused("models", "path", "plain")


def test_the_environment_of_the_process_is_honored(cache, here):
    """The shipped registry in a process of its own: a mirror that breaks off, then offline."""
    with serving() as hub:
        whole = archive(modelPIE=os.urandom(200_000))
        hub.files = {("YiminJimmy/MM-OVSeg", "B16.zip"): whole}
        hub.shortened = True
        environment = {**os.environ, "HF_HOME": str(cache), "HF_ENDPOINT": hub.address, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "mmovseg_cli", "models", "pull", PIE]
        broken = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert (broken.returncode, broken.stdout) == (1, "")
        assert "incomplete" in broken.stderr
        hub.shortened = False
        foreign = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert foreign.returncode == 1
        assert "modelPIE.pth" in foreign.stderr
        assert hub.asked("GET")[-1].headers["Range"] == f"bytes={len(whole) // 2}-"
    offline = subprocess.run(
        command, env={**environment, "HF_HOME": str(here), "HF_HUB_OFFLINE": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (offline.returncode, offline.stdout) == (1, "")
    assert "HF_HUB_OFFLINE is set" in offline.stderr
