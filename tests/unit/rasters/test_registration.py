"""Shifts between images whose brightness has nothing in common but their edges."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import KDTree

from mmovseg_geo.rasters.displacement import Displacement, Field
from mmovseg_geo.rasters.registration import Pair, register, register_scene, scenes
from mmovseg_geo.rasters.registration.structure import features
from mmovseg_geo.rasters.registration.surfaces import surface
from mmovseg_geo.rasters.scene import open_scene

SIDE = 192


def fields(seed: int = 0, side: int = SIDE, count: int = 60) -> np.ndarray:
    """Numbers of fields (H, W): the pixels nearest to random points."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-20, side + 20, (count, 2))
    return KDTree(points).query(np.moveaxis(np.mgrid[0:side, 0:side], 0, -1))[1]


def pair_of(motion: Displacement, *, seed: int = 0, noise: float = 30.0, side: int = SIDE) -> Pair:
    """Fields of random brightness in both images, SAR with noise, its content displaced against `motion`."""
    rng = np.random.default_rng(seed + 100)
    big = fields(seed, side + 64, 120)
    optical = rng.uniform(20, 230, (3, 120))[:, big[32:-32, 32:-32]]
    sar = rng.uniform(40, 220, 120)[big]
    rows, cols = np.mgrid[0:side, 0:side].astype(float)
    down, right = motion.at(rows, cols)  # small motions: where they are looked up makes no difference
    moved = ndimage.map_coordinates(sar, [rows + 32 + down, cols + 32 + right], order=1)
    moved = np.clip(moved + rng.normal(0, noise, moved.shape), 0, 255)
    every = np.ones((side, side), bool)
    noisy = np.clip(optical + rng.normal(0, 2, optical.shape), 0, 255)
    return Pair(noisy.astype(np.float32), every, moved[None].astype(np.float32), every)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (3.0, -2.0), (-6.5, 4.25), (0.0, 17.0), (20.0, 20.0)])
def test_a_known_shift_is_found(shift):
    found = register([pair_of(Displacement(shift))], (SIDE, SIDE))
    assert found.confident
    assert (found.rows, found.cols) == pytest.approx(shift, abs=0.3)
    assert found.applied == (max(map(abs, shift)) >= 0.25)


def test_equal_images_give_equal_answers():
    pair = pair_of(Displacement((3.0, -2.0)))
    first, second = (register([pair], (SIDE, SIDE)) for _ in range(2))
    assert first.to_json() == second.to_json()


def test_unlike_images_are_not_sure_and_nothing_moves():
    one, other = pair_of(Displacement(), seed=1), pair_of(Displacement(), seed=2)
    found = register([Pair(one.optical, one.optical_valid, other.sar, other.sar_valid)], (SIDE, SIDE))
    assert not found.confident
    assert found.displacement.still
    assert "not applied" in found.why


def test_an_affine_motion_is_found_only_where_it_is_asked_for_and_there():
    motion = Displacement((2.0, -1.0), ((0.015, 0.0), (0.0, -0.012)), (SIDE / 2, SIDE / 2))
    pair = pair_of(motion)
    found = register([pair], (SIDE, SIDE), model="affine")
    assert found.model == "affine"
    np.testing.assert_allclose(found.displacement.matrix, motion.matrix, atol=0.005)
    assert register([pair], (SIDE, SIDE)).model == "shift"


def test_a_bend_is_found_by_a_field():
    side = 384
    away = 3 * np.sin(np.linspace(0, np.pi, 7))
    table = tuple(tuple(float(v) for v in np.full(7, value)) for value in away)
    motion = Displacement(field=Field(64, table, tuple((0.0,) * 7 for _ in range(7))))
    found = register([pair_of(motion, side=side)], (side, side), model="field")
    assert found.model == "field"
    at = np.array([32.0, 192.0, 352.0])
    rows, _ = found.displacement.at(at, np.full(3, 192.0))
    truth, _ = motion.at(at, np.full(3, 192.0))
    assert np.abs(rows - truth).max() < 1.0


@pytest.mark.parametrize(
    ("turn", "says"),
    [
        (lambda x: x[..., ::-1], "mirrored left to right"),
        (lambda x: np.rot90(x, 1, (-2, -1)), "rotated by 90 degrees counterclockwise"),
        (lambda x: x[..., ::-1, ::-1], "rotated by 180"),
    ],
)
def test_a_turned_image_is_told(turn, says):
    pair = pair_of(Displacement(), noise=10.0)
    found = register([Pair(pair.optical, pair.optical_valid, turn(pair.sar).copy(), pair.sar_valid)], (SIDE, SIDE))
    assert not found.confident
    assert says in found.why


def test_water_windows_are_counted_and_said():
    pair = pair_of(Displacement())
    calm, dark = pair.optical.copy(), pair.sar.copy()
    calm[:], dark[:] = 20.0, 5.0
    dark += np.random.default_rng(0).normal(0, 3, dark.shape).astype(np.float32)
    found = register([Pair(calm, pair.optical_valid, dark, pair.sar_valid)], (SIDE, SIDE))
    assert not found.confident
    assert "100 % of windows are water" in found.why


