"""Speckle filters do to speckle, edges and targets what their papers say."""

from __future__ import annotations

import numpy as np
import pytest

from mmovseg_geo.rasters.scene import open_scene
from mmovseg_geo.rasters.speckle import (
    FEWEST,
    HALO,
    HALVES,
    SpeckleFilter,
    estimated_looks,
    looks_of,
    sample_windows,
)

NAMES = ("lee", "refined-lee", "gamma-map")


def speckled(backscatter, looks, seed=0):
    """(1, H, W) power: gamma distributed around the backscatter."""
    random = np.random.default_rng(seed)
    return (np.asarray(backscatter) * random.gamma(looks, 1 / looks, np.shape(backscatter))).astype(np.float32)[None]


def everywhere(power):
    return np.ones(power.shape[1:], np.bool_)


def by_hand(name, power, valid, looks):
    """The filters as their formulas stand, one pixel after the other."""
    height, width = power.shape
    out = np.zeros((height - 6, width - 6))
    for row in range(3, height - 3):
        for col in range(3, width - 3):
            if not valid[row, col]:
                continue
            around = np.s_[row - 3 : row + 4, col - 3 : col + 4]
            values, seen, own = power[around].astype(float), valid[around], float(power[row, col])
            if name == "refined-lee":
                seen = seen & half_by_hand(values, seen)
            known = values[seen]
            out[row - 3, col - 3] = own if len(known) < FEWEST else estimate_by_hand(name, known, own, looks)
    return out


def half_by_hand(values, seen):
    part = np.empty((3, 3))
    for row in range(3):
        for col in range(3):
            at = np.s_[2 * row : 2 * row + 3, 2 * col : 2 * col + 3]
            part[row, col] = values[at][seen[at]].mean() if seen[at].any() else values[seen].mean()
    down, along = np.mgrid[-3:4, -3:4]
    sides = [
        (part[:, 0].sum(), part[1, 0], along <= 0, part[:, 2].sum(), part[1, 2], along >= 0),
        (part[0].sum(), part[0, 1], down <= 0, part[2].sum(), part[2, 1], down >= 0),
        (part[0, 1] + part[0, 0] + part[1, 0], part[0, 0], down + along <= 0,
         part[1, 2] + part[2, 2] + part[2, 1], part[2, 2], down + along >= 0),
        (part[0, 1] + part[0, 2] + part[1, 2], part[0, 2], along >= down,
         part[1, 0] + part[2, 0] + part[2, 1], part[2, 0], along <= down),
    ]  # fmt: skip
    _, near_one, first, _, near_other, second = max(sides, key=lambda side: abs(side[0] - side[3]))
    return first if abs(near_one - part[1, 1]) <= abs(near_other - part[1, 1]) else second


def estimate_by_hand(name, known, own, looks):
    mean, variance, noise = known.mean(), known.var(), 1 / looks
    if name != "gamma-map":
        signal = max(0.0, (variance - mean**2 * noise) / (1 + noise))
        return mean + (signal / variance if variance else 0.0) * (own - mean)
    spread = variance / mean**2
    if spread <= noise or spread >= 2 * noise:
        return mean if spread <= noise else own
    shape = (1 + noise) / (spread - noise)
    half = (shape - looks - 1) * mean
    return (half + np.sqrt(half**2 + 4 * shape * looks * own * mean)) / (2 * shape)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_formula_of_its_paper(name):
    backscatter = np.where(np.add.outer(np.arange(28), 2 * np.arange(30)) < 40, 0.02, 0.15)
    power, valid = speckled(backscatter, 4.4)[0], np.random.default_rng(1).random((28, 30)) > 0.15
    valid[10:17, :9] = False
    power = np.where(valid, power, np.float32(0))
    found = SpeckleFilter(name, (4.4,))(power[None], valid)[0]
    assert np.allclose(found[valid[3:-3, 3:-3]], by_hand(name, power, valid, 4.4)[valid[3:-3, 3:-3]], rtol=2e-4)


