from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmovseg_geo.simulate import LAND_COVERS, add_clouds, simulate
from mmovseg_geo.simulate.shadows import moved, shadows

SIDES = st.integers(1, 40)
GSDS = st.floats(0.05, 40.0)


@settings(max_examples=40, deadline=None)
@given(height=SIDES, width=SIDES, gsd_m=GSDS, seed=st.integers(0, 2**40), clouds=st.floats(0, 1))
def test_any_seed_gives_a_finite_scene_in_range(height: int, width: int, gsd_m: float, seed: int, clouds: float):
    scene = simulate((height, width), gsd_m=gsd_m, seed=seed, clouds=clouds, misregistration=3.0)
    assert scene.optical.shape == (3, height, width)
    assert np.isfinite(scene.sar).all()
    assert ((scene.optical >= 0) & (scene.optical <= 1)).all()
    assert scene.labels.max() < len(LAND_COVERS)
    assert np.hypot(*scene.shift) <= 3.0


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), cover=st.floats(0, 1), thick=st.floats(0, 1), gsd_m=GSDS)
def test_clouds_keep_a_picture_between_black_and_white(seed: int, cover: float, thick: float, gsd_m: float):
    rng = np.random.default_rng(seed)
    picture = rng.random((3, 24, 31), dtype=np.float32)
    out, cloud = add_clouds(picture, rng, cover=cover, thick=thick, gsd_m=gsd_m)
    assert out.shape == picture.shape
    assert cloud.shape == (24, 31)
    assert ((out >= 0) & (out <= 1)).all()
    assert ((cloud >= 0) & (cloud <= 1)).all()


@given(rows=st.integers(-9, 9), cols=st.integers(-9, 9))
def test_moving_a_field_is_looking_it_up_with_clipped_indices(rows: int, cols: int):
    field = np.arange(30, dtype=np.float32).reshape(5, 6)
    row = np.clip(np.arange(5) - rows, 0, 4)
    col = np.clip(np.arange(6) - cols, 0, 5)
    np.testing.assert_array_equal(moved(field, rows, cols), field[row[:, None], col])


@given(azimuth=st.floats(0, 6.28), elevation=st.floats(0.2, 1.3))
def test_flat_ground_has_no_shadows(azimuth: float, elevation: float):
    assert not shadows(np.full((20, 20), 7.0, np.float32), 1.0, azimuth, elevation).any()


def test_a_wall_shades_as_far_as_its_height_says():
    height = np.zeros((9, 40), np.float32)
    height[:, 5] = 10.0
    shaded = shadows(height, 1.0, np.pi * 1.5, np.pi / 4) > 0.5
    assert shaded[4, 7:14].all()
    assert not shaded[4, 17:].any()
    assert not shaded[4, :5].any()
