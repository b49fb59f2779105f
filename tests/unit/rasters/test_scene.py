from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from affine import Affine
from pyproj import Transformer
from rasterio.control import GroundControlPoint

from mmovseg_geo.errors import MissingBand, MissingCRS, NoOverlap, SceneError
from mmovseg_geo.grid import Window
from mmovseg_geo.rasters.products.names import scene_name
from mmovseg_geo.rasters.scene import open_scene

UTM = "EPSG:32632"
GRID = Affine(10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0)
WHOLE = Window(0, 0, 64, 64)


def smooth(transform, shape, crs=UTM):
    """Decibels that vary slowly with place, so that equal places have equal values in every grid."""
    rows, cols = np.meshgrid(np.arange(shape[0]) + 0.5, np.arange(shape[1]) + 0.5, indexing="ij")
    x, y = transform.a * cols + transform.b * rows + transform.c, transform.d * cols + transform.e * rows + transform.f
    if crs != UTM:
        x, y = Transformer.from_crs(crs, UTM, always_xy=True).transform(x, y)
    wave = np.sin((x - 500000) / 90) + np.cos((y - 5000000) / 110)
    return np.stack([-12 + 3 * wave, -19 + 2 * wave]).astype(np.float32)


def test_the_optical_grid_is_the_scenes(raster, rgb, decibels):
    moved = GRID @ Affine.translation(-3.3, 2.2) @ Affine.scale(1.7)
    scene = open_scene(raster("rgb.tif", rgb), raster("sar.tif", decibels, transform=moved))
    assert scene.grid.transform == GRID
    assert scene.grid.shape == (64, 64)
    assert scene.grid.crs.to_epsg() == 32632
    assert scene.name == "rgb"
    assert scene.sensors == {"optical", "sar"}


def test_sar_alone_has_its_own_grid(raster, decibels):
    scene = open_scene(sar=raster("sar.tif", decibels))
    tile = scene.read(WHOLE)
    assert scene.name == "sar"
    assert scene.sensors == {"sar"}
    assert tile.optical is None
    assert tile.optical_valid is None
    assert tile.valid.all()


def test_optical_alone_is_a_scene(raster, rgb):
    tile = open_scene(raster("rgb.tif", rgb)).read(WHOLE)
    assert tile.sar is None
    assert tile.valid.all()


@pytest.mark.parametrize(
    ("transform", "crs"),
    [
        (Affine(7.0, 0, 499900.0, 0, -7.0, 5000100.0), UTM),
        (Affine(25.0, 0, 499900.0, 0, -25.0, 5000100.0), UTM),
        (Affine(10.0, 0, 499903.0, 0, 10.0, 4999200.0), UTM),
        (Affine.translation(499700, 5000000) @ Affine.rotation(25) @ Affine.scale(9, -9), UTM),
        (Affine(1e-4, 0, 8.9985, 0, -1e-4, 45.154), "EPSG:4326"),
        (Affine(14.0, 0, 1001700.0, 0, -14.0, 5645900.0), "EPSG:3857"),
    ],
    ids=["finer", "coarser", "south-up", "rotated", "geographic", "web mercator"],
)
def test_sar_of_any_grid_shows_the_same_place(raster, rgb, transform, crs):
    sar = raster("sar.tif", smooth(transform, (160, 160), crs), transform=transform, crs=crs)
    scene = open_scene(raster("rgb.tif", rgb), sar)
    tile = scene.read(WHOLE)
    expected = open_scene(sar=raster("same.tif", smooth(GRID, (64, 64)))).read(WHOLE)
    assert tile.sar_valid.all()
    assert np.abs(tile.sar - expected.sar).max() < 6.0
    assert np.abs(tile.sar - expected.sar).mean() < 1.5
    assert scene.overlap == pytest.approx(1.0)


@pytest.mark.parametrize("transform", [Affine(10.0, 0, 5e5, 0, 10.0, 5e6), GRID @ Affine.rotation(30)])
def test_an_optical_grid_may_be_south_up_or_rotated(raster, rgb, transform):
    sar_grid = Affine(10.0, 0, 498500.0, 0, -10.0, 5001500.0)
    sar = raster("sar.tif", smooth(sar_grid, (300, 300)), transform=sar_grid)
    scene = open_scene(raster("rgb.tif", rgb, transform=transform), sar)
    tile = scene.read(WHOLE)
    expected = open_scene(sar=raster("same.tif", smooth(transform, (64, 64)), transform=transform)).read(WHOLE)
    assert np.array_equal(tile.optical, rgb)
    assert np.abs(tile.sar - expected.sar).max() < 2.0


