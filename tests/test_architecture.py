"""The rules of the house: who may import whom, how long a file may be, how fast help comes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted([*(ROOT / "mmovseg_geo").rglob("*.py"), *(ROOT / "cli").rglob("*.py")])
LONGEST = 400


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_import_contracts_hold():
    result = run(
        sys.executable, "-c", "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout, result.stdout


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_one_room(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST, f"{path.name} has {lines} lines; split it into rooms of at most {LONGEST}"


def test_no_room_without_a_name():
    unnamed = {"utils", "helpers", "common", "misc"}
    assert not [path for path in SOURCES if unnamed & {part.removesuffix(".py") for part in path.parts}]


@pytest.mark.parametrize("module", ["mmovseg_geo", "mmovseg_geo.config", "mmovseg_geo.vocabulary", "mmovseg_cli.app"])
def test_light_modules_load_no_heavy_library(module):
    heavy = ("torch", "rasterio", "numpy", "geopandas", "odc", "shapely", "pyproj", "scipy", "yaml")
    script = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    result = run(sys.executable, "-c", script)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr


@pytest.mark.parametrize(
    "module",
    ["mmovseg_geo.pipeline", "mmovseg_geo.maps", "mmovseg_geo.batch", "mmovseg_geo.models", "mmovseg_geo.models.pull"],
)
def test_the_heart_starts_without_torch(module):
    result = run(sys.executable, "-c", f"import sys, {module}; print('torch' in sys.modules)")
    assert result.stdout.strip() == "False", result.stdout + result.stderr


def test_no_path_of_one_machine_stands_in_a_file():
    """Checked on files git tracks, as only these reach a user."""
    listed = run("git", "ls-files", "-z", "--", ".")
    if listed.returncode:
        pytest.skip("not a git checkout")
    needles = ["/" + place + "/" for place in ("work", "root", "farm")]
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".yaml", ".yml", ".json", ".csv", ".txt", ""} and path.is_file():
            text = path.read_text(encoding="utf-8", errors="ignore")
            assert not [needle for needle in needles if needle in text], name
