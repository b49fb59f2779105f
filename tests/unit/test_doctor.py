"""What the doctor finds here, and what it says where something is broken."""

from __future__ import annotations

import json
import sys

import pytest
from mmovseg_cli.app import app
from typer.testing import CliRunner

from mmovseg_geo import doctor
from mmovseg_geo.errors import WeightsError


@pytest.fixture(scope="module")
def facts() -> dict:
    return doctor.examine()


def test_a_machine_that_runs_the_tests_is_well(facts):
    assert facts["problems"] == []
    assert doctor.lines(facts)[-1] == "All that mmovseg needs is there."
    assert facts["memory"]["total_mb"] >= facts["memory"]["free_mb"] > 0
    assert facts["rasters"]["drivers"]["COG"]
    assert facts["vectors"]["drivers"]["GPKG"]
    assert facts["compute"]["device"] in ("cpu", "cuda")
    assert facts["cache"]["weights"]["mmovseg-compact"] > 1


def test_every_extra_says_what_it_is_for(facts):
    assert set(facts["extras"]) <= set(doctor.EXTRAS)


def test_packages_that_are_needed_and_those_of_extras_are_told_apart(monkeypatch):
    wanted = [
        "rasterio>=1.4",
        "torch>=2.4",
        'dask[distributed]>=2024.8; extra == "dask"',
        "nowhere-to-be-found; extra == 'xlsx'",
    ]
    monkeypatch.setattr(doctor, "_requirements", lambda: wanted)
    monkeypatch.setattr(doctor, "_version", {"rasterio": "1.4.4", "dask": "2025.1"}.get)
    assert doctor._packages() == ({"rasterio": "1.4.4", "torch": None}, {"dask": [], "xlsx": ["nowhere-to-be-found"]})


def test_what_is_missing_is_a_problem_with_advice(monkeypatch):
    monkeypatch.setattr(doctor, "_packages", lambda: ({"torch": None}, {"xlsx": ["openpyxl"]}))
    found = doctor.examine()
    assert found["problems"] == ["torch is not installed. Install again: pip install mmovseg-geo"]
    assert any("xlsx: without openpyxl (tables of scores" in line for line in doctor.lines(found))


def test_a_library_that_cannot_be_loaded_is_told_and_the_rest_still_is(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyogrio", None)
    monkeypatch.delitem(sys.modules, "mmovseg_geo.polygons.formats", raising=False)
    found = doctor.examine()
    (problem,) = found["problems"]
    assert problem.startswith("mmovseg cannot write polygons: ModuleNotFoundError")
    assert "GDAL" in " ".join(line for line in doctor.lines(found) if line.startswith("rasters"))


def test_secrets_among_the_settings_are_not_shown(monkeypatch):
    monkeypatch.setenv("GDAL_HTTP_USERPWD", "ann:secret")
    monkeypatch.setenv("GDAL_HTTP_HEADERS", "Authorization: secret")
    monkeypatch.setenv("GDAL_HTTP_PROXY", "http://ann:secret@proxy:80")
    monkeypatch.setenv("GDAL_CACHEMAX", "256")
    found = doctor._settings()
    assert "secret" not in str(found)
    assert found["GDAL_HTTP_USERPWD"] == "set, not shown"
    assert found["GDAL_HTTP_PROXY"] == "http://***@proxy:80"
    assert found["GDAL_CACHEMAX"] == "256"


def test_damaged_weights_and_lacking_drivers_are_problems(monkeypatch):
    def damaged():
        raise WeightsError("compact.safetensors: the bundled weights are damaged.")

    monkeypatch.setattr("mmovseg_geo.models.weights.bundled_weights", damaged)
    monkeypatch.setattr(
        doctor, "_rasters", lambda: {"version": "3", "drivers": {"COG": False}, "lacks": ["COG"], "transforms": False}
    )
    problems = " ".join(doctor.examine()["problems"])
    for part in ("bundled weights are damaged", "lacks the driver COG", "PROJ finds no data base"):
        assert part in problems


def test_the_command_prints_one_object_and_fails_where_something_is_missing(monkeypatch):
    result = CliRunner().invoke(app, ["doctor", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["command"] == "doctor"
    monkeypatch.setattr(doctor, "_packages", lambda: ({"torch": None}, {}))
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "PROBLEM   torch is not installed" in result.stdout