def test_a_finer_source_is_averaged_in_power(raster, rgb):
    speckle = np.random.default_rng(0).exponential(0.1, (1, 640, 640)).astype(np.float32)
    fine = GRID @ Affine.scale(0.1)
    scene = open_scene(raster("rgb.tif", rgb), raster("sar_vv.tif", speckle, transform=fine))
    blocks = speckle[0].reshape(64, 10, 64, 10).mean(axis=(1, 3))
    expected = np.clip((10 * np.log10(blocks) + 25) / 25 * 255, 0, 255)
    assert np.abs(scene.read(WHOLE).sar[0] - expected).max() < 0.05


def test_a_shift_moves_the_sar_content_down_and_right(raster, rgb, decibels):
    optical, sar = raster("rgb.tif", rgb), raster("sar.tif", decibels)
    still = open_scene(optical, sar).read(WHOLE)
    moved = open_scene(optical, sar, shift=(2, -3)).read(WHOLE)
    assert np.array_equal(moved.sar[:, 2:, :-3], still.sar[:, :-2, 3:])
    assert not moved.sar_valid[:2].any()
    assert np.array_equal(moved.optical, still.optical)


def test_half_a_pixel_of_shift_is_between_its_neighbors(raster, rgb):
    sar = raster("sar.tif", smooth(GRID, (64, 64)))
    optical = raster("rgb.tif", rgb)
    still = open_scene(optical, sar).read(WHOLE).sar
    moved = open_scene(optical, sar, shift=(0.5, 0)).read(WHOLE).sar
    assert np.abs(moved[:, 1:] - (still[:, 1:] + still[:, :-1]) / 2).max() < 0.5


def test_where_sar_is_missing_only_its_validity_is_false(raster, rgb, decibels):
    scene = open_scene(raster("rgb.tif", rgb), raster("sar.tif", decibels[:, :, :32]))
    tile = scene.read(WHOLE)
    assert tile.sar_valid[:, :32].all()
    assert not tile.sar_valid[:, 32:].any()
    assert (tile.sar[:, :, 32:] == 0).all()
    assert tile.valid.all()
    assert scene.overlap == pytest.approx(0.5)


def test_a_window_may_reach_beyond_the_scene_but_sar_does_not(raster, rgb, decibels):
    wider = np.tile(decibels, (1, 2, 2))
    tile = open_scene(raster("rgb.tif", rgb), raster("sar.tif", wider)).read(Window(32, 32, 64, 64))
    assert tile.valid.sum() == 32 * 32
    assert tile.valid[:32, :32].all()


@pytest.mark.parametrize(
    ("crs", "transform", "expected"),
    [
        (UTM, GRID, 10.0),
        ("EPSG:3857", Affine(10.0, 0, 0, 0, -10.0, 8399737.0), 5.0),
        ("EPSG:4326", Affine(1e-4, 0, 9, 0, -1e-4, 60.0), 11.132 * np.sqrt(0.5)),
        ("EPSG:2263", Affine(10.0, 0, 980000, 0, -10.0, 200000.0), 3.048),
    ],
    ids=["planar", "web mercator at 60 N", "degrees at 60 N", "feet"],
)
def test_the_sampling_distance_is_that_on_the_ground(raster, rgb, crs, transform, expected):
    scene = open_scene(raster("rgb.tif", rgb, crs=crs, transform=transform))
    assert scene.gsd_m == pytest.approx(expected, rel=5e-3)


def test_files_that_do_not_overlap_show_both_footprints(raster, rgb, decibels):
    far = raster("far.tif", decibels, transform=GRID @ Affine.translation(1000, 0))
    with pytest.raises(NoOverlap) as caught:
        open_scene(raster("near.tif", rgb), far)
    message = str(caught.value)
    assert "near.tif and far.tif do not overlap" in message
    assert "500000 … 500640 E" in message
    assert "510000 … 510640 E" in message
    assert "EPSG:32632" in message


def test_an_overlap_of_a_sliver_is_an_overlap_with_a_warning(raster, rgb, decibels):
    scene = open_scene(raster("a.tif", rgb), raster("b.tif", decibels, transform=GRID @ Affine.translation(63.5, 63.5)))
    assert 0 < scene.overlap < 0.001
    assert any("SAR covers" in warning for warning in scene.warnings)


def test_one_file_is_not_optical_and_sar(raster, rgb):
    path = raster("a.tif", rgb)
    with pytest.raises(SceneError, match="given twice"):
        open_scene(path, path)


def test_no_file_is_no_scene():
    with pytest.raises(SceneError, match="No image"):
        open_scene()


@pytest.mark.parametrize("bare", ["optical", "sar"])
def test_a_missing_crs_is_named(raster, rgb, decibels, bare):
    optical = raster("a.tif", rgb, crs=None if bare == "optical" else UTM)
    sar = raster("b.tif", decibels, crs=None if bare == "sar" else UTM)
    with pytest.raises(MissingCRS, match=r"[ab]\.tif has no coordinate reference system"):
        open_scene(optical, sar)


