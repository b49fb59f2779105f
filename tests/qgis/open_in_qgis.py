"""Open a map and its polygons in a real QGIS, check classes, names and colors, and render both to PNG.

Runs with the Python that has QGIS (Debian: `apt install python3-qgis`, then `/usr/bin/python3`):

    python3 tests/qgis/open_in_qgis.py FOLDER NAME

FOLDER holds NAME_labels.tif with its NAME_labels.qml, and NAME_polygons.gpkg. What is expected is read from the tag
`classes` of the raster. Writes NAME_labels_in_qgis.png and NAME_polygons_in_qgis.png there.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from osgeo import gdal
from qgis.core import (
    QgsApplication,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor

LONGEST = 900
OUTLINE_SHADE = 0.8
BACKGROUND = QColor(255, 0, 255)
"""Shines through where a layer draws nothing."""


def main(folder: Path, name: str) -> None:
    labels, polygons = folder / f"{name}_labels.tif", folder / f"{name}_polygons.gpkg"
    tag = gdal.Open(str(labels)).GetMetadata()["classes"]
    expected = {entry["id"]: (entry["name"], entry["color"]) for entry in json.loads(tag)}
    raster = QgsRasterLayer(str(labels), "labels")
    check_raster(raster, expected)
    picture = render(raster, folder / f"{name}_labels_in_qgis.png")
    check_nodata(picture, raster)
    vector = QgsVectorLayer(f"{polygons}|layername=labels", "polygons")
    check_vector(vector, expected)
    drawn = render(vector, folder / f"{name}_polygons_in_qgis.png")
    compare(picture, drawn)


def check_raster(layer, expected) -> None:
    assert layer.isValid(), layer.error().summary()
    renderer = layer.renderer()
    assert renderer.type() == "paletted", renderer.type()
    found = {int(entry.value): (entry.label, entry.color.name()) for entry in renderer.classes()}
    assert found == expected, f"raster classes {found}, expected {expected}"
    print("raster:", found)


def check_nodata(picture, layer) -> None:
    """Pixels of no-data are transparent: the color behind the map is seen there, and nowhere else."""
    provider = layer.dataProvider()
    extent = layer.extent()
    block = provider.block(1, extent, picture.width(), picture.height())
    agree = total = 0
    for row in range(0, picture.height(), 5):
        for column in range(0, picture.width(), 5):
            total += 1
            agree += block.isNoData(row, column) == (picture.pixelColor(column, row).name() == BACKGROUND.name())
    assert agree > 0.98 * total, f"no-data is transparent at {agree} of {total} places"


def check_vector(layer, expected) -> None:
    assert layer.isValid(), layer.error().summary()
    renderer = layer.renderer()
    assert renderer.type() == "categorizedSymbol", renderer.type()
    assert renderer.classAttribute() == "class_id", renderer.classAttribute()
    found = {int(entry.value()): (entry.label(), entry.symbol().color().name()) for entry in renderer.categories()}
    assert found == expected, f"polygon classes {found}, expected {expected}"
    assert layer.featureCount() > 0
    names = {(feature["class_id"], feature["class_name"]) for feature in layer.getFeatures()}
    assert names <= {(number, name) for number, (name, _) in expected.items()}, names
    assert [field.name() for field in layer.fields()][1:] == [
        "class_id",
        "class_name",
        "area_m2",
        "confidence",
        "n_pixels",
    ]
    print("polygons:", layer.featureCount(), found)


def render(layer, path: Path):
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setDestinationCrs(layer.crs())
    settings.setExtent(layer.extent())
    settings.setBackgroundColor(BACKGROUND)
    settings.setFlag(QgsMapSettings.Antialiasing, False)
    width, height = layer.extent().width(), layer.extent().height()
    scale = LONGEST / max(width, height)
    settings.setOutputSize(QSize(max(1, round(width * scale)), max(1, round(height * scale))))
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    picture = job.renderedImage()
    assert picture.save(str(path)), path
    return picture


def compare(raster, polygons) -> None:
    """Both layers show the same colors at the same places, be they a little darker where an outline runs."""
    if raster.size() != polygons.size():
        return
    agree = total = 0
    for row in range(0, raster.height(), 7):
        for column in range(0, raster.width(), 7):
            total += 1
            shown, drawn = raster.pixelColor(column, row), polygons.pixelColor(column, row)
            pairs = zip(shown.getRgb(), drawn.getRgb(), strict=True)
            agree += all(OUTLINE_SHADE * one - 1 <= other <= one for one, other in pairs)
    print(f"raster and polygons agree at {agree / total:.1%} of places")
    assert agree > 0.6 * total, f"raster and polygons agree at {agree} of {total} places only"


if __name__ == "__main__":
    application = QgsApplication([], False)
    application.initQgis()
    main(Path(sys.argv[1]), sys.argv[2])
    print("QGIS shows our classes.")
    sys.stdout.flush()
    # Leaving QGIS the regular way may crash while Python takes its objects apart.
    os._exit(0)
