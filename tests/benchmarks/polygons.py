"""Polygons of large maps by the real command, and of a small one beside rasterio's tracing and a table of shapes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.features import shapes
from scipy.ndimage import gaussian_filter

from mmovseg_geo.polygons import polygonize_to
from mmovseg_geo.rasters.labels import LabelRaster, LabelWriter
from mmovseg_geo.vocabulary import Vocabulary
from tests.benchmarks.processes import measured

CLASSES = 6
KINDS = {"patches": (4.35, 0.0), "islands": (3.4, 1.0)}
"""Width of patches in pixels, and by how much the first class prevails: among islands, it is one region, the sea."""
REPEATED = 2745
STRIP = 549
SMALL = 2048
OPTIONS = {
    "patches": ([], ["--confidence"], ["--min-area", "12px"], ["--simplify", "1.5px"]),
    "islands": ([], ["--simplify", "1.5px"]),
}

Figures = dict[str, float]


def rows(folder: Path, side: int) -> Iterator[tuple[str, Figures]]:
    """What is measured, with its figures."""
    for kind, variants in OPTIONS.items():
        labels = made(folder, side, kind)
        for options in variants:
            yield f"{side} x {side}, {kind} {' '.join(options)}".rstrip(), polygonized(labels, options)


def compared(folder: Path) -> Iterator[tuple[str, Figures]]:
    """The same for a small map, without starting a program, beside rasterio's tracing with an object for each shape."""
    small = made(folder, SMALL, "patches")
    for name in ("mmovseg", "rasterio, shapely, geopandas"):
        command = [sys.executable, "-m", "tests.benchmarks.polygons", name, str(small)]
        told = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
        yield f"{SMALL} x {SMALL}, patches, {name}, without start-up", json.loads(told)


def made(folder: Path, side: int, kind: str) -> Path:
    """A map of many regions, made once, by a process of its own: what that takes is not measured."""
    path = folder / f"{kind}_{side}_labels.tif"
    if not path.exists():
        subprocess.run([sys.executable, "-m", "tests.benchmarks.polygons", kind, str(path), str(side)], check=True)
    return path


def confidence_of(labels: Path) -> Path:
    return labels.with_name(labels.name.replace("_labels", "_confidence"))


def polygonized(labels: Path, options: list[str]) -> Figures:
    """Seconds, megapixels a second, regions and peak resident megabytes of one `mmovseg polygonize`."""
    height, width = LabelRaster.open(labels).grid.shape
    if "--confidence" in options:
        options = [*options, str(confidence_of(labels))]
    with tempfile.TemporaryDirectory(dir=labels.parent) as out:
        target = Path(out, "polygons.gpkg")
        command = [sys.executable, "-m", "mmovseg_cli", "polygonize", str(labels), "-o", str(target), "-q", *options]
        figures = measured(command)
        millions = height * width / 1e6
        return {
            **figures,
            "mpx_per_s": millions / figures["wall_s"],
            "mpx_per_processor_s": millions / figures["processor_s"],
            "regions": pyogrio.read_info(target, layer="labels")["features"],
            "file_mb": target.stat().st_size / 1e6,
        }


def _write(kind: str, path: Path, side: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    width, prevailing = KINDS[kind]
    random = np.random.default_rng(11)
    repeated = min(REPEATED, side)
    best, labels = np.full((repeated, repeated), -np.inf, np.float32), np.zeros((repeated, repeated), np.uint8)
    for number in range(CLASSES):
        field = gaussian_filter(random.standard_normal(labels.shape, np.float32), width, mode="wrap")
        field = field / field.std() + (prevailing if number == 0 else 0)
        labels[field > best] = number + 1
        best = np.maximum(best, field)
    confidence = np.clip(50 + 15 * best, 0, 100).astype(np.uint8)
    times = -(-side // repeated)
    grid = GeoBox((side, side), Affine(10, 0, 300_000, 0, -10, 5_300_000), "EPSG:32633")
    words = Vocabulary.of([f"class {number}" for number in range(1, CLASSES + 1)])
    with LabelWriter(path, grid, words, confidence=confidence_of(path), overwrite=True) as writer:
        for row in range(0, side, STRIP):
            these = np.arange(row, min(row + STRIP, side)) % repeated
            parts = [np.tile(each[these], (1, times))[:, :side] for each in (labels, confidence)]
            writer.write(row, *parts)


def _in_process(name: str, path: Path) -> Figures:
    raster = LabelRaster.open(path)
    with tempfile.TemporaryDirectory(dir=path.parent) as out:
        target = Path(out, "polygons.gpkg")
        seconds, processor = time.perf_counter(), time.process_time()
        if name == "mmovseg":
            polygonize_to(raster, target)
        else:
            labels = raster.read()
            found = list(shapes(labels, connectivity=4, transform=raster.grid.affine))
            columns = {"class_id": [int(value) for _, value in found]}
            geometry = [shapely.geometry.shape(shape) for shape, _ in found]
            geopandas.GeoDataFrame(columns, geometry=geometry, crs="EPSG:32633").to_file(target, layer="labels")
        seconds, processor = time.perf_counter() - seconds, time.process_time() - processor
        height, width = raster.grid.shape
        regions = pyogrio.read_info(target, layer="labels")["features"]
        millions = height * width / 1e6
    return {"mpx_per_s": millions / seconds, "mpx_per_processor_s": millions / processor, "regions": regions}


if __name__ == "__main__":
    if sys.argv[1] in KINDS:
        _write(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
    else:
        print(json.dumps(_in_process(sys.argv[1], Path(sys.argv[2]))))
