from __future__ import annotations

import pickle
import threading

import numpy as np
import pytest

from mmovseg_geo.errors import SceneError
from mmovseg_geo.grid import Window
from mmovseg_geo.rasters.scene import open_scene
from mmovseg_geo.rasters.source import CACHE_BYTES, LEAST_CACHE, Source, cache_bytes_of, environment, probe

WHOLE = Window(0, 0, 64, 64)


def valid_of(path, **options):
    return open_scene(path, **options).read(WHOLE).optical_valid


def test_pixels_come_out_as_they_are_stored(raster, rgb):
    values, valid = Source(probe(str(raster("a.tif", rgb))), (1, 2, 3)).read(WHOLE)
    assert values.dtype == np.float32
    assert np.array_equal(values, rgb)
    assert valid.all()


def test_pixels_beyond_the_file_are_invalid_zeros(raster, rgb):
    values, valid = Source(probe(str(raster("a.tif", rgb))), (1, 2, 3)).read(Window(-4, 60, 8, 8))
    assert np.array_equal(values[:, 4:, :4], rgb[:, :4, 60:])
    assert valid.sum() == 16
    assert values[:, ~valid].sum() == 0


def test_a_declared_nodata_zero_needs_every_band(raster, rgb):
    rgb[:, 0, 0] = 0
    rgb[0, 0, 1] = 0
    valid = valid_of(raster("a.tif", rgb, nodata=0))
    assert not valid[0, 0]
    assert valid[0, 1]


def test_a_nodata_value_that_is_no_color_needs_one_band(raster, rgb):
    pixels = rgb.astype(np.int16)
    pixels[1, 0, 0] = -1
    assert not valid_of(raster("a.tif", pixels, nodata=-1))[0, 0]


def test_not_a_number_and_infinity_are_invalid(raster, rgb):
    pixels = rgb.astype(np.float32) / 800
    pixels[0, 0, 0], pixels[2, 0, 1] = np.nan, np.inf
    assert np.flatnonzero(~valid_of(raster("a.tif", pixels)).ravel()).tolist() == [0, 1]


def test_undeclared_fill_is_invalid(raster, rgb):
    pixels = rgb.astype(np.int16)
    pixels[:, 0, 0], pixels[0, 0, 1] = 0, -9999
    assert np.flatnonzero(~valid_of(raster("a.tif", pixels)).ravel()).tolist() == [0, 1]


def test_black_of_an_8_bit_picture_is_a_color(raster, rgb):
    rgb[:, 0, 0] = 0
    assert valid_of(raster("a.tif", rgb)).all()


def test_alpha_is_validity(raster, rgb):
    alpha = np.full((1, 64, 64), 255, np.uint8)
    alpha[0, 3, 4] = 0
    path = raster("a.tif", np.concatenate([rgb, alpha]), colors=("red", "green", "blue", "alpha"))
    assert np.argwhere(~valid_of(path)).tolist() == [[3, 4]]


def test_an_internal_mask_is_validity(raster, rgb):
    mask = np.full((64, 64), True)
    mask[3, 4] = False
    assert np.argwhere(~valid_of(raster("a.tif", rgb, mask=mask))).tolist() == [[3, 4]]


def test_the_users_nodata_replaces_the_declared_one(raster, rgb):
    rgb[:, 0, 0], rgb[:, 0, 1] = 7, 9
    path = raster("a.tif", rgb, nodata=7)
    assert np.argwhere(~valid_of(path)).tolist() == [[0, 0]]
    assert np.argwhere(~valid_of(path, nodata=9)).tolist() == [[0, 1]]
    assert valid_of(path, nodata="none").all()


def test_nodata_that_is_no_number_is_refused(raster, rgb):
    with pytest.raises(SceneError, match="not a number"):
        open_scene(raster("a.tif", rgb), nodata="black")


def test_a_palette_is_expanded(raster):
    index = np.zeros((1, 64, 64), np.uint8)
    index[0, 0, 1] = 1
    path = raster("a.tif", index, colormap={0: (10, 20, 30, 255), 1: (200, 100, 50, 255)}, photometric="palette")
    scene = open_scene(path)
    tile = scene.read(WHOLE)
    assert tile.optical[:, 0, 0].tolist() == [10, 20, 30]
    assert tile.optical[:, 0, 1].tolist() == [200, 100, 50]
    assert any("palette" in warning for warning in scene.warnings)