def test_equal_pixel_grids_need_no_crs_when_said_so(raster, rgb, decibels):
    scene = open_scene(
        raster("a.png", rgb, driver="PNG", crs=None, transform=None),
        raster("b.tif", decibels, crs=None, transform=None),
        pixel_grid=True,
    )
    assert scene.grid.crs is None
    assert scene.gsd_m == 1.0
    assert scene.read(WHOLE).sar_valid.all()


def test_pixel_grids_of_different_size_are_refused(raster, rgb, decibels):
    with pytest.raises(SceneError, match="equal sizes"):
        open_scene(raster("a.tif", rgb, crs=None), raster("b.tif", decibels[:, :32], crs=None), pixel_grid=True)


def test_two_sar_files_may_have_different_grids(raster, decibels):
    vv = raster("x_vv.tif", decibels[:1])
    vh = raster("x_vh.tif", decibels[1:], transform=GRID @ Affine.translation(0.6, 0.6))
    tile = open_scene(sar=[vv, vh]).read(WHOLE)
    assert tile.sar_valid[1:, 1:].all()
    assert not tile.sar_valid[0].any()


def test_three_sar_files_are_too_many(raster, decibels):
    paths = [raster(f"{name}.tif", decibels[:1]) for name in ("vv", "vh", "hh")]
    with pytest.raises(MissingBand, match="two at most"):
        open_scene(sar=paths)


@pytest.fixture
def control_points():
    """A pixel grid turned by 10 degrees in UTM, as control points."""
    turned = GRID @ Affine.translation(-10, -10) @ Affine.rotation(10) @ Affine.scale(1.4)
    nodes = [(row, col) for row in (0, 32, 64) for col in (0, 32, 64)]
    places = [turned @ (col, row) for row, col in nodes]
    return turned, [
        GroundControlPoint(row=row, col=col, x=x, y=y, z=0.0) for (row, col), (x, y) in zip(nodes, places, strict=True)
    ]


def test_control_points_alone_are_refused_with_advice(raster, rgb, control_points):
    sar = raster("grd.tif", np.ones((1, 64, 64), np.float32), gcps=control_points[1])
    with pytest.raises(SceneError, match="--gcps tps"):
        open_scene(raster("rgb.tif", rgb), sar)


def test_a_spline_through_control_points_finds_the_place(raster, rgb, control_points):
    turned, points = control_points
    sar = raster("grd.tif", smooth(turned, (64, 64)), gcps=points)
    scene = open_scene(raster("rgb.tif", rgb), sar, gcps="tps")
    tile = scene.read(WHOLE)
    expected = open_scene(sar=raster("same.tif", smooth(GRID, (64, 64)))).read(WHOLE)
    assert tile.sar_valid.mean() > 0.8
    assert np.abs(tile.sar - expected.sar)[:, tile.sar_valid].max() < 4.0
    assert scene.describe()["sar"][0]["gcps"]["count"] == 9
    assert any("control points" in warning for warning in scene.warnings)


def test_control_points_can_place_a_scene_of_their_own(raster, control_points):
    turned, points = control_points
    scene = open_scene(sar=raster("grd.tif", smooth(turned, (64, 64)), gcps=points), gcps="tps")
    assert scene.grid.crs.to_epsg() == 32632
    assert scene.gsd_m == pytest.approx(14.0, rel=0.15)
    assert scene.read(Window(0, 0, *scene.shape)).valid.mean() > 0.5


def test_worlds_without_a_way_between_them_are_refused(raster, rgb, decibels):
    mars = 'PROJCS["m",GEOGCS["m",DATUM["m",SPHEROID["m",3394839,0]],PRIMEM["r",0],UNIT["degree",0.0174532925]],'
    mars += 'PROJECTION["Equirectangular"],PARAMETER["standard_parallel_1",0],UNIT["metre",1]]'
    with pytest.raises(SceneError, match="no way leads"):
        open_scene(raster("a.tif", rgb), raster("b.tif", decibels, crs=mars))


def test_a_description_is_json_and_says_why(raster, rgb, decibels):
    scene = open_scene(raster("a.tif", rgb), raster("b.tif", decibels, descriptions=("VV", "VH")))
    told = json.loads(json.dumps(scene.describe()))
    assert told["optical"]["scaling"]["why"] == "8-bit file"
    assert [band["as"] for band in told["sar"][0]["bands"]] == ["VV", "VH"]
    assert told["sar"][0]["range"][0] == [float(decibels[0].min()), float(decibels[0].max())]
    assert told["grid"]["crs"] == "EPSG:32632"
    assert told["overlap"] == 1.0


