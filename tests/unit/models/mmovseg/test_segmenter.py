"""The bundled model as a segmenter: shapes, missing sensors, synonyms, and that it sees water."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mmovseg_geo.errors import ConfigError
from mmovseg_geo.grid import Window
from mmovseg_geo.models import load_segmenter
from mmovseg_geo.models.mmovseg.segmenter import MMOVSegSegmenter, mmovseg_compact
from mmovseg_geo.rasters.radiometry import BRIGHT_REFLECTANCE, CO_POLARIZED_DB, CROSS_POLARIZED_DB
from mmovseg_geo.simulate import LAND_COVERS, SimulatedScene, simulate
from mmovseg_geo.tiles import Batch
from mmovseg_geo.vocabulary import Vocabulary

WATER = [index for index, cover in enumerate(LAND_COVERS) if "water" in cover.words]


def batch_of(scene: SimulatedScene) -> Batch:
    """A simulated scene as one tile, scaled as scenes are."""
    height, width = scene.labels.shape
    optical = 255 * np.clip(scene.optical / BRIGHT_REFLECTANCE, 0, 1)
    low, high = np.array([CO_POLARIZED_DB, CROSS_POLARIZED_DB]).T[:, :, None, None]
    sar = 255 * np.clip((scene.sar - low) / (high - low), 0, 1)
    valid = np.ones((1, height, width), bool)
    window = (Window(0, 0, height, width),)
    return Batch(window, optical[None].astype(np.float32), sar[None].astype(np.float32), valid, valid, scene.gsd_m)


@pytest.fixture(scope="module")
def wet_scene() -> SimulatedScene:
    """A scene of which water is between a fifth and four fifths."""
    for seed in range(50):
        scene = simulate((256, 256), gsd_m=10.0, seed=seed)
        if 0.2 < np.isin(scene.labels, WATER).mean() < 0.8:
            return scene
    raise AssertionError("no simulated scene has water")


@pytest.fixture(scope="module")
def segmenter() -> MMOVSegSegmenter:
    return mmovseg_compact(Vocabulary.of("water,forest|trees,building"), device="cpu")


def test_scores_cover_the_pixels_of_any_tile(segmenter: MMOVSegSegmenter) -> None:
    batch = batch_of(simulate((75, 130), gsd_m=10.0, seed=1))
    scores = segmenter(batch)
    assert scores.shape == (1, 3, 75, 130)
    assert scores.dtype == torch.float32
    assert 0 <= scores.min() <= scores.max() <= 1


@pytest.mark.parametrize("gsd_m", [0.05, 0.3, 2.0, 30.0, 500.0])
def test_any_ground_sampling_distance_gives_scores(segmenter: MMOVSegSegmenter, gsd_m: float) -> None:
    batch = replace(batch_of(simulate((64, 64), gsd_m=10.0, seed=1)), gsd_m=gsd_m)
    assert torch.isfinite(segmenter(batch)).all()


def test_a_missing_sensor_equals_an_invalid_one(segmenter: MMOVSegSegmenter, wet_scene: SimulatedScene) -> None:
    batch = batch_of(wet_scene)
    absent = replace(batch, sar=None, sar_valid=None)
    assert batch.sar_valid is not None
    invalid = replace(batch, sar_valid=np.zeros_like(batch.sar_valid))
    torch.testing.assert_close(segmenter(absent), segmenter(invalid))


def test_values_of_invalid_pixels_do_not_matter(segmenter: MMOVSegSegmenter, wet_scene: SimulatedScene) -> None:
    batch = batch_of(wet_scene)
    assert batch.sar is not None
    assert batch.sar_valid is not None
    half = batch.sar_valid.copy()
    half[:, :, 128:] = False
    other = np.where(half[:, None], batch.sar, np.float32(200))
    first, second = (segmenter(replace(batch, sar=sar, sar_valid=half)) for sar in (batch.sar, other))
    torch.testing.assert_close(first, second)


def test_one_sar_band_is_enough(segmenter: MMOVSegSegmenter, wet_scene: SimulatedScene) -> None:
    batch = batch_of(wet_scene)
    assert batch.sar is not None
    single = replace(batch, sar=batch.sar[:, :1])
    assert torch.isfinite(segmenter(single)).all()


def test_a_batch_that_saw_nothing_gives_zeros(segmenter: MMOVSegSegmenter, wet_scene: SimulatedScene) -> None:
    batch = batch_of(wet_scene)
    nothing = np.zeros((1, 256, 256), bool)
    scores = segmenter(replace(batch, optical_valid=nothing, sar_valid=nothing))
    assert scores.shape == (1, 3, 256, 256)
    assert not scores.any()


def test_adding_a_class_leaves_the_scores_of_the_others(segmenter: MMOVSegSegmenter, wet_scene: SimulatedScene) -> None:
    alone = mmovseg_compact(Vocabulary.of("water"), device="cpu")
    batch = batch_of(wet_scene)
    torch.testing.assert_close(alone(batch)[:, 0], segmenter(batch)[:, 0], atol=1e-5, rtol=1e-4)


def test_the_best_synonym_counts_when_asked_for(wet_scene: SimulatedScene) -> None:
    vocabulary = Vocabulary.of("water|open water,forest")
    best = mmovseg_compact(vocabulary, device="cpu", synonyms="max")
    scores = best(batch_of(wet_scene))[0]
    assert best.planes == 3
    expected = torch.stack([scores[:2].amax(0), scores[2]])
    torch.testing.assert_close(best.probabilities(scores), expected)
    np.testing.assert_allclose(best.probabilities(scores.numpy()), expected.numpy())


def test_a_background_class_is_not_scored() -> None:
    segmenter = mmovseg_compact(Vocabulary.of("water", background=True), device="cpu")
    assert segmenter.planes == 1


def test_finer_scenes_get_larger_tiles() -> None:
    fine, coarse = (load_segmenter(classes="water", gsd_m=gsd_m).tiling for gsd_m in (0.1, 10.0))
    assert fine.size == 2 * coarse.size


def test_an_unknown_precision_is_an_error() -> None:
    with pytest.raises(ConfigError, match="fp8"):
        mmovseg_compact(Vocabulary.of("water"), precision="fp8")


@pytest.mark.parametrize(("sensors", "least"), [("both", 0.5), ("optical", 0.5), ("sar", 0.3)])
def test_water_is_found_on_a_simulated_scene(wet_scene: SimulatedScene, sensors: str, least: float) -> None:
    segmenter = mmovseg_compact(Vocabulary.of("water", background=True), device="cpu")
    batch = batch_of(wet_scene)
    if sensors == "optical":
        batch = replace(batch, sar=None, sar_valid=None)
    if sensors == "sar":
        batch = replace(batch, optical=None, optical_valid=None)
    said = segmenter(batch)[0, 0].numpy() > 0.5
    is_water = np.isin(wet_scene.labels, WATER)
    assert (said & is_water).sum() / (said | is_water).sum() > least


def test_an_absurd_word_is_not_found(wet_scene: SimulatedScene) -> None:
    segmenter = mmovseg_compact(Vocabulary.of("saxophone", background=True), device="cpu")
    assert (segmenter(batch_of(wet_scene)) > 0.5).float().mean() < 0.02
