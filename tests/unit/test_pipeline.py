"""The journey, on scenes that live in memory."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from mmovseg_geo.errors import ConfigError, SceneError
from mmovseg_geo.grid import Window
from mmovseg_geo.models.threshold import ThresholdSegmenter
from mmovseg_geo.pipeline import decision, finished_rows
from mmovseg_geo.tiles import Tile, Tiling
from mmovseg_geo.vocabulary import Vocabulary


class MemoryScene:
    """A gray optical scene, and optionally SAR, held as arrays with NaN where there is no data."""

    def __init__(self, optical=None, sar=None):
        self.layers = {"optical": optical, "sar": sar}
        shape = next(layer.shape for layer in (optical, sar) if layer is not None)
        self.grid, self.shape = SimpleNamespace(shape=shape), shape
        self.sensors = frozenset(name for name, layer in self.layers.items() if layer is not None)
        self.name = "memory"
        self.reads = 0

    def read(self, window):
        self.reads += 1
        pixels = {"optical": (None, None), "sar": (None, None)}
        for name, bands in (("optical", 3), ("sar", 2)):
            layer = self.layers[name]
            if layer is not None:
                tile = np.full(window.shape, np.nan, dtype=np.float32)
                part = layer[window.slices]
                tile[: part.shape[0], : part.shape[1]] = part
                valid = ~np.isnan(tile)
                pixels[name] = (np.stack([np.where(valid, tile, 0)] * bands), valid)
        (optical, optical_valid), (sar, sar_valid) = pixels["optical"], pixels["sar"]
        return Tile(window, optical, sar, optical_valid, sar_valid, 10.0)


def brightness(scene, **settings):
    """Blended brightness (H, W) of a scene, NaN where nothing was seen."""
    blocks = []
    for _, scores, valid in finished_rows(scene, ThresholdSegmenter(Vocabulary.of("dark,bright")), **settings):
        block = np.full(valid.shape, np.nan, dtype=np.float32)
        if scores is not None:
            block[valid] = scores[0][valid]
        blocks.append(block)
    return np.concatenate(blocks)


def a_picture(height=90, width=70):
    return np.random.default_rng(1).integers(0, 256, (height, width)).astype(np.float32)


def test_every_pixel_is_scored_once_whatever_the_tiles():
    picture = a_picture()
    for tiling in (Tiling(32, 8), Tiling(33, 0), Tiling(200, 10)):
        np.testing.assert_allclose(brightness(MemoryScene(picture), tiling=tiling), picture / 255, atol=1e-6)


def test_a_window_gives_what_the_whole_scene_has_there():
    picture, window = a_picture(), Window(21, 13, 40, 29)
    whole = brightness(MemoryScene(picture), tiling=Tiling(32, 8))
    part = brightness(MemoryScene(picture), tiling=Tiling(32, 8), window=window)
    np.testing.assert_array_equal(part, whole[window.slices])


def test_a_window_reads_only_the_tiles_it_touches():
    scene = MemoryScene(a_picture(320, 320))
    brightness(scene, tiling=Tiling(32, 0), window=Window(40, 40, 10, 10))
    assert scene.reads == 1


def test_where_optical_is_missing_sar_decides_and_where_both_are_nothing_does():
    optical, sar = a_picture(), a_picture()[::-1].copy()
    optical[10:60, 10:60] = np.nan
    sar[:, :30] = np.nan
    found = brightness(MemoryScene(optical, sar), tiling=Tiling(32, 8))
    expected = np.where(np.isnan(optical), sar, optical) / 255
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.isnan(found[20, 20])


def test_a_scene_without_any_data_gives_rows_without_scores():
    rows = list(finished_rows(MemoryScene(np.full((40, 40), np.nan)), ThresholdSegmenter(Vocabulary.of("a,b"))))
    assert sum(valid.shape[0] for _, _, valid in rows) == 40
    assert not any(valid.any() for _, _, valid in rows)


def test_progress_counts_every_tile():
    told = []
    scene = MemoryScene(a_picture())
    list(
        finished_rows(
            scene,
            ThresholdSegmenter(Vocabulary.of("a,b")),
            tiling=Tiling(32, 8),
            batch_size=4,
            progress=lambda done, total: told.append((done, total)),
        )
    )
    assert told[-1] == (12, 12)
    assert [done for done, _ in told] == [4, 8, 12]


def test_a_scene_without_a_sensor_the_model_needs_is_refused():
    segmenter = ThresholdSegmenter(Vocabulary.of("a,b"))
    segmenter.sensors = frozenset({"sar"})
    with pytest.raises(SceneError, match="needs sar"):
        list(finished_rows(MemoryScene(a_picture()), segmenter))


def test_a_failing_read_ends_the_run():
    scene = MemoryScene(a_picture(320, 320))
    whole = scene.read

    def fails_later(window):
        if window.row > 100:
            raise SceneError("the file ends here")
        return whole(window)

    scene.read = fails_later
    with pytest.raises(SceneError, match="ends here"):
        brightness(scene, tiling=Tiling(32, 8))


def test_the_highest_value_wins_and_is_the_confidence():
    decide = decision(Vocabulary.of("a,b"), None)
    labels, confidence = decide(np.array([[[0.2, 0.7]], [[0.6, 0.1]]]), np.array([[True, True]]))
    assert labels.tolist() == [[2, 1]]
    assert confidence.tolist() == [[60, 70]]


def test_a_pixel_that_no_class_claims_is_background():
    decide = decision(Vocabulary.of("a,background"), None)
    labels, confidence = decide(np.array([[[0.2, 0.7]]]), np.array([[True, True]]))
    assert labels.tolist() == [[0, 1]]
    assert confidence.tolist() == [[80, 70]]


def test_pixels_without_data_are_no_class():
    labels, confidence = decision(Vocabulary.of("a,b"), None)(np.ones((2, 1, 2)), np.array([[True, False]]))
    assert labels.tolist() == [[1, 255]]
    assert confidence.tolist() == [[100, 255]]


def test_a_minimum_score_without_background_is_refused():
    with pytest.raises(ConfigError, match="--background"):
        decision(Vocabulary.of("a,b"), 0.3)


def test_a_background_that_is_scored_wins_pixels_and_takes_those_below_the_minimum():
    vocabulary = Vocabulary.of("background,a,b")
    values = np.array([[[0.5, 0.2, 0.3]], [[0.4, 0.7, 0.3]], [[0.1, 0.1, 0.35]]])
    valid = np.ones((1, 3), bool)
    labels, confidence = decision(vocabulary, None, scored=True)(values, valid)
    assert labels.tolist() == [[0, 1, 2]]
    assert confidence.tolist() == [[50, 70, 35]]
    labels, confidence = decision(vocabulary, 0.6, scored=True)(values, valid)
    assert labels.tolist() == [[0, 1, 0]]
    assert confidence.tolist() == [[50, 70, 65]]


def test_what_only_another_sensor_saw_is_no_data_to_a_method():
    optical, sar = a_picture(), a_picture()
    optical[:, 40:] = np.nan
    segmenter = ThresholdSegmenter(Vocabulary.of("dark,bright"))
    segmenter.sensors = frozenset({"optical"})
    scene = MemoryScene(optical, sar)
    seen = np.concatenate([valid for _, _, valid in finished_rows(scene, segmenter, tiling=Tiling(32, 8))])
    np.testing.assert_array_equal(seen, ~np.isnan(optical))
