"""Numbers of a GRD become sigma nought as its annotation says, and border noise is no data, in any window."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmovseg_geo.grid import Window
from mmovseg_geo.rasters.calibration import Calibration, Noise, NoiseBlock, Vectors
from mmovseg_geo.rasters.products import radar_facts
from mmovseg_geo.rasters.scene import open_scene
from mmovseg_geo.rasters.source import Source
from tests import delivered

SHAPE = (90, 120)


def swath(seed=0, mean=150.0):
    """Numbers of land in single looks of speckle, never 0."""
    power = np.random.default_rng(seed).gamma(4.4, mean**2 / 4.4, SHAPE)
    return np.clip(np.sqrt(power), 1, 60000).astype(np.uint16)


def source(folder, pixels, **options):
    facts = radar_facts(delivered.sentinel_1(folder, {"VV": pixels}, **options))[0]
    return Source(facts, (1,), zero=True)


def whole(opened):
    return opened.read(Window(0, 0, *opened.shape))


def test_sigma_nought_is_the_squared_number_over_the_squared_constant(tmp_path):
    numbers = swath()
    values, valid = whole(source(tmp_path, numbers, sigma=450.0))
    assert valid.all()
    assert np.allclose(values[0], numbers.astype(float) ** 2 / 450.0**2, rtol=1e-5)


def test_constants_are_linear_between_their_samples(tmp_path):
    numbers = swath()
    values, _ = whole(source(tmp_path, numbers, sigma=400.0, slope=1.5))
    sigma = 400.0 + 1.5 * np.arange(SHAPE[1])
    assert np.allclose(values[0], numbers.astype(float) ** 2 / sigma**2, rtol=1e-5)


def test_constants_between_lines_are_linear_too():
    table = Vectors.of([(10.0, np.array([0.0, 10.0]), np.array([1.0, 3.0])), (0.0, np.array([0.0]), np.array([5.0]))])
    found = table(np.array([-5.0, 0.0, 5.0, 10.0, 99.0]), np.array([0.0, 5.0, 10.0, 20.0]))
    assert np.allclose(found, [[5, 5, 5, 5], [5, 5, 5, 5], [3, 3.5, 4, 4], [1, 2, 3, 3], [1, 2, 3, 3]])


def test_thermal_noise_is_subtracted_by_its_own_factor_in_each_swath(tmp_path):
    numbers = swath()
    values, _ = whole(source(tmp_path, numbers, sigma=450.0, noise=1000.0))
    noise = np.where(np.arange(SHAPE[1]) < SHAPE[1] // 2, 1000.0, 2000.0)
    expected = np.maximum(numbers.astype(float) ** 2 - noise, 0) / 450.0**2
    assert np.allclose(values[0], expected, rtol=1e-4, atol=1e-7)


def test_a_thinned_copy_is_calibrated_at_its_places():
    ramp = Vectors(np.array([0.0]), np.array([0.0, 999.0]), np.array([[100.0, 1099.0]]))
    thinned = Calibration(sigma=ramp, scale=(10.0, 10.0))
    numbers = np.full((1, 1, 100), 50.0, np.float32)
    values, _ = thinned.apply(numbers, np.ones((1, 100), bool), np.array([0.5]), np.arange(100) + 0.5)
    assert np.allclose(values[0, 0], 2500.0 / (100.0 + 10.0 * np.arange(100) + 4.5) ** 2, rtol=1e-5)


def bordered(seed=1):
    """Land with zeros, then border noise of numbers 1..6, at its left side."""
    numbers = swath(seed)
    numbers[:, :9] = 0
    numbers[:, 9:30] = np.random.default_rng(seed).integers(1, 7, (SHAPE[0], 21))
    return numbers


@pytest.mark.parametrize("noise", [None, 500.0])
def test_border_noise_and_zeros_are_no_data(tmp_path, noise):
    _, valid = whole(source(tmp_path, bordered(), noise=noise))
    assert not valid[:, :30].any()
    assert valid[:, 30:].all()


def test_border_noise_is_known_without_annotation(tmp_path):
    path = delivered.write(
        tmp_path / "S1A_IW_GRDH_20180716T004042_vv.tiff", bordered(), gcps=delivered.swath_points(SHAPE)
    )
    facts = radar_facts(path)[0]
    assert facts.calibration.words == "border noise is no data"
    _, valid = whole(Source(facts, (1,), zero=True))
    assert not valid[:, :30].any()
    assert valid[:, 30:].all()


def test_calm_water_at_the_noise_floor_is_data(tmp_path):
    numbers = swath(2)
    floor = np.sqrt(np.random.default_rng(3).gamma(4.4, 700.0 / 4.4, (SHAPE[0], 60)))
    numbers[:, :60] = np.maximum(floor, 1).astype(np.uint16)
    _, valid = whole(source(tmp_path, numbers, noise=700.0))
    assert valid.mean() == 1.0


def test_a_shadow_of_few_pixels_inside_the_image_is_data(tmp_path):
    numbers = swath(4)
    numbers[40:44, 60:64] = 2
    _, valid = whole(source(tmp_path, numbers))
    assert valid.all()


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    opened = source(tmp_path_factory.mktemp("windows"), bordered(5), slope=0.7, noise=300.0)
    return opened, whole(opened)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_window_equals_the_same_part_of_the_whole(noisy, data):
    opened, (values, valid) = noisy
    row, col = data.draw(st.integers(-20, SHAPE[0] - 1)), data.draw(st.integers(-20, SHAPE[1] - 1))
    window = Window(row, col, data.draw(st.integers(1, 60)), data.draw(st.integers(1, 60)))
    inside = window.intersection(Window(0, 0, *SHAPE))
    found, seen = opened.read(window)
    if inside is None:
        assert not seen.any()
        return
    at = Window(inside.row - row, inside.col - col, *inside.shape).slices
    assert np.array_equal(found[(0, *at)], values[0][inside.slices])
    assert np.array_equal(seen[at], valid[inside.slices])
    assert seen.sum() == seen[at].sum()


def test_noise_outside_its_blocks_is_that_along_range():
    along = Vectors(np.array([0.0]), np.array([0.0]), np.array([[10.0]]))
    noise = Noise(along, (NoiseBlock((2, 3), (1, 1), np.array([2.0, 3.0]), np.array([3.0, 5.0])),))
    assert np.array_equal(
        noise(np.arange(5.0), np.arange(3.0)), [[10] * 3, [10] * 3, [10, 30, 10], [10, 50, 10], [10] * 3]
    )


def test_the_decimated_read_is_calibrated_too(tmp_path):
    opened = source(tmp_path, swath(), sigma=450.0, slope=0.5)
    values, valid = opened.decimated(45)
    assert valid.all()
    assert np.median(values) == pytest.approx(np.median(whole(opened)[0]), rel=0.1)


def test_a_scene_of_a_swath_is_shown_in_decibels_of_sigma_nought(tmp_path):
    level = np.full(SHAPE, 450, np.uint16)
    level[:, ::2] = 451  # not constant, so that there is a range
    safe = delivered.sentinel_1(tmp_path, {"VV": level, "VH": level // 5})
    with open_scene(sar=safe, gcps="tps") as scene:
        tile = scene.read(Window(20, 20, 60, 60))
        assert [layer.scaling.kind for layer in scene.sar] == ["power", "power"]
    decibels = 20 * np.log10(450 / 500)
    assert np.median(tile.sar[0]) == pytest.approx((decibels + 25) / 25 * 255, abs=1)
