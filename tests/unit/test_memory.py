"""How a run is cut so that it fits into memory."""

from __future__ import annotations

import numpy as np
import pytest

from mmovseg_geo import memory
from mmovseg_geo.errors import ConfigError
from mmovseg_geo.memory import LARGEST_BATCH, Fit, fitted
from mmovseg_geo.models.segmenter import ON_HOST
from mmovseg_geo.models.threshold import ThresholdSegmenter
from mmovseg_geo.pipeline import Journey
from mmovseg_geo.rasters.ahead import READING
from mmovseg_geo.rasters.source import LEAST_CACHE, environment
from mmovseg_geo.settings import memory as parsed
from mmovseg_geo.tiles import Tiling
from mmovseg_geo.vocabulary import Vocabulary
from tests.memory_scene import MemoryScene

MB = 10**6
CACHE = MemoryScene(np.zeros((1, 1))).cache_bytes(1)


@pytest.fixture
def journey(monkeypatch) -> Journey:
    """300 MB are held already, and a tile takes 10 MB of work."""
    monkeypatch.setattr(memory, "resident_bytes", lambda: 300 * MB)
    monkeypatch.setattr(memory, "peak_of", lambda work: 10 * MB)
    scene = MemoryScene(np.full((2000, 2000), 90, np.float32))
    return Journey.of(scene, ThresholdSegmenter(Vocabulary.of("a,b")), tiling=Tiling(128, 16))


def test_without_a_wish_no_tile_is_tried(journey):
    assert fitted(journey, 4, None) == Fit(4, READING, CACHE, 0)
    assert journey.scene.reads == 0


def test_where_there_is_room_nothing_is_cut(journey):
    fit = fitted(journey, 4, 4000 * MB)
    assert (fit.batch_size, fit.reading, fit.cache_bytes) == (4, READING, CACHE)
    assert 300 * MB < fit.peak < 4000 * MB


def test_less_memory_first_takes_from_the_batch_then_from_what_waits_and_then_from_the_cache(journey):
    fits = [fitted(journey, 8, 4000 * MB)]
    for _ in range(11):
        fits.append(fitted(journey, 8, fits[-1].peak - 1))
        assert fits[-1].peak < fits[-2].peak
    with pytest.raises(ConfigError):
        fitted(journey, 8, fits[-1].peak - 1)
    assert [fit.batch_size for fit in fits[:8]] == [8, 7, 6, 5, 4, 3, 2, 1]
    assert {(fit.reading, fit.cache_bytes) for fit in fits[:8]} == {(READING, CACHE)}
    rest = [(fit.reading.threads, fit.reading.run, fit.cache_bytes) for fit in fits[8:]]
    assert rest == [(1, 2, CACHE), (1, 1, CACHE), (1, 1, CACHE // 2), (1, 1, LEAST_CACHE)]


def test_what_comes_afterwards_counts_where_it_takes_more(journey):
    alone = fitted(journey, 1, 4000 * MB).peak
    assert fitted(journey, 1, 4000 * MB, afterwards=MB).peak == alone
    assert fitted(journey, 1, 4000 * MB, afterwards=900 * MB).peak > alone + 700 * MB
    with pytest.raises(ConfigError, match="too little"):
        fitted(journey, 1, 1000 * MB, afterwards=900 * MB)


def test_across_a_wide_scene_little_more_is_held(monkeypatch, journey):
    wide = MemoryScene(np.full((2000, 20000), 90, np.float32))
    more = Journey.of(wide, journey.segmenter, tiling=journey.tiling)
    assert fitted(more, 1, 4000 * MB).peak - fitted(journey, 1, 4000 * MB).peak < 18000 * 4000


def test_too_little_is_refused_with_what_is_enough(journey):
    with pytest.raises(ConfigError, match=r"--memory 310MB is too little: this run needs --memory (\w+)") as refused:
        fitted(journey, 4, 310 * MB)
    told = str(refused.value).split("needs --memory ")[1].split(" ")[0]
    assert fitted(journey, 4, parsed(told)).batch_size == 1
    with pytest.raises(ConfigError):
        fitted(journey, 4, int(0.95 * parsed(told)))


def test_auto_takes_as_many_tiles_as_fit(journey, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 2 * 800 * MB)
    some = fitted(journey, None, None)
    assert 4 < some.batch_size < LARGEST_BATCH
    assert some.peak <= 1100 * MB
    monkeypatch.setattr(memory, "free_bytes", lambda: 10**12)
    assert fitted(journey, None, None).batch_size == LARGEST_BATCH
    monkeypatch.setattr(memory, "free_bytes", lambda: 0)
    assert fitted(journey, None, None).batch_size == 1


def test_auto_takes_no_more_tiles_than_there_are(journey, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 10**12)
    small = MemoryScene(np.full((300, 200), 90, np.float32))
    tiling = Tiling(128, 16)
    found = fitted(Journey.of(small, journey.segmenter, tiling=tiling), None, None)
    assert found.batch_size == tiling.count((300, 200))


def test_a_scene_that_is_empty_in_the_middle_takes_as_much_as_any(journey):
    seen = []

    class Watched(ThresholdSegmenter):
        def __call__(self, batch):
            seen.append(batch.seen_by(self.sensors).all())
            return super().__call__(batch)

    pixels = np.full((2000, 2000), 90, np.float32)
    pixels[400:1600] = np.nan
    scene = MemoryScene(pixels)
    fitted(Journey.of(scene, Watched(Vocabulary.of("a,b")), tiling=journey.tiling), 4, 4000 * MB)
    assert seen
    assert all(seen)


def test_what_was_kept_of_files_before_is_let_go_and_counted_once(journey, monkeypatch):
    kept = []

    class Watched(MemoryScene):
        def read(self, window):
            kept.append(environment("a.tif").options["GDAL_CACHEMAX"])
            return super().read(window)

    monkeypatch.delenv("GDAL_CACHEMAX", raising=False)
    scene = Watched(np.full((2000, 2000), 90, np.float32))
    fitted(Journey.of(scene, journey.segmenter, tiling=journey.tiling), 4, 4000 * MB)
    assert kept == [LEAST_CACHE]


def test_on_a_gpu_its_memory_decides_the_batch(journey, monkeypatch):
    class Gpu:
        """100 MB for the first tile, 60 for each further one."""

        scored: list[int] = []  # noqa: RUF012

        def to_device(self, batch):
            self.scored.append(len(batch))
            return ON_HOST.to_device(batch)

        to_host = staticmethod(ON_HOST.to_host)

        def free_bytes(self):
            return 2000 * MB

        def peak_of(self, work):
            work()
            return (40 + 60 * self.scored[-1]) * MB

    monkeypatch.setattr(memory, "free_bytes", lambda: 10**12)
    journey.segmenter.transfer = Gpu()
    found = fitted(journey, None, None)
    assert found.batch_size == 29
    assert fitted(journey, 8, 4000 * MB).batch_size == 8


@pytest.mark.parametrize(
    ("text", "count"),
    [("4GB", 4 * 10**9), ("800mb", 800 * MB), ("1.5G", 15 * 10**8), ("2GiB", 2 * 2**30), (" 1 TB ", 10**12), (7, 7)],
)
def test_amounts_of_memory(text, count):
    assert parsed(text) == count


@pytest.mark.parametrize("text", ["", "4", "much", "GB", "-1GB", "0GB", "4 gigabytes", True])
def test_what_is_no_amount_of_memory(text):
    with pytest.raises(ConfigError, match="4GB or 800MB"):
        parsed(text)
