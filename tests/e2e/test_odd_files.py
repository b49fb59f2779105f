"""Every odd GeoTIFF of the real data goes through the command line and ends in a map or in one clear message."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import rasterio

SHARED = Path(os.environ.get("MMOVSEG_SHARED", Path(__file__).resolve().parents[3] / "shared"))
FOLDER = SHARED / "data" / "odd_geotiffs"
FILES = sorted(FOLDER.glob("*")) if FOLDER.is_dir() else []
SLOW = {"cog_cmap.tif"}
"""62 megapixels."""
LIGHT = ("--no-polygons", "--no-preview", "--no-confidence")

pytestmark = pytest.mark.skipif(not FILES, reason=f"no odd GeoTIFFs in {FOLDER}; set MMOVSEG_SHARED to run these tests")


def check_refusal(result, path: Path) -> None:
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert path.name in result.stderr
    assert result.stderr.count("✗") == 1
    assert "bug" not in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "path", [pytest.param(path, id=path.name, marks=pytest.mark.slow if path.name in SLOW else ()) for path in FILES]
)
def test_segment_ends_in_a_map_on_its_grid_or_in_words(run, here, path):
    options = LIGHT if path.name in SLOW or path.stat().st_size > 1_000_000 else ()
    result = run("segment", path, "--classes", "dark,middle,bright", "-o", "map", *options)
    if result.exit_code:
        check_refusal(result, path)
        assert list(here.iterdir()) == []
        return
    with rasterio.open(path) as image, rasterio.open(here / "map" / f"{path.stem}_labels.tif") as labels:
        assert labels.shape == image.shape
        assert labels.transform.almost_equals(image.transform)
        assert labels.crs == image.crs
        assert set(labels.read(1, out_shape=(256, 256)).ravel().tolist()) <= {1, 2, 3, 255}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_info_tells_its_bands_or_why_not(run, path):
    result = run("info", path)
    if result.exit_code:
        check_refusal(result, path)
    else:
        assert path.name in result.stdout
        assert "scaling" in result.stdout
