"""The journey, on scenes that live in memory."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from mmovseg_geo.blocks import Strip
from mmovseg_geo.decision import Decision
from mmovseg_geo.errors import ConfigError, DeviceFailed, OutOfMemory, SceneError
from mmovseg_geo.grid import Window
from mmovseg_geo.models.threshold import ThresholdSegmenter
from mmovseg_geo.pipeline import Journey, finish, finished_rows
from mmovseg_geo.tiles import Batch, Tiling
from mmovseg_geo.vocabulary import Vocabulary
from tests.memory_scene import MemoryScene


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


def test_what_torch_scores_on_a_processor_is_stitched_without_its_threads():
    """Torch shares every step of another thread out among all cores, too, and takes them from the model."""
    import torch

    class Torch(ThresholdSegmenter):
        def __call__(self, batch):
            return torch.from_numpy(super().__call__(batch))

    scene, vocabulary = MemoryScene(a_picture()), Vocabulary.of("dark,bright")
    expected = list(finished_rows(scene, ThresholdSegmenter(vocabulary), tiling=Tiling(32, 8)))
    found = list(finished_rows(scene, Torch(vocabulary), tiling=Tiling(32, 8)))
    for (_, scores, _), (_, same, _) in zip(found, expected, strict=True):
        assert isinstance(scores, np.ndarray)
        np.testing.assert_array_equal(scores, same)


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
    decide = Decision(Vocabulary.of("a,b"), None)
    labels, confidence = decide(np.array([[[0.2, 0.7]], [[0.6, 0.1]]]), np.array([[True, True]]))
    assert labels.tolist() == [[2, 1]]
    assert confidence.tolist() == [[60, 70]]


def test_a_pixel_that_no_class_claims_is_background():
    decide = Decision(Vocabulary.of("a,background"), None)
    labels, confidence = decide(np.array([[[0.2, 0.7]]]), np.array([[True, True]]))
    assert labels.tolist() == [[0, 1]]
    assert confidence.tolist() == [[80, 70]]


def test_pixels_without_data_are_no_class():
    labels, confidence = Decision(Vocabulary.of("a,b"), None)(np.ones((2, 1, 2)), np.array([[True, False]]))
    assert labels.tolist() == [[1, 255]]
    assert confidence.tolist() == [[100, 255]]


def test_a_minimum_score_without_background_is_refused():
    with pytest.raises(ConfigError, match="--background"):
        Decision(Vocabulary.of("a,b"), 0.3)


def test_a_background_that_is_scored_wins_pixels_and_takes_those_below_the_minimum():
    vocabulary = Vocabulary.of("background,a,b")
    values = np.array([[[0.5, 0.2, 0.3]], [[0.4, 0.7, 0.3]], [[0.1, 0.1, 0.35]]])
    valid = np.ones((1, 3), bool)
    labels, confidence = Decision(vocabulary, None, scored=True)(values, valid)
    assert labels.tolist() == [[0, 1, 2]]
    assert confidence.tolist() == [[50, 70, 35]]
    labels, confidence = Decision(vocabulary, 0.6, scored=True)(values, valid)
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


class ContextSegmenter:
    """Scores that depend on a tile's frame as a network's do: in each plane waves times the tile's pixels."""

    name, sensors, tiling = "context", frozenset({"optical"}), Tiling(32, 12)

    def __init__(self, planes, convert=np.asarray, most=100):
        self.vocabulary = Vocabulary.of([f"class {number}" for number in range(planes)])
        self.planes, self.convert, self.most = planes, convert, most
        self.provenance, self.sizes = {}, []

    def __call__(self, batch):
        self.sizes.append(len(batch))
        if len(batch) > self.most:
            np.empty((len(batch), 2**55), np.uint8)  # a real lack of memory
        side = np.linspace(0, 3, batch.optical.shape[-1], dtype=np.float32)
        frame = np.sin(side[:, None] + np.arange(self.planes, dtype=np.float32)[:, None, None] * side)
        scores = np.float32(0.5) + frame * batch.optical[:, :1] / np.float32(600)
        return self.convert(scores.astype(np.float32))

    def probabilities(self, scores):
        return scores


def blended_in_double(picture, segmenter, tiling):
    """Scores (Q, H, W) of the whole scene at once, in float64 from the first product on."""
    height, width = picture.shape
    sums, weights = np.zeros((segmenter.planes, height, width)), np.zeros((height, width))
    rise = (np.arange(tiling.overlap) + 0.5) / tiling.overlap
    for window in tiling.windows(picture.shape):
        sides = []
        for start, length in ((window.row, height), (window.col, width)):
            side = np.ones(tiling.size)
            if start > 0:
                side[: tiling.overlap] *= rise
            if start + tiling.size < length:
                side[tiling.size - tiling.overlap :] *= rise[::-1]
            sides.append(side)
        weight = sides[0][:, None] * sides[1]
        tile = MemoryScene(picture).read(window)
        scores = np.asarray(segmenter(Batch.stack([tile])))[0].astype(np.float64)
        sums[(slice(None), *window.slices)] += scores * weight
        weights[window.slices] += weight
    return sums / weights


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_labels_are_those_of_a_blend_of_the_whole_scene_in_double(library):
    convert = np.asarray if library == "numpy" else pytest.importorskip("torch").from_numpy
    picture, tiling = a_picture(300, 260), Tiling(32, 12)
    segmenter = ContextSegmenter(5, convert)
    exact = blended_in_double(picture, segmenter, tiling)
    decide = Decision(segmenter.vocabulary, None)
    labels = np.concatenate(
        [
            decide(scores, valid)[0]
            for _, scores, valid in finished_rows(MemoryScene(picture), segmenter, tiling=tiling, batch_size=3)
        ]
    )
    first, second = np.sort(exact, axis=0)[[-1, -2]]
    clear = first - second > 1e-5
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(labels[clear], 1 + exact.argmax(0)[clear])


