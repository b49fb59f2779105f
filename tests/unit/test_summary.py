"""What was understood of a scene, in short lines."""

from __future__ import annotations

from copy import deepcopy

import pytest

from mmovseg_geo.rasters.scene import open_scene
from mmovseg_geo.summary import details, summary


@pytest.fixture(scope="module")
def description(request):
    sample = request.getfixturevalue("sample_data")
    with open_scene(sample / "scene_rgb.tif", sample / "scene_sar.tif") as scene:
        return scene.describe()


def test_each_file_has_a_line_of_bands_and_scaling(description):
    optical, sar, *_ = summary(description)
    assert optical.startswith("optical  scene_rgb.tif: red = band 1, green = band 2, blue = band 3; 8bit")
    assert sar.startswith("sar      scene_sar.tif: VV = band 1, VH = band 2; db")


def test_grid_and_overlap_are_told(description):
    *_, grid, overlap = summary(description)
    assert grid.startswith("grid     768 x 768 pixels of 5 m, EPSG:32633")
    assert overlap == "overlap  SAR covers 100 % of the optical image"


def test_a_share_below_one_is_never_called_all(description):
    nearly = {**description, "overlap": 0.99999}
    assert "almost 100 %" in summary(nearly)[-1]
    assert "62.5 %" in summary({**description, "overlap": 0.625})[-1]


def test_a_shift_is_told(description):
    moved = {**description, "sar_shift": {"rows": -2.0, "cols": 3.0}}
    assert summary(moved)[-1].endswith("moved by -2 rows and 3 columns")


def test_one_sensor_alone_has_no_overlap(description):
    alone = {**description, "sar": [], "overlap": None}
    assert len(summary(alone)) == 2


def test_details_tell_why(description):
    text = "\n".join(details(description))
    for part in (
        "uint8",
        "float32",
        "EPSG:32633, pixel 5 x -5",
        "by color interpretation",
        "none declared",
        "8-bit file",
    ):
        assert part in text


def test_rotation_no_data_and_control_points_are_told(description):
    odd = deepcopy(description)
    odd["optical"]["transform"][1] = 2.0
    odd["optical"]["nodata"] = [0.0]
    odd["sar"][0]["gcps"] = {"count": 210, "left_out_rms_px": 0.5, "left_out_worst_px": 2.0}
    text = "\n".join(details(odd))
    assert "rotated" in text
    assert "nodata   0;" in text
    assert "210 control points; a point left out is missed by 0.5 of its pixels, at worst 2" in text