@pytest.mark.parametrize("name", NAMES)
def test_smooth_land_becomes_smooth_and_keeps_its_mean(name):
    power = speckled(np.full((200, 200), 0.1), 4.4)
    found = SpeckleFilter(name, (4.4,))(power, everywhere(power))
    assert found.mean() == pytest.approx(0.1, rel=0.03)
    assert found.mean() ** 2 / found.var() > 4.4 * 8


@pytest.mark.parametrize("name", NAMES)
def test_a_bright_target_stays(name):
    power = speckled(np.full((41, 41), 0.05), 4.4)
    power[0, 20, 20] = 50.0
    found = SpeckleFilter(name, (4.4,))(power, everywhere(power))
    assert found[0, 20 - HALO, 20 - HALO] > 0.75 * 50.0


def test_refined_lee_keeps_an_edge_that_a_mean_blurs():
    backscatter = np.where(np.arange(120)[None, :] < 60, 0.02, 0.2) * np.ones((120, 1))
    power = speckled(backscatter, 4.4)
    found = SpeckleFilter("refined-lee", (4.4,))(power, everywhere(power))[0].mean(axis=0)
    last_dark, first_bright = found[59 - HALO], found[60 - HALO]
    assert last_dark < 0.05
    assert first_bright > 0.15


def test_half_windows_hold_28_pixels_and_the_middle():
    for runs in HALVES.values():
        assert sum(last - first for first, last in runs) == 28
        assert runs[3][0] <= 3 < runs[3][1]


@pytest.mark.parametrize("name", NAMES)
def test_what_stands_under_missing_pixels_has_no_part_in_it(name):
    power, valid = speckled(np.full((40, 40), 0.1), 4.4), np.random.default_rng(3).random((40, 40)) > 0.3
    power = np.where(valid, power, np.float32(0))
    found = SpeckleFilter(name, (4.4,))(power, valid)
    kept = valid[3:-3, 3:-3]
    assert found[:, kept].mean() == pytest.approx(0.1, rel=0.05)
    assert found[:, kept].min() > 0.03


@pytest.mark.parametrize("name", NAMES)
def test_a_lone_pixel_stays_as_it_is(name):
    power, valid = np.zeros((1, 9, 9), np.float32), np.zeros((9, 9), np.bool_)
    power[0, 4, 4], valid[4, 4] = 0.3, True
    assert SpeckleFilter(name, (4.4,))(power, valid)[0, 1, 1] == np.float32(0.3)


@pytest.mark.parametrize("looks", [1.0, 4.4, 20.0])
def test_looks_are_found_in_speckle_alone(looks):
    power = speckled(np.full((300, 300), 3.0), looks)
    assert looks_of(estimated_looks(power, everywhere(power)))[0] == pytest.approx(looks, rel=0.12)


def test_edges_and_textures_do_not_hide_the_looks():
    blocks = np.kron(np.random.default_rng(4).gamma(2, 0.05, (12, 12)) + 0.005, np.ones((30, 30)))
    power = speckled(blocks, 4.4)
    assert looks_of(estimated_looks(power, everywhere(power)))[0] == pytest.approx(4.4, rel=0.2)


def test_an_image_without_any_whole_window_has_one_look():
    power = speckled(np.full((30, 30), 1.0), 4.4)
    assert looks_of(estimated_looks(power, np.zeros((30, 30), np.bool_))) == (1.0,)


def test_samples_lie_inside_and_reach_every_corner():
    for shape in ((100, 5000), (256, 256), (3000, 2000)):
        windows = list(sample_windows(shape))
        assert all(w.row + w.height <= shape[0] and w.col + w.width <= shape[1] for w in windows)
        assert max(w.row + w.height for w in windows) == shape[0]
        assert max(w.col + w.width for w in windows) == shape[1]


def test_a_scene_tells_its_filter_and_looks(raster, decibels):
    path = raster("sar.tif", decibels, descriptions=["VV", "VH"])
    assert open_scene(sar=path).describe()["sar"][0]["speckle"] is None
    with open_scene(sar=path, speckle="lee") as scene:
        assert "lee over 7 x 7 pixels" in scene.describe()["sar"][0]["speckle"]
        assert scene.provenance()["sar"][0]["speckle"] == scene.describe()["sar"][0]["speckle"]
