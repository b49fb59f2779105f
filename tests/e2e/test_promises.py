"""The promises to users, each kept by the whole command on small scenes written here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from mmovseg_cli.app import app
from typer.testing import CliRunner

NORTH_UP = Affine(10, 0, 500000, 0, -10, 5000000)
GRIDS = {
    "north up": (NORTH_UP, "EPSG:32633"),
    "south up": (Affine(10, 0, 500000, 0, 10, 4990000), "EPSG:32633"),
    "rotated": (NORTH_UP @ Affine.rotation(30), "EPSG:32633"),
    "geographic": (Affine(1e-4, 0, 15.0, 0, -1e-4, 45.0), "EPSG:4326"),
}


def write(path: Path, bands: np.ndarray, *, transform=NORTH_UP, crs="EPSG:32633", **profile) -> Path:
    count, height, width = bands.shape
    profile = {"driver": "GTiff", "dtype": bands.dtype, "crs": crs, "transform": transform, **profile}
    with rasterio.open(path, "w", count=count, height=height, width=width, **profile) as target:
        target.write(bands)
    return path


def picture(height=300, width=340, seed=0) -> np.ndarray:
    """A smooth gray picture (3, H, W) uint8 without 0."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(1, 256, (height // 20 + 1, width // 20 + 1)).astype(np.uint8)
    return np.repeat(np.kron(coarse, np.ones((20, 20), np.uint8))[None, :height, :width], 3, axis=0)


def backscatter(height=300, width=340, seed=1) -> np.ndarray:
    """VV and VH in dB (2, H, W) float32."""
    noise = np.random.default_rng(seed).normal(size=(2, height, width))
    return (np.array([-12.0, -18.0])[:, None, None] + 2 * noise).astype(np.float32)


