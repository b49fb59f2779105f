"""Every odd file found in the wild becomes a scene or an error in words, never a traceback."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from mmovseg_geo.errors import MissingBand, MissingCRS, MmovsegError, SceneError
from mmovseg_geo.grid import Window
from mmovseg_geo.rasters.scene import open_scene

SHARED = Path(os.environ.get("MMOVSEG_SHARED", Path(__file__).resolve().parents[3] / "shared"))
FOLDER = SHARED / "data" / "odd_geotiffs"
FILES = sorted(path.name for path in FOLDER.glob("*")) if FOLDER.is_dir() else []

REFUSED = {
    "RGB.byte.gcp.vrt": SceneError,
    "all-nodata.tif": SceneError,
    "au-3577-rotated.tif": MissingBand,
    "cog_dateline.tif": MissingBand,
    "cog_int16.tif": MissingBand,
    "cog_nodata_nan.tif": MissingBand,
    "cog_scale_epsg4326.tif": MissingBand,
    "corrupt.tif": SceneError,
    "dummy_recognition_map.tif": MissingCRS,
    "float_raster_with_nodata.tif": MissingBand,
    "image_missing_nodata.tif": MissingBand,
    "inverted_lat.tif": MissingBand,
    "rotated.tif": MissingCRS,
    "shade.tif": MissingBand,
}
"""What cannot be an optical image as it is; every other file can."""

EMPTY_OR_BROKEN = ("all-nodata.tif", "corrupt.tif", "inverted_lat.tif")

pytestmark = pytest.mark.skipif(not FILES, reason=f"no odd GeoTIFFs in {FOLDER}; set MMOVSEG_SHARED to run these tests")


def check_readable(scene):
    height, width = scene.shape
    for window in (Window(0, 0, 256, 256), Window(height // 2, width // 2, 256, 256)):
        tile = scene.read(window)
        for values, valid in ((tile.optical, tile.optical_valid), (tile.sar, tile.sar_valid)):
            if values is not None:
                assert np.isfinite(values).all()
                assert values.min() >= 0
                assert values.max() <= 255
                assert (values[:, ~valid] == 0).all()
    assert scene.overview(200).valid.any()
    json.dumps(scene.describe())


@pytest.mark.parametrize("name", FILES)
def test_as_optical_it_is_a_scene_or_the_expected_error(name):
    if name in REFUSED:
        with pytest.raises(REFUSED[name], match=name.replace(".", r"\.")):
            open_scene(FOLDER / name)
    else:
        with open_scene(FOLDER / name) as scene:
            check_readable(scene)


@pytest.mark.parametrize("name", FILES)
def test_as_gray_or_sar_on_a_pixel_grid_it_is_a_scene_or_an_error_in_words(name):
    for options in ({"optical": FOLDER / name, "bands": (1, 1, 1)}, {"sar": FOLDER / name}):
        if name in EMPTY_OR_BROKEN:
            with pytest.raises(MmovsegError, match=name.replace(".", r"\.")):
                open_scene(**options, pixel_grid=True)
        else:
            with open_scene(**options, pixel_grid=True) as scene:
                check_readable(scene)


@pytest.mark.parametrize("name", ["RGB.byte.gcp.vrt"])
def test_control_points_are_warped_when_asked(name):
    if name not in FILES:
        pytest.skip(f"{name} is not there")
    check_readable(open_scene(FOLDER / name, gcps="tps"))


@pytest.mark.parametrize("name", ["RGBA.uint16.tif"])
def test_blue_green_red_is_put_in_order(name):
    if name not in FILES:
        pytest.skip(f"{name} is not there")
    assert open_scene(FOLDER / name).optical.choice.bands == (3, 2, 1)
