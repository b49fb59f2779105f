from __future__ import annotations

import numpy as np
import pytest

from mmovseg_geo.simulate import LAND_COVERS, add_clouds, simulate, speckle

WATER = [index for index, cover in enumerate(LAND_COVERS) if cover.name in ("lake", "river", "sea", "flood water")]


def test_same_seed_gives_the_same_bytes():
    first = simulate((48, 64), gsd_m=10.0, seed=5, clouds=0.3, misregistration=2.0)
    second = simulate((48, 64), gsd_m=10.0, seed=5, clouds=0.3, misregistration=2.0)
    for name in ("optical", "sar", "labels", "cloud", "shadow"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes(), name
    assert first.shift == second.shift


def test_other_seeds_give_other_scenes():
    assert not np.array_equal(simulate((32, 32), gsd_m=10.0, seed=1).sar, simulate((32, 32), gsd_m=10.0, seed=2).sar)


@pytest.mark.parametrize("gsd_m", [0.07, 0.5, 3.0, 10.0, 30.0])
@pytest.mark.parametrize("shape", [(64, 64), (40, 96), (1, 1), (3, 17), (530, 20)])
def test_scenes_of_any_shape_and_scale_stay_in_range(shape, gsd_m):
    scene = simulate(shape, gsd_m=gsd_m, seed=11, clouds=0.4)
    assert scene.optical.shape == (3, *shape)
    assert scene.sar.shape == (2, *shape)
    assert scene.labels.shape == scene.cloud.shape == scene.shadow.shape == shape
    assert (scene.optical.dtype, scene.sar.dtype, scene.labels.dtype) == (np.float32, np.float32, np.uint8)
    assert 0 <= scene.optical.min() <= scene.optical.max() <= 1
    assert -51 < scene.sar.min() <= scene.sar.max() < 40
    assert scene.labels.max() < len(LAND_COVERS)
    assert 0 <= scene.cloud.min() <= scene.cloud.max() <= 1


def test_every_land_cover_occurs():
    seen: set[int] = set()
    for seed in range(1200):
        seen |= set(np.unique(simulate((64, 64), gsd_m=(0.3, 2.0, 11.0)[seed % 3], seed=seed).labels).tolist())
        if len(seen) == len(LAND_COVERS):
            break
    assert not {cover.name for index, cover in enumerate(LAND_COVERS) if index not in seen}


def test_land_covers_have_unique_names_that_are_among_their_words():
    assert len({cover.name for cover in LAND_COVERS}) == len(LAND_COVERS) < 255
    assert all(cover.words[0] == cover.name and len(set(cover.words)) == len(cover.words) for cover in LAND_COVERS)


def test_water_is_darker_than_land_for_the_radar():
    water, land = [], []
    for seed in range(40):
        scene = simulate((64, 64), gsd_m=10.0, seed=seed)
        wet = np.isin(scene.labels, WATER)
        water += scene.sar[:, wet].mean(axis=1)[None].tolist() if wet.any() else []
        land += scene.sar[:, ~wet].mean(axis=1)[None].tolist() if not wet.all() else []
    difference = np.mean(land, axis=0) - np.mean(water, axis=0)
    assert (difference > 3).all()


def test_clouds_brighten_the_optical_picture_and_leave_the_rest_alone():
    clear = simulate((96, 96), gsd_m=10.0, seed=3)
    cloudy = simulate((96, 96), gsd_m=10.0, seed=3, clouds=0.5)
    covered = cloudy.cloud > 0.5
    assert covered.any()
    assert cloudy.optical[:, covered].mean() > clear.optical[:, covered].mean() + 0.1
    untouched = (cloudy.cloud == 0) & (cloudy.shadow == 0)
    np.testing.assert_allclose(cloudy.optical[:, untouched], clear.optical[:, untouched], atol=1e-6)
    np.testing.assert_array_equal(cloudy.labels, clear.labels)
    np.testing.assert_array_equal(cloudy.sar, clear.sar)


def test_shadows_of_clouds_darken_the_ground():
    clear = simulate((96, 96), gsd_m=10.0, seed=3)
    cloudy = simulate((96, 96), gsd_m=10.0, seed=3, clouds=0.4)
    shaded = (cloudy.shadow > 0.4) & (cloudy.cloud < 0.01)
    assert shaded.any()
    assert cloudy.optical[:, shaded].mean() < 0.9 * clear.optical[:, shaded].mean()


@pytest.mark.parametrize("thick", [0.1, 0.6, 1.0])
@pytest.mark.parametrize("cover", [0.1, 0.5, 0.9])
def test_cloud_cover_is_near_the_asked_one(cover, thick):
    picture = np.full((3, 128, 128), 0.05, np.float32)
    covers = []
    for seed in range(8):
        _, cloud = add_clouds(picture, np.random.default_rng(seed), cover=cover, thick=thick, gsd_m=20.0)
        covers.append((cloud > 0.03).mean())
    assert np.mean(covers) == pytest.approx(cover, abs=0.12)


def test_no_clouds_leave_the_picture_as_it_is():
    picture = np.random.default_rng(0).random((3, 20, 30), dtype=np.float32)
    clear, cloud = add_clouds(picture, np.random.default_rng(0), cover=0.0, thick=1.0, gsd_m=10.0)
    np.testing.assert_array_equal(clear, picture)
    assert not cloud.any()


@pytest.mark.parametrize("looks", [1.0, 4.0])
def test_speckle_keeps_the_mean_and_has_variance_one_over_looks(looks):
    noisy = speckle(np.full((2, 200, 200), 0.2, np.float32), looks, np.random.default_rng(0)) / 0.2
    assert noisy.mean() == pytest.approx(1.0, abs=0.02)
    assert noisy.var() == pytest.approx(1 / looks, rel=0.05)


def test_misregistration_moves_the_radar_by_the_shift_it_reports():
    scene = simulate((128, 128), gsd_m=10.0, seed=8, misregistration=3.0)
    assert 0 < np.hypot(*scene.shift) <= 3.0
    assert simulate((32, 32), gsd_m=10.0, seed=8).shift == (0.0, 0.0)
