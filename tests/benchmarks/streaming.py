"""Whether the pipeline keeps the model busy, and how long the files take to close: measured side by side in one run."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from odc.geo.geobox import GeoBox

from mmovseg_geo.config import SegmentConfig
from mmovseg_geo.decision import Decision
from mmovseg_geo.grid import Window
from mmovseg_geo.maps import load_for
from mmovseg_geo.models.segmenter import ON_HOST, Segmenter
from mmovseg_geo.pipeline import Journey, finish, segment
from mmovseg_geo.rasters.labels import LabelWriter, read_band
from mmovseg_geo.rasters.scene import open_scene
from mmovseg_geo.tiles import Batch
from tests.benchmarks.scenes import make_scene

Seconds = dict[str, float]
SENTINEL_2 = 10980


@contextmanager
def measured(spent: Seconds) -> Iterator[None]:
    """Adds wall seconds, and those of all processors, to what was spent."""
    wall, processor = time.perf_counter(), time.process_time()
    yield
    spent["wall"] = spent.get("wall", 0.0) + time.perf_counter() - wall
    spent["processor"] = spent.get("processor", 0.0) + time.process_time() - processor


def busy(folder: Path, side: int, config: SegmentConfig, batch_size: int, turns: int = 4) -> Seconds:
    """A two-sensor scene from the first read to the last row, beside the model alone on the same tiles.

    The two take turns with the same tiles, those of a part of the scene, so that what else the machine does counts for
    both.
    """
    with open_scene(*make_scene(folder, side, side)) as scene, tempfile.TemporaryDirectory(dir=folder) as out:
        segmenter = load_for(scene, config)
        journey = Journey.of(scene, segmenter, tiling=config.tiling(segmenter.tiling), batch_size=batch_size)
        decision = Decision(segmenter.vocabulary, None)
        alone: Seconds = {}
        stream: Seconds = {}
        _score(journey, journey.batches(journey.wanted)[:2], {})
        files = {"path": Path(out, "labels.tif"), "confidence": Path(out, "confidence.tif")}
        with LabelWriter(grid=scene.grid, vocabulary=segmenter.vocabulary, **files) as writer:
            for turn in range(turns):
                rows = turn * side // turns, (turn + 1) * side // turns
                batches = journey.batches(journey.part(rows))
                _score(journey, batches, alone)
                with measured(stream):
                    finish(
                        journey, decision, lambda strip: writer.write(strip.row, strip.labels, strip.confidence),
                        rows=rows,
                    )  # fmt: skip
    return {
        "model_alone_s": alone["wall"],
        "stream_s": stream["wall"],
        "ratio": stream["wall"] / alone["wall"],
        "ratio_of_processor_time": stream["processor"] / alone["processor"],
        "mpx_per_s": side**2 / 1e6 / stream["wall"],
    }


def stages(folder: Path, side: int, config: SegmentConfig, batch_size: int) -> Seconds:
    """Processor seconds a megapixel of everything but the model: the same run with one that only hands out scores."""
    with open_scene(*make_scene(folder, side, side)) as scene:
        journey = Journey.of(scene, load_for(scene, config), batch_size=batch_size)
        batch = Batch.stack([scene.read(window) for window in journey.batches(journey.wanted)[0]])
        scores = journey.segmenter(batch)

        class Idle:
            def __getattr__(self, name: str) -> object:
                return getattr(journey.segmenter, name)

            def __call__(self, batch: Batch) -> object:
                return scores[: len(batch)]

        idle: Segmenter = Idle()  # type: ignore[assignment]
        spent: Seconds = {}
        with measured(spent):
            finish(
                Journey.of(scene, idle, batch_size=batch_size), Decision(idle.vocabulary, None), lambda strip: None,
                rows=(0, side),
            )  # fmt: skip
    return {"processor_s_per_mpx": spent["processor"] / side**2 * 1e6}


def closing(folder: Path, config: SegmentConfig, side: int = SENTINEL_2) -> Seconds:
    """Both files of a map of a whole Sentinel-2 tile, closed; what they hold is a real map repeated."""
    with open_scene(*make_scene(folder, 1024, 1024)) as scene, tempfile.TemporaryDirectory(dir=folder) as out:
        segmenter = load_for(scene, config)
        told = Path(out, "confidence.tif")
        labels = segment(scene, segmenter, Path(out, "labels.tif"), confidence=told).read()
        sure = read_band(told, Window(0, 0, *labels.shape))
        grid = GeoBox((side, side), scene.grid.affine, scene.grid.crs)
        spent: Seconds = {}
        rows = [np.tile(part[:512], (1, -(-side // part.shape[1])))[:, :side] for part in (labels, sure)]
        with LabelWriter(Path(out, "a.tif"), grid, segmenter.vocabulary, confidence=Path(out, "b.tif")) as writer:
            writing: Seconds = {}
            with measured(writing):
                for row in range(0, side, 512):
                    height = min(512, side - row)
                    writer.write(row, rows[0][:height], rows[1][:height])
            with measured(spent):
                writer.close()
    return {"close_s": spent["wall"], "close_processor_s": spent["processor"], "rows_processor_s": writing["processor"]}


def _score(journey: Journey, batches: list[list[Window]], spent: Seconds) -> None:
    """Score batches whose tiles are in memory already; only the model's time counts."""
    segmenter = journey.segmenter
    transfer = getattr(segmenter, "transfer", None) or ON_HOST
    for windows in batches:
        batch = transfer.to_device(Batch.stack([journey.scene.read(window) for window in windows]))()
        with measured(spent):
            scores = segmenter(batch)
            transfer.to_host(scores[:1, :1, :1, :1])()  # waits for a GPU
