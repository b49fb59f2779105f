"""`mmovseg polygonize` on maps of real places, read in many strips, and stopped in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
from rasterio.features import rasterize

from mmovseg_geo.polygons import class_areas
from mmovseg_geo.rasters.labels import LabelRaster

REAL_MAPS = [
    "rgb_buildings/mosaic_3x1_labels.tif",
    "s1_s2_flood/Spain_7370579/labels.tif",
    "s1_s2_landcover/637U_59R_1_3/labels.tif",
    pytest.param("odd_geotiffs/cog_cmap.tif", marks=pytest.mark.slow),
]


@pytest.fixture
def thin_strips(monkeypatch):
    """Maps are read some dozen rows at a time."""
    monkeypatch.setattr("mmovseg_geo.polygons.strips.STRIP_PIXELS", 1 << 16)


@pytest.mark.parametrize("name", REAL_MAPS)
@pytest.mark.usefixtures("thin_strips")
def test_polygons_of_a_real_map_rasterize_back_to_it_and_have_its_areas(shared, here, run, name):
    path = shared / "data" / name
    assert run("polygonize", path, "-o", "p.gpkg").exit_code == 0
    found, raster = geopandas.read_file("p.gpkg", layer="labels"), LabelRaster.open(path)
    labels, nodata = raster.read().astype(np.uint16), 65535
    labels[~np.isin(labels, [entry.id for entry in raster.vocabulary.classes])] = nodata
    shapes = zip(found.geometry, found.class_id, strict=True)
    burned = rasterize(shapes, labels.shape, fill=nodata, transform=raster.grid.affine, dtype="uint16")
    assert (burned == labels).all()
    sums = found.groupby("class_id")[["area_m2", "n_pixels"]].sum()
    for area in class_areas(raster):
        if area["pixels"]:
            assert sums.n_pixels[area["id"]] == area["pixels"]
            assert sums.area_m2[area["id"]] == pytest.approx(area["area_m2"], rel=1e-9)


@pytest.mark.usefixtures("thin_strips")
def test_simplified_polygons_of_a_real_map_share_their_edges(shared, here, run):
    path = shared / "data" / "rgb_buildings" / "mosaic_3x1_labels.tif"
    exact = run("polygonize", path, "-o", "exact.gpkg", "--min-area", "50px")
    assert exact.exit_code == 0
    assert run("polygonize", path, "-o", "simple.gpkg", "--min-area", "50px", "--simplify", "1.5px").exit_code == 0
    exact, simple = (geopandas.read_file(f"{name}.gpkg", layer="labels") for name in ("exact", "simple"))
    assert simple.geometry.is_valid.all()
    assert shapely.coverage_is_valid(simple.geometry.values)
    assert simple.n_pixels.tolist() == exact.n_pixels.tolist()
    assert simple.area.sum() == pytest.approx(exact.area.sum())
    # No border moves by more than about the tolerance.
    moved = shapely.area(shapely.symmetric_difference(simple.geometry.values, exact.geometry.values)).sum() / 2
    assert moved < 0.02 * exact.area.sum()
    corners = [shapely.get_num_coordinates(each.geometry.values).sum() for each in (exact, simple)]
    assert corners[1] < 0.4 * corners[0]


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
@pytest.mark.parametrize("suffix", [".gpkg", ".fgb"])
def test_an_interrupted_polygonize_leaves_nothing(here, write, suffix):
    labels = np.random.default_rng(1).integers(1, 5, (1, 1500, 1500), dtype=np.uint8)
    write("m_labels.tif", labels, nodata=255)
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from mmovseg_cli.app import main; main()",
            "polygonize",
            "m_labels.tif",
            "-o",
            f"p{suffix}",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 120
    while not list(Path().glob(f".p*{suffix}")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert out == ""
    assert "Interrupted" in err
    assert [path.name for path in Path().iterdir()] == ["m_labels.tif"]
