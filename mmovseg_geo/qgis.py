"""Styles by which QGIS (3.22 and later) shows a map with its class names and colors. Pure text, no QGIS needed."""

from __future__ import annotations

from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from mmovseg_geo.vocabulary import MapClass, Vocabulary

DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
VERSION = "3.22.0"
OUTLINE_WIDTH_MM = 0.1
OUTLINE_SHADE = 0.8
"""Outlines are the fill color, a little darker, so that maps of many small polygons keep their colors from afar."""


def raster_style(vocabulary: Vocabulary) -> str:
    """QML of a label raster: one palette entry for each class; no-data is transparent.

    QGIS loads it by itself when it lies beside the raster under the same stem.
    """
    root = Element("qgis", version=VERSION, styleCategories="Symbology")
    pipe = SubElement(root, "pipe")
    provider = SubElement(pipe, "provider")
    # Class ids must not be averaged when the map is zoomed.
    nearest = {"zoomedInResamplingMethod": "nearestNeighbour", "zoomedOutResamplingMethod": "nearestNeighbour"}
    SubElement(provider, "resampling", {"enabled": "false", "maxOversampling": "2", **nearest})
    attributes = {"type": "paletted", "band": "1", "opacity": "1", "alphaBand": "-1", "nodataColor": ""}
    renderer = SubElement(pipe, "rasterrenderer", attributes)
    SubElement(renderer, "rasterTransparency")
    palette = SubElement(renderer, "colorPalette")
    for entry in vocabulary.classes:
        SubElement(palette, "paletteEntry", value=str(entry.id), color=entry.color, label=entry.name, alpha="255")
    SubElement(root, "blendMode").text = "0"
    return _text(root)


def polygon_style(vocabulary: Vocabulary) -> str:
    """QML of the polygons: categories of `class_id`, named and filled as the classes, with a thin outline."""
    root = Element("qgis", version=VERSION, styleCategories="Symbology")
    attributes = {"type": "categorizedSymbol", "attr": "class_id", "symbollevels": "0", "enableorderby": "0"}
    renderer = SubElement(root, "renderer-v2", attributes)
    categories, symbols = SubElement(renderer, "categories"), SubElement(renderer, "symbols")
    for index, entry in enumerate(vocabulary.classes):
        SubElement(
            categories, "category", symbol=str(index), value=str(entry.id), type="long", label=entry.name, render="true"
        )
        symbols.append(_fill(entry, str(index)))
    SubElement(root, "blendMode").text = "0"
    SubElement(root, "featureBlendMode").text = "0"
    SubElement(root, "layerGeometryType").text = "2"
    return _text(root)


def layer_style_row(layer: str, geometry_column: str, qml: str, update_time: str) -> dict[str, str | int]:
    """Row of a GeoPackage's `layer_styles` table that makes QGIS load `qml` together with `layer`."""
    return {
        "f_table_catalog": "",
        "f_table_schema": "",
        "f_table_name": layer,
        "f_geometry_column": geometry_column,
        "styleName": "classes",
        "styleQML": qml,
        "styleSLD": "",
        "useAsDefault": 1,
        "description": "Classes of the map",
        "owner": "",
        "ui": "",
        "update_time": update_time,
    }


def _fill(entry: MapClass, name: str) -> Element:
    symbol = Element("symbol", name=name, type="fill", alpha="1", clip_to_extent="1", force_rhr="0")
    layer = SubElement(symbol, "layer", {"class": "SimpleFill", "enabled": "1", "locked": "0", "pass": "0"})
    options = SubElement(layer, "Option", type="Map")
    darker = tuple(round(value * OUTLINE_SHADE) for value in entry.rgb)
    properties = {
        "color": _rgba(entry.rgb),
        "style": "solid",
        "joinstyle": "bevel",
        "outline_color": _rgba(darker),
        "outline_style": "solid",
        "outline_width": str(OUTLINE_WIDTH_MM),
        "outline_width_unit": "MM",
    }
    for key, value in properties.items():
        SubElement(options, "Option", name=key, type="QString", value=value)
    return symbol


def _rgba(rgb: tuple[int, ...]) -> str:
    return ",".join(map(str, (*rgb, 255)))


def _text(root: Element) -> str:
    ElementTree.indent(root)
    return DOCTYPE + ElementTree.tostring(root, encoding="unicode") + "\n"