def test_every_thread_reads_by_itself(raster, rgb):
    scene = open_scene(raster("a.tif", rgb))
    found = []
    threads = [threading.Thread(target=lambda: found.append(scene.read(WHOLE).optical)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(np.array_equal(one, rgb) for one in found)


def test_a_pickled_scene_opens_its_own_files(raster, rgb, decibels):
    with open_scene(raster("a.tif", rgb), raster("b.tif", decibels)) as scene:
        before = scene.read(WHOLE)
        copy = pickle.loads(pickle.dumps(scene))
    after = copy.read(WHOLE)
    assert copy.grid == scene.grid
    assert np.array_equal(before.sar, after.sar)
    assert np.array_equal(before.optical, after.optical)


def test_a_closed_scene_opens_again_when_read(raster, rgb):
    scene = open_scene(raster("a.tif", rgb))
    scene.close()
    assert np.array_equal(scene.read(WHOLE).optical, rgb)


@pytest.mark.parametrize("sensor", ["optical", "sar"])
def test_a_missing_file_is_named(tmp_path, sensor):
    with pytest.raises(SceneError, match=r"nowhere\.tif: no such file"):
        open_scene(**{sensor: tmp_path / "nowhere.tif"})


def test_a_file_that_is_no_raster_is_named(tmp_path):
    (tmp_path / "words.tif").write_text("these are words")
    with pytest.raises(SceneError, match=r"words\.tif: cannot be read"):
        open_scene(tmp_path / "words.tif")


def test_a_folder_is_no_raster(tmp_path):
    with pytest.raises(SceneError, match="is a folder"):
        open_scene(tmp_path)


def test_a_file_that_ends_too_early_is_named(raster):
    pixels = np.random.default_rng(0).integers(1, 255, (3, 512, 512)).astype(np.uint8)
    path = raster("cut.tif", pixels, tiled=True, blockxsize=256, blockysize=256, compress="deflate")
    scene = open_scene(path)
    scene.close()
    path.write_bytes(path.read_bytes()[:200000])
    with pytest.raises(SceneError, match=r"cut\.tif: cannot be read"):
        scene.read(Window(256, 256, 256, 256))


def test_complex_values_are_refused_with_advice(raster):
    pixels = np.ones((1, 8, 8), np.complex64)
    with pytest.raises(SceneError, match="Detect it first"):
        open_scene(sar=raster("slc.tif", pixels))


def test_a_raster_without_any_data_is_refused(raster):
    with pytest.raises(SceneError, match="holds no data"):
        open_scene(raster("a.tif", np.zeros((3, 8, 8), np.uint8), nodata=0))


def test_a_transform_without_area_is_refused(raster, rgb):
    from affine import Affine

    with pytest.raises(SceneError, match="line or point"):
        open_scene(raster("a.tif", rgb, transform=Affine(10, 0, 0, 0, 0, 0)))


def test_files_inside_a_zip_are_read(raster, rgb, tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(raster("a.tif", rgb), "in/a.tif")
    scene = open_scene(f"/vsizip/{tmp_path}/a.zip/in/a.tif")
    assert scene.name == "a"
    assert np.array_equal(scene.read(WHOLE).optical, rgb)


def test_a_file_missing_inside_a_zip_is_named(raster, rgb, tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(raster("a.tif", rgb), "in/a.tif")
    with pytest.raises(SceneError, match=r"b\.tif: cannot be read"):
        open_scene(f"/vsizip/{tmp_path}/a.zip/in/b.tif")


def test_gdal_settings_of_the_user_are_kept(monkeypatch):
    import rasterio

    monkeypatch.delenv("GDAL_CACHEMAX", raising=False)
    with environment("/vsicurl/x"):
        ours = rasterio.env.getenv()
        assert ours["GDAL_CACHEMAX"] == CACHE_BYTES
        assert ours["GDAL_DISABLE_READDIR_ON_OPEN"] == "EMPTY_DIR"
    monkeypatch.setenv("GDAL_CACHEMAX", "64")
    with environment("a.tif"):
        assert not {"GDAL_CACHEMAX", "GDAL_DISABLE_READDIR_ON_OPEN"} & set(rasterio.env.getenv())
    monkeypatch.delenv("GDAL_CACHEMAX")
    with rasterio.Env(GDAL_CACHEMAX=99 * 2**20), environment("a.tif"):
        assert rasterio.env.getenv()["GDAL_CACHEMAX"] == 99 * 2**20


def test_a_virtual_raster_without_its_file_is_named(tmp_path, raster, rgb):
    from rasterio.shutil import copy

    path = raster("inner.tif", rgb)
    copy(path, tmp_path / "outer.vrt", driver="VRT")
    path.unlink()
    with pytest.raises(SceneError, match=r"outer\.vrt: cannot be read"):
        open_scene(tmp_path / "outer.vrt")


def facts_of_file(raster, name, height, **blocks):
    return probe(str(raster(name, np.zeros((3, height, 4096), np.uint8), sparse_ok=True, **blocks)))


def test_as_much_is_kept_of_files_as_rows_of_windows_read_twice(raster):
    row = 3 * 4096
    tiled = facts_of_file(raster, "tiled.tif", 4096, tiled=True, blockxsize=256, blockysize=256)
    striped = facts_of_file(raster, "striped.tif", 4096, blockysize=1)
    # A window of 2000 rows touches at most nine blocks of 256.
    assert cache_bytes_of([(tiled, 2000)]) == 9 * 256 * row
    assert cache_bytes_of([(striped, 2000)]) == 2000 * row
    assert cache_bytes_of([(tiled, 2000), (striped, 2000)]) == (9 * 256 + 2000) * row


def test_of_a_small_file_no_more_is_kept_than_it_has_and_of_a_huge_one_no_more_than_the_most(raster):
    low = facts_of_file(raster, "low.tif", 600, tiled=True, blockxsize=512, blockysize=512)
    assert cache_bytes_of([(low, 512)]) == LEAST_CACHE
    assert cache_bytes_of([(low, 512)] * 3) == 3 * 600 * 3 * 4096
    assert cache_bytes_of([(low, 512)] * 99) == CACHE_BYTES


def test_a_finer_image_has_more_rows_in_a_window_of_the_scene(raster, rgb, decibels):
    from affine import Affine

    grid = Affine(10, 0, 500000, 0, -10, 5000000)
    fine = raster("fine.tif", np.repeat(np.repeat(decibels, 4, 1), 4, 2), transform=grid @ Affine.scale(0.25))
    scene = open_scene(raster("rgb.tif", rgb), fine)
    assert scene.optical.source_rows(512) == 512
    assert scene.sar[0].source_rows(512) >= 4 * 512