def finished_strips(journey, rows=None, **settings):
    strips = []
    decision = Decision(journey.segmenter.vocabulary, None)
    finish(journey, decision, strips.append, rows=rows or (0, journey.wanted.height), **settings)
    return strips


def test_parts_of_a_map_are_those_of_the_whole():
    journey = Journey.of(MemoryScene(a_picture(200, 90)), ContextSegmenter(4), batch_size=4)
    whole = Strip.joined(finished_strips(journey))
    for rows in ((0, 200), (37, 120), (199, 200)):
        part = finished_strips(journey, rows)
        assert part[0].row == rows[0]
        joined = Strip.joined(part)
        np.testing.assert_array_equal(joined.labels, whole.labels[slice(*rows)])
        np.testing.assert_array_equal(joined.confidence, whole.confidence[slice(*rows)])


def test_batches_of_a_part_are_those_of_the_whole():
    journey = Journey.of(MemoryScene(a_picture(200, 90)), ContextSegmenter(4), batch_size=4)
    whole = journey.batches(journey.wanted)
    part = journey.batches(journey.part((100, 120)))
    assert 0 < len(part) < len(whole)
    assert all(batch in whole for batch in part)


def test_a_processor_takes_one_tile_at_once_and_a_gpu_four_unless_told_otherwise():
    scene, segmenter = MemoryScene(a_picture()), ContextSegmenter(2)
    assert Journey.of(scene, segmenter).batch_size == 1
    assert Journey.of(scene, segmenter, batch_size=7).batch_size == 7
    segmenter.transfer = object()
    assert Journey.of(scene, segmenter).batch_size == 4


def test_strips_end_where_a_row_of_windows_begins():
    journey = Journey.of(MemoryScene(a_picture(100, 90)), ContextSegmenter(4), tiling=Tiling(32, 12))
    strips = finished_strips(journey)
    assert [strip.row for strip in strips] == [0, 20, 40, 60]  # windows at 60 and 68 are stitched column by column
    assert strips[-1].bottom == 100


def test_a_real_lack_of_memory_halves_the_batches_and_changes_nothing(caplog):
    scene = MemoryScene(a_picture(100, 300))
    expected = Strip.joined(finished_strips(Journey.of(scene, ContextSegmenter(4), batch_size=8)))
    small = ContextSegmenter(4, most=2)
    found = Strip.joined(finished_strips(Journey.of(scene, small, batch_size=8)))
    assert small.sizes[:4] == [8, 4, 2, 2]
    assert set(small.sizes[3:]) <= {1, 2}
    assert "going on with 2" in caplog.text
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(found.confidence, expected.confidence)


def test_a_tile_that_is_too_much_by_itself_is_an_error():
    with pytest.raises(OutOfMemory, match="single tile of 32 pixels"):
        finished_strips(Journey.of(MemoryScene(a_picture()), ContextSegmenter(4, most=0), batch_size=4))


def test_only_a_lack_of_memory_halves_the_batches():
    segmenter = ContextSegmenter(4)
    segmenter.convert = lambda scores: 1 / 0
    with pytest.raises(ZeroDivisionError):
        finished_strips(Journey.of(MemoryScene(a_picture()), segmenter, batch_size=4))
    assert segmenter.sizes == [4]


def test_a_gpu_that_is_lost_is_told_from_a_bug():
    def lost(scores):
        raise RuntimeError("CUDA error: unspecified launch failure\nCompile with ...")

    segmenter = ContextSegmenter(4, lost)
    with pytest.raises(DeviceFailed, match=r"stopped working \(CUDA error: unspecified launch failure\)"):
        finished_strips(Journey.of(MemoryScene(a_picture()), segmenter))


def test_a_transfer_brings_tiles_to_the_model_and_bytes_back():
    torch = pytest.importorskip("torch")
    told = []

    class Wrapped:
        """Batches of tensors, as on a GPU, in the memory of the host."""

        def to_device(self, batch):
            told.append(("to device", threading.current_thread().name))
            image, valid = (torch.from_numpy(part) for part in (batch.optical, batch.optical_valid))
            return lambda: replace(batch, optical=image, optical_valid=valid)

        def to_host(self, *arrays):
            told.append(("to host", {array.dtype for array in arrays}))
            return lambda: tuple(array.numpy() for array in arrays)

    picture = a_picture(100, 90)
    picture[20:50, :40] = np.nan
    plain = ContextSegmenter(4, torch.from_numpy)
    expected = Strip.joined(finished_strips(Journey.of(MemoryScene(picture), plain)))
    segmenter = ContextSegmenter(4, torch.from_numpy)
    whole = segmenter.__call__
    segmenter.transfer = Wrapped()

    class OnDevice(ContextSegmenter):
        def __call__(self, batch):
            assert isinstance(batch.optical, torch.Tensor)
            return whole(replace(batch, optical=batch.optical.numpy()))

    segmenter.__class__ = OnDevice
    found = Strip.joined(finished_strips(Journey.of(MemoryScene(picture), segmenter)))
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(found.confidence, expected.confidence)
    assert ("to device", "mmovseg-copy") in told
    assert ("to host", {torch.uint8}) in told
