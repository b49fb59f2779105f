"""A real QGIS shows the classes, names and colors of our files."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from scipy.ndimage import gaussian_filter

from mmovseg_geo.polygons import polygonize, write_polygons
from mmovseg_geo.qgis import raster_style
from mmovseg_geo.rasters.labels import LabelWriter
from mmovseg_geo.vocabulary import Vocabulary

SCRIPT = Path(__file__).with_name("open_in_qgis.py")
QGIS_PYTHON = os.environ.get("MMOVSEG_QGIS_PYTHON", "/usr/bin/python3")
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

pytestmark = pytest.mark.qgis


@cache
def why_no_qgis() -> str:
    """Empty where a QGIS can be imported, else the reason."""
    try:
        result = subprocess.run(
            [QGIS_PYTHON, "-c", "import qgis.core"], capture_output=True, text=True, timeout=120, env=ENVIRONMENT
        )
    except OSError as error:
        return f"{QGIS_PYTHON}: {error.strerror}"
    return result.stderr.strip().splitlines()[-1] if result.returncode else ""


@pytest.fixture
def qgis_python():
    if why_no_qgis():
        pytest.skip(f"no QGIS ({why_no_qgis()}); install python3-qgis or set MMOVSEG_QGIS_PYTHON")
    return QGIS_PYTHON


def landscape(ids, shape):
    """Smooth blobs of the given class ids, and a corner of no-data."""
    fields = gaussian_filter(np.random.default_rng(5).normal(size=(len(ids), *shape)), (0, 9, 9))
    labels = np.array(ids)[fields.argmax(0)]
    labels[: shape[0] // 4, : shape[1] // 5] = 255
    return labels.astype(np.uint8)


VOCABULARIES = {
    "plain": Vocabulary.of("water,forest,building|house,crop", background=True),
    "odd names": Vocabulary.from_entries(
        [
            {"id": 7, "name": 'bare "soil" & rock <b>', "color": "#ff8800"},
            {"id": 200, "name": "Gebäude – neu", "color": "#00aa77"},
            {"id": 31, "name": "森林"},
        ]
    ),
}
GRIDS = {
    "utm": (Affine(10, 0, 500_000, 0, -10, 5_000_000), "EPSG:32633"),
    "degrees": (Affine(0.0001, 0, 20, 0, -0.0001, 60), "EPSG:4326"),
}


@pytest.mark.parametrize(("words", "place", "simplify"), [("plain", "utm", 0), ("odd names", "degrees", "1.5px")])
def test_qgis_shows_classes_names_and_colors(tmp_path, qgis_python, words, place, simplify):
    vocabulary, (affine, crs) = VOCABULARIES[words], GRIDS[place]
    labels = landscape([entry.id for entry in vocabulary.classes], (180, 240))
    path = tmp_path / "scene_labels.tif"
    with LabelWriter(path, GeoBox(labels.shape, affine, crs), vocabulary) as writer:
        writer.write(0, labels)
    path.with_suffix(".qml").write_text(raster_style(vocabulary), encoding="utf-8")
    write_polygons(polygonize(path, simplify=simplify), tmp_path / "scene_polygons.gpkg")
    result = subprocess.run(
        [qgis_python, str(SCRIPT), str(tmp_path), "scene"], capture_output=True, text=True, timeout=300, env=ENVIRONMENT
    )
    assert "QGIS shows our classes." in result.stdout, result.stdout + result.stderr
    for layer in ("labels", "polygons"):
        assert (tmp_path / f"scene_{layer}_in_qgis.png").stat().st_size > 1000
