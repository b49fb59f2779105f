"""QGIS styles as text; `tests/qgis` shows them to a real QGIS."""

from __future__ import annotations

from xml.etree import ElementTree

from mmovseg_geo.qgis import layer_style_row, polygon_style, raster_style
from mmovseg_geo.vocabulary import Vocabulary

WORDS = Vocabulary.from_entries(
    [
        {"id": 0, "name": "background", "color": "#eeeeee"},
        {"id": 3, "name": 'sand & "gravel" <wet>', "color": "#ff8000"},
    ]
)


def test_the_raster_style_has_one_palette_entry_for_each_class():
    root = ElementTree.fromstring(raster_style(WORDS))
    entries = root.findall("pipe/rasterrenderer[@type='paletted']/colorPalette/paletteEntry")
    assert [(entry.get("value"), entry.get("color"), entry.get("label")) for entry in entries] == [
        ("0", "#eeeeee", "background"),
        ("3", "#ff8000", 'sand & "gravel" <wet>'),
    ]


def test_class_ids_are_not_averaged_when_qgis_zooms():
    resampling = ElementTree.fromstring(raster_style(WORDS)).find("pipe/provider/resampling")
    assert resampling is not None
    assert resampling.get("zoomedOutResamplingMethod") == "nearestNeighbour"


def test_the_polygon_style_has_a_category_and_a_symbol_for_each_class():
    renderer = ElementTree.fromstring(polygon_style(WORDS)).find("renderer-v2")
    assert renderer is not None
    assert renderer.get("attr") == "class_id"
    categories = [(entry.get("value"), entry.get("label"), entry.get("symbol")) for entry in renderer.iter("category")]
    assert categories == [("0", "background", "0"), ("3", 'sand & "gravel" <wet>', "1")]
    fills = [option.get("value") for option in renderer.iterfind(".//Option[@name='color']")]
    assert fills == ["238,238,238,255", "255,128,0,255"]


def test_outlines_are_darker_than_their_fill():
    outlines = ElementTree.fromstring(polygon_style(WORDS)).iterfind(".//Option[@name='outline_color']")
    assert [option.get("value") for option in outlines] == ["190,190,190,255", "204,102,0,255"]


def test_equal_vocabularies_give_equal_styles():
    assert raster_style(WORDS) == raster_style(Vocabulary.from_json(WORDS.to_json()))


def test_a_layer_style_is_the_default_of_its_layer():
    row = layer_style_row("labels", "geom", "<qgis/>", "2000-01-01T00:00:00.000Z")
    assert row["useAsDefault"] == 1
    assert (row["f_table_catalog"], row["f_table_schema"], row["f_table_name"]) == ("", "", "labels")
