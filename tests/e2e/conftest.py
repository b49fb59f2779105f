"""Small scenes on disk, and the real command line to run on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from mmovseg_cli.app import app
from typer.testing import CliRunner, Result

NORTH_UP = Affine(10, 0, 500000, 0, -10, 5000000)

Write = Callable[..., Path]
Run = Callable[..., Result]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def write(here) -> Write:
    """Writes bands (B, H, W) as a GeoTIFF in the current folder: 10 m pixels in UTM unless told otherwise."""

    def written(name: str, bands: np.ndarray, **profile) -> Path:
        count, height, width = bands.shape
        options = {"driver": "GTiff", "dtype": bands.dtype, "crs": "EPSG:32633", "transform": NORTH_UP, **profile}
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(name, "w", count=count, height=height, width=width, **options) as target:
            target.write(bands)
        return Path(name)

    return written


@pytest.fixture
def pixels() -> dict[str, np.ndarray]:
    """64 x 64 pixels: a dark and a bright half seen by both sensors."""
    optical = np.full((3, 64, 64), 40, np.uint8)
    sar = np.full((2, 64, 64), -22, np.float32)
    optical[:, :, 32:], sar[:, :, 32:] = 210, -5
    return {"optical": optical, "sar": sar}


@pytest.fixture
def scene(write, pixels) -> tuple[Path, Path]:
    """An optical file `s2.tif` and a SAR file `s1.tif` of one place."""
    return write("s2.tif", pixels["optical"]), write("s1.tif", pixels["sar"])


@pytest.fixture
def run() -> Run:
    """The command line in this process, always with the threshold model where there is a model."""

    def called(command: str, *arguments: object) -> Result:
        words = [command, *map(str, arguments)]
        if command in ("segment", "batch") and "--model" not in words:
            words += ["--model", "threshold"]
        return CliRunner().invoke(app, words)

    return called


@pytest.fixture
def refused(run, here) -> Callable[..., str]:
    """Runs a command that must be refused with exit code 1 and a plain message, and leave no file; the message."""

    def called(command: str, *arguments: object, code: int = 1) -> str:
        before = sorted(here.rglob("*"))
        result = run(command, *arguments)
        assert result.exit_code == code, result.output
        assert result.stdout == ""
        assert "Traceback" not in result.stderr
        assert "bug" not in result.stderr
        assert sorted(here.rglob("*")) == before
        return result.stderr

    return called