def test_provenance_names_no_folder(raster, rgb, decibels, tmp_path):
    scene = open_scene(raster("a.tif", rgb), raster("b.tif", decibels))
    assert str(tmp_path) not in json.dumps(scene.provenance())


def test_an_overview_looks_like_the_scene(raster, rgb, decibels):
    optical = np.repeat(np.repeat(rgb, 8, axis=1), 8, axis=2)
    scene = open_scene(
        raster("a.tif", optical, transform=GRID @ Affine.scale(1 / 8)),
        raster("b.tif", decibels),
    )
    tile = scene.overview(64)
    assert tile.gsd_m == pytest.approx(10.0)
    assert tile.valid.all()
    assert np.array_equal(tile.optical, rgb)
    assert np.abs(tile.sar - open_scene(sar=raster("c.tif", decibels)).read(WHOLE).sar).max() < 1.0


def test_what_stands_where_nothing_was_seen_does_not_shine_into_an_overview(raster):
    radar = np.full((2, 64, 64), -15, np.float32)
    radar[:, :, 20:29] = 0  # no data, and 0 dB would be bright
    tile = open_scene(sar=raster("a.tif", radar, nodata=0, descriptions=("VV", "VH"))).overview(16)
    full = open_scene(sar=raster("b.tif", np.full_like(radar, -15), descriptions=("VV", "VH"))).overview(16)
    assert not tile.sar_valid.all()
    assert np.abs(tile.sar - full.sar)[:, tile.sar_valid].max() < 1e-3


@pytest.mark.parametrize("size", [50, 63, 64, 200])
def test_an_overview_keeps_within_its_size(raster, rgb, size):
    tile = open_scene(raster("a.tif", np.tile(rgb, (1, 3, 2)))).overview(size)
    assert max(tile.valid.shape) <= size
    assert tile.valid.all()


@pytest.mark.parametrize("size", [200, 400, 700, 1000])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_an_overview_takes_no_more_memory_than_said(raster, size, dtype):
    pixels = np.random.default_rng(0).integers(1, 255, (3 if dtype is np.uint8 else 2, 1000, 800)).astype(dtype)
    path = raster("a.tif", -pixels / 10 if dtype is np.float32 else pixels)
    with open_scene(path) if dtype is np.uint8 else open_scene(sar=path) as scene:
        scene.overview(size)  # what is imported at the first call is no pixel
        tracemalloc.start()
        try:
            scene.overview(size)
            taken = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert taken <= scene.overview_bytes(size) <= 2.5 * taken


def test_much_black_in_a_picture_is_worth_a_warning(raster, rgb):
    rgb[:, :10] = 0
    scene = open_scene(raster("a.tif", rgb))
    assert any("pure black" in warning for warning in scene.warnings)


@pytest.mark.parametrize(
    ("path", "name"),
    [("/a/b/s2.v1.tif", "s2.v1"), ("https://x/y/s2.tif?sig=1/2", "s2"), ("/vsizip/a.zip/in/s2.jp2", "s2")],
)
def test_a_scene_is_named_by_its_file(path, name):
    assert scene_name(path) == name


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize(
    ("crs", "transform", "share"),
    [
        ("EPSG:32632", Affine(2000, 0, 100000, 0, -2000, 5.4e6), 0.0011),
        ("EPSG:32660", Affine(2000, 0, 500000, 0, -2000, 5.4e6), 0.0011),
        ("EPSG:3413", Affine(20000, 0, -4e6, 0, -20000, 4e6), 0.22),
    ],
    ids=["a zone", "over the antimeridian", "around the pole"],
)
def test_a_world_map_finds_a_sar_image_somewhere_in_it(raster, crs, transform, share):
    random = np.random.default_rng(0)
    world = random.integers(1, 255, (3, 360, 720)).astype(np.uint8)
    optical = raster("world.tif", world, crs="EPSG:4326", transform=Affine(0.5, 0, -180, 0, -0.5, 90))
    sar = raster("sar.tif", random.normal(-12, 3, (2, 400, 400)).astype(np.float32), crs=crs, transform=transform)
    scene = open_scene(optical, sar)
    tile = scene.read(Window(0, 0, 360, 720))
    assert tile.sar_valid.mean() == pytest.approx(share, rel=0.1)
    assert scene.overlap == pytest.approx(share, abs=0.01)
    assert scene.overlap > 0


def test_longitudes_beyond_180_degrees_are_the_same_place(raster, rgb, decibels):
    optical = raster("a.tif", rgb, crs="EPSG:4326", transform=Affine(0.01, 0, 179.5, 0, -0.01, 10))
    sar = raster("b.tif", decibels, crs="EPSG:4326", transform=Affine(0.01, 0, -180.5, 0, -0.01, 10))
    assert open_scene(optical, sar).overlap == 1.0