def test_clouds_that_a_mask_shows_are_left_out():
    pair = pair_of(Displacement((3.0, -2.0)))
    clouds = np.zeros((SIDE, SIDE), bool)
    clouds[:96] = True
    white = pair.optical.copy()
    white[:, :96] = np.random.default_rng(3).uniform(0, 255, white[:, :96].shape)
    hidden = Pair(white, pair.optical_valid, pair.sar, pair.sar_valid, clouds)
    found = register([hidden], (SIDE, SIDE))
    assert found.counts["cloud"] == 18
    assert (found.rows, found.cols) == pytest.approx((3.0, -2.0), abs=0.4)


def test_mutual_information_is_of_what_clouds_do_not_hide():
    pair = pair_of(Displacement((3.0, -2.0)))
    clouds = np.zeros((SIDE, SIDE), bool)
    clouds[:64] = True
    told = []
    for value in (10.0, 250.0):
        white = pair.optical.copy()
        white[:, :64] = value
        told.append(register([Pair(white, pair.optical_valid, pair.sar, pair.sar_valid, clouds)], (SIDE, SIDE)))
    assert told[0].information == told[1].information is not None


def test_a_large_scene_that_is_turned_is_told(raster, monkeypatch):
    monkeypatch.setattr(scenes, "WHOLE", 288)
    pair = pair_of(Displacement(), side=576)
    optical = raster("s2.tif", pair.optical.astype(np.uint8))
    sar = raster("s1.tif", pair.sar[:, :, ::-1] / 10 - 25)
    with open_scene(optical, sar) as scene:
        assert "seems mirrored left to right; shift not applied" in register_scene(scene).why


def test_places_of_a_large_scene_are_not_looked_for_under_clouds(raster, monkeypatch):
    """Clouds of much texture, and in each quarter of the scene some room between them."""
    for name, number in (("WHOLE", 288), ("PLACES", 2), ("PLACE", 128)):
        monkeypatch.setattr(scenes, name, number)
    pair = pair_of(Displacement((3.0, -2.0)), side=576)
    clouds = np.ones((576, 576), bool)
    for row, col in ((60, 50), (60, 340), (350, 50), (350, 340)):
        clouds[row : row + 180, col : col + 180] = False
    rng = np.random.default_rng(4)
    shown = np.where(clouds, np.kron(rng.integers(0, 2, (72, 72)) * 255, np.ones((8, 8))), pair.optical)
    optical, sar = raster("s2.tif", shown.astype(np.uint8)), raster("s1.tif", pair.sar / 10 - 25)
    mask = raster("x_SCL.tif", np.where(clouds, 9, 4)[None].astype(np.uint8))
    with open_scene(optical, sar, clouds=str(mask)) as scene:
        found = register_scene(scene)
        assert found.confident, found.why
        assert (found.rows, found.cols) == pytest.approx((3.0, -2.0), abs=0.4)
    everywhere = raster("y_SCL.tif", np.full((1, 576, 576), 9, np.uint8))
    with open_scene(optical, sar, clouds=str(everywhere)) as scene:
        assert register_scene(scene).why.startswith("no place of the scene beside the clouds")


def test_a_stripe_of_fill_is_no_edge():
    pair = pair_of(Displacement((3.0, -2.0)))
    sar = pair.sar.copy()
    sar[:, :, :40] = 0.0
    found = register([Pair(pair.optical, pair.optical_valid, sar, pair.sar_valid)], (SIDE, SIDE))
    assert (found.rows, found.cols) == pytest.approx((3.0, -2.0), abs=0.4)


def test_a_sar_image_of_one_valid_stripe_tells_nothing():
    pair = pair_of(Displacement())
    seen = np.zeros((SIDE, SIDE), bool)
    seen[90:98] = True
    found = register([Pair(pair.optical, pair.optical_valid, pair.sar, seen)], (SIDE, SIDE))
    assert not found.confident
    assert "without data" in found.why


def test_small_images_are_not_tried():
    found = register([], (64, 200))
    assert not found.confident
    assert "64 x 200 pixels, too few" in found.why


def test_an_edge_looks_the_same_whichever_side_is_bright():
    step = np.zeros((1, 64, 64), np.float32)
    step[:, :, 32:] = 100.0
    every = np.ones((64, 64), bool)
    bright, dark = features(step, every)[0], features(100 - step, every)[0]
    np.testing.assert_allclose(bright, dark, atol=1e-5)


def test_a_surface_is_the_sum_of_products_at_each_shift():
    rng = np.random.default_rng(0)
    own = (rng.normal(size=(2, 9, 9)) + 1j * rng.normal(size=(2, 9, 9))).astype(np.complex64)
    other = (rng.normal(size=(2, 15, 15)) + 1j * rng.normal(size=(2, 15, 15))).astype(np.complex64)
    product, _, _ = surface(own, np.ones((9, 9), bool), other, np.ones((15, 15), bool))
    rows, cols = 2, -1  # SAR content moved down by two and left by one
    part = other[:, 3 - rows : 12 - rows, 3 - cols : 12 - cols]
    assert product[3 + rows, 3 + cols] == pytest.approx(float((own.conj() * part).sum().real), rel=1e-4)