def segment(*arguments: object, expect: int = 0) -> dict:
    command = ["segment", *map(str, arguments), "--model", "threshold", "--json", "-q"]
    if "--classes" not in command:
        command += ["--classes", "dark,middle,bright"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == expect, result.output
    return json.loads(result.stdout) if expect == 0 else {}


def read(folder: Path, kind: str) -> np.ndarray:
    (path,) = folder.glob(f"*_{kind}.tif")
    with rasterio.open(path) as dataset:
        return dataset.read(1)


@pytest.mark.parametrize("name", GRIDS)
def test_the_map_has_exactly_the_grid_of_the_optical_image(tmp_path, name):
    transform, crs = GRIDS[name]
    optical = write(tmp_path / "a.tif", picture(), transform=transform, crs=crs)
    segment(optical, "-o", tmp_path / "map")
    with rasterio.open(optical) as expected, rasterio.open(tmp_path / "map" / "a_labels.tif") as found:
        assert found.crs == expected.crs
        assert found.shape == expected.shape
        assert found.transform.almost_equals(expected.transform, precision=1e-12 * max(map(abs, expected.transform)))


@pytest.mark.parametrize("kind", ["labels", "confidence"])
def test_bounds_give_the_pixels_of_a_whole_run(tmp_path, kind):
    optical, sar = write(tmp_path / "a.tif", picture()), write(tmp_path / "b.tif", backscatter())
    tiles = ["--tile-size", 64, "--overlap", 24]
    segment(optical, sar, "-o", tmp_path / "whole", *tiles)
    segment(optical, sar, "-o", tmp_path / "part", *tiles, "--bounds", "500700,4998000,502000,4999500")
    np.testing.assert_array_equal(read(tmp_path / "part", kind), read(tmp_path / "whole", kind)[50:200, 70:200])


@pytest.mark.parametrize("blend", ["linear", "cosine", "uniform"])
@pytest.mark.parametrize(("size", "overlap"), [(64, 0), (64, 63), (100, 30), (512, 64)])
def test_a_constant_image_gives_a_constant_map_to_the_outermost_pixel(tmp_path, blend, size, overlap):
    optical = write(tmp_path / "a.tif", np.full((3, 130, 75), 90, np.uint8))
    segment(
        optical, "-o", tmp_path / "map", "--no-polygons", "--no-preview",
        "--tile-size", size, "--overlap", overlap, "--blend", blend,
    )  # fmt: skip
    assert np.unique(read(tmp_path / "map", "labels")).tolist() == [2]
    assert len(np.unique(read(tmp_path / "map", "confidence"))) == 1


def test_labels_do_not_depend_on_the_tiles(tmp_path):
    optical = write(tmp_path / "a.tif", picture())
    for name, size in (("small", 48), ("large", 512)):
        segment(optical, "-o", tmp_path / name, "--tile-size", size, "--overlap", 16)
    np.testing.assert_array_equal(read(tmp_path / "small", "labels"), read(tmp_path / "large", "labels"))


def test_no_data_is_never_a_class(tmp_path):
    bands = picture()
    bands[:, 40:90, 100:200] = 0
    optical = write(tmp_path / "a.tif", bands, nodata=0)
    segment(optical, "-o", tmp_path / "map")
    missing = np.zeros(bands.shape[1:], bool)
    missing[40:90, 100:200] = True
    np.testing.assert_array_equal(read(tmp_path / "map", "labels") == 255, missing)
    np.testing.assert_array_equal(read(tmp_path / "map", "confidence") == 255, missing)


def test_alpha_marks_missing_pixels_and_is_no_band(tmp_path):
    alpha = np.full((1, 300, 340), 255, np.uint8)
    alpha[:, :100] = 0
    optical = write(tmp_path / "a.tif", np.concatenate([picture(), alpha]), photometric="RGB", alpha="YES")
    segment(optical, "-o", tmp_path / "map")
    labels = read(tmp_path / "map", "labels")
    assert (labels[:100] == 255).all()
    assert (labels[100:] != 255).all()


def test_where_one_sensor_is_missing_the_other_decides(tmp_path):
    bands, radar = picture(), backscatter()
    bands[:, :100] = 0
    radar[:, :, :120] = np.nan
    optical = write(tmp_path / "a.tif", bands, nodata=0)
    sar = write(tmp_path / "b.tif", radar, nodata=np.nan)
    segment(optical, sar, "-o", tmp_path / "both")
    segment(optical, "-o", tmp_path / "alone")
    both, alone = read(tmp_path / "both", "labels"), read(tmp_path / "alone", "labels")
    np.testing.assert_array_equal(both[100:], alone[100:])
    assert (both[:100, 120:] != 255).all()
    assert (both[:100, :120] == 255).all()


def test_equal_runs_give_equal_files_wherever_they_are_written(tmp_path):
    optical, sar = write(tmp_path / "a.tif", picture()), write(tmp_path / "b.tif", backscatter())
    for name in ("first", "second"):
        segment(optical, sar, "-o", tmp_path / name / "map")
    first = {path.name: path.read_bytes() for path in (tmp_path / "first" / "map").iterdir()}
    second = {path.name: path.read_bytes() for path in (tmp_path / "second" / "map").iterdir()}
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] in ([], ["a_run.json"])
    reports = [json.loads(files["a_run.json"]) for files in (first, second)]
    for report in reports:
        report.pop("timings_s")
    assert reports[0] == reports[1]


def test_a_file_that_ends_in_the_middle_is_a_visible_failure(tmp_path):
    rng = np.random.default_rng(0)
    optical = write(tmp_path / "a.tif", rng.integers(0, 256, (3, 700, 400), dtype=np.uint8))
    with optical.open("r+b") as file:
        file.truncate(optical.stat().st_size // 2)
    result = CliRunner().invoke(
        app, ["segment", str(optical), "--model", "threshold", "--classes", "a,b", "-o", str(tmp_path / "map")]
    )
    assert result.exit_code == 1
    assert "a.tif" in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "map").exists()
