"""The ratio of both polarizations as a third band."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmovseg_geo.config import SegmentConfig
from mmovseg_geo.errors import ConfigError, MissingBand
from mmovseg_geo.grid import Window
from mmovseg_geo.maps import map_scene, opened
from mmovseg_geo.rasters.ratio import RATIO_DB
from mmovseg_geo.rasters.scene import open_scene
from mmovseg_geo.rasters.source import Source, probe
from tests import delivered


def shown(vv_db: float, vh_db: float) -> float:
    """What the third band shows of this backscatter."""
    low, high = RATIO_DB
    return float(np.clip((vv_db - vh_db - low) / (high - low), 0, 1) * 255)


@pytest.fixture
def radar(raster):
    """Writes one file of VV and VH that are everywhere the same."""

    def make(vv_db: float, vh_db: float, name: str = "s1.tif"):
        return raster(name, np.stack([np.full((20, 30), value, np.float32) for value in (vv_db, vh_db)]))

    return make


@given(st.floats(-24, -1), st.floats(-31, -8))
@settings(max_examples=20, deadline=None)
def test_the_third_band_is_the_difference_of_the_decibels(tmp_path_factory, vv_db, vh_db):
    path = tmp_path_factory.mktemp("ratio") / "s1.tif"
    delivered.write(path, np.stack([np.full((20, 30), value, np.float32) for value in (vv_db, vh_db)]))
    tile = open_scene(None, path, sar_ratio=True).read(Window(2, 3, 8, 9))
    assert tile.sar.shape == (3, 8, 9)
    np.testing.assert_allclose(tile.sar[2], shown(vv_db, vh_db), atol=0.05)


def test_the_first_two_bands_stay(radar):
    path = radar(-12, -19)
    window = Window(0, 0, 20, 30)
    plain, more = (open_scene(None, path, sar_ratio=wanted).read(window) for wanted in (False, True))
    np.testing.assert_array_equal(more.sar[:2], plain.sar)
    assert open_scene(None, path, sar_ratio=True).overview(10).sar.shape[0] == 3


def test_where_radar_has_no_data_the_ratio_is_nothing(raster):
    bands = np.stack([np.full((20, 30), value, np.float32) for value in (-12, -19)])
    bands[:, :, :10] = np.nan
    tile = open_scene(None, raster("s1.tif", bands, nodata=np.nan), sar_ratio=True).read(Window(0, 0, 20, 30))
    assert not tile.sar_valid[:, :10].any()
    assert not tile.sar[2][:, :10].any()
    assert tile.sar[2][:, 10:].all()


def test_two_files_are_as_good_as_one(raster):
    both = [raster(f"{name}.tif", np.full((1, 20, 30), db, np.float32)) for name, db in (("a_vv", -10), ("a_vh", -16))]
    scene = opened(None, ",".join(map(str, both)), SegmentConfig(sar_ratio=True, coregister="off"))
    np.testing.assert_allclose(scene.read(Window(0, 0, 5, 5)).sar[2], shown(-10, -16), atol=0.05)
    assert scene.provenance()["sar_ratio"] == list(RATIO_DB)


def test_one_polarization_has_no_ratio(raster):
    with pytest.raises(MissingBand, match="cross-polarized"):
        open_scene(None, raster("s1.tif", np.full((1, 20, 30), -10, np.float32)), sar_ratio=True)


def test_a_finished_picture_has_no_decibels(raster):
    with pytest.raises(ConfigError, match="nobody knows the decibels"):
        open_scene(None, raster("s1.tif", np.full((2, 20, 30), 90, np.uint8)), sar_ratio=True)


def test_published_networks_see_all_three_bands():
    import torch

    from mmovseg_geo.models.mmovseg.preprocessing import as_rgb

    image = torch.rand(1, 3, 4, 4)
    assert torch.equal(as_rgb(image), image)


def test_a_model_that_does_not_look_at_it_says_so_and_labels_as_before(raster, rgb, decibels, tmp_path):
    optical, sar = raster("rgb.tif", rgb), raster("sar.tif", decibels)
    maps = []
    for wanted in (False, True):
        config = SegmentConfig(
            classes=(("water",), ("trees",)), sar_ratio=wanted, coregister="off", polygons=False, preview=False
        )
        result = map_scene(optical, sar, tmp_path / str(wanted), config=config)
        maps.append(result)
    assert any("does not look at the ratio" in text for text in maps[1].report["warnings"])
    assert not any("ratio" in text for text in maps[0].report["warnings"])
    first, second = (Source(probe(str(result.outputs["labels"])), (1,)).decimated(1000)[0] for result in maps)
    np.testing.assert_array_equal(first, second)
