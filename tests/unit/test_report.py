"""The preview: which panels, which colors, which legend."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from affine import Affine
from PIL import Image

from mmovseg_geo.grid import Window
from mmovseg_geo.polygons import class_areas
from mmovseg_geo.report import CAPTION, HEAD, LEGEND, MARGIN, ROW, colored, composed, panel_side, write_preview
from mmovseg_geo.tiles import Tile
from mmovseg_geo.vocabulary import Vocabulary
from tests.label_maps import UTM, map_of


def width_of(panels):
    return MARGIN + panels * (panel_side(panels) + MARGIN) + LEGEND + MARGIN


def scene_of(optical=None, sar=None, affine=UTM):
    """A scene whose overview takes every n-th pixel, as the real one."""
    known = optical if optical is not None else sar
    shape = known.shape[1:]

    def tile(window, step=1):
        rows, columns = window.slices
        cut = (Ellipsis, slice(rows.start, rows.stop, step), slice(columns.start, columns.stop, step))
        pick = [None if bands is None else bands[cut].astype(np.float32) for bands in (optical, sar)]
        valid = [None if bands is None else bands.max(axis=0) > 0 for bands in pick]
        return Tile(window, pick[0], pick[1], valid[0], valid[1], 10.0 * step)

    def overview(longest):
        return tile(Window(0, 0, *shape), max(1, -(-max(shape) // longest)))

    grid = map_of(np.ones(shape), affine).grid
    return SimpleNamespace(name="scene", grid=grid, gsd_m=10.0, overview=overview, read=tile)


def blocks(size=8):
    labels = np.ones((size, size), int)
    labels[:, size // 2 :] = 2
    labels[size // 2 :, size // 2 :] = 255
    return labels


def gray(shape=(8, 8), bands=3, low=40, high=200):
    return np.linspace(low, high, bands * shape[0] * shape[1]).reshape(bands, *shape)


def preview(tmp_path, scene, raster, **options):
    path = write_preview(tmp_path / "preview.png", scene, raster, areas=class_areas(raster), **options)
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def panel(sheet, number, count=2):
    side = panel_side(count)
    left = MARGIN + number * (side + MARGIN)
    return sheet[HEAD + CAPTION : HEAD + CAPTION + side, left : left + side]


def test_optical_sar_map_and_legend_stand_side_by_side(tmp_path):
    sheet = preview(tmp_path, scene_of(gray(), gray(bands=2)), map_of(blocks()))
    assert sheet.shape == (HEAD + CAPTION + panel_side(3) + MARGIN, width_of(3), 3)
    water, forest, _ = map_of(blocks()).vocabulary.classes
    shown = panel(sheet, 2, 3)
    assert tuple(shown[100, 100]) == water.rgb
    assert tuple(shown[100, 500]) == forest.rgb
    assert panel(sheet, 1, 3)[0, 0].tolist() < panel(sheet, 1, 3)[-1, -1].tolist()


@pytest.mark.parametrize("sensors", [{"optical": gray()}, {"sar": gray(bands=1)}])
def test_an_absent_sensor_has_no_panel(tmp_path, sensors):
    sheet = preview(tmp_path, scene_of(**sensors), map_of(blocks()))
    assert sheet.shape[1] == width_of(2)


def test_nodata_is_a_light_checker(tmp_path):
    optical = gray()
    optical[:, :4, :4] = 0
    sheet = preview(tmp_path, scene_of(optical), map_of(blocks()))
    for shown in (panel(sheet, 0)[100, 100], panel(sheet, 1)[700, 700]):
        assert set(shown.tolist()) <= {222, 240}


def test_south_up_scenes_are_shown_north_up(tmp_path):
    labels = np.array([[1, 1], [2, 2]])
    affine = Affine(10, 0, 500_000, 0, 10, 5_000_000)
    sheet = preview(tmp_path, scene_of(gray((2, 2)), affine=affine), map_of(labels, affine))
    assert tuple(panel(sheet, 1)[10, 10]) == map_of(labels).vocabulary.classes[1].rgb


def test_the_map_keeps_its_colors_whatever_the_scale(tmp_path):
    labels = np.random.default_rng(1).integers(1, 4, (1500, 900))
    sheet = preview(tmp_path, scene_of(gray((1500, 900))), map_of(labels))
    left = MARGIN + 540 + MARGIN
    shown = sheet[HEAD + CAPTION : HEAD + CAPTION + 900, left : left + 540]
    found = {tuple(color) for color in shown.reshape(-1, 3)}
    assert found == {entry.rgb for entry in map_of(labels).vocabulary.classes}


@pytest.mark.parametrize("length", [1000, 3000])
def test_panels_of_a_window_show_its_place(tmp_path, length):
    optical = np.full((3, length, length), 50.0)
    optical[:, length // 2 :] = 200
    window = Window(length // 4, 0, length // 2, length // 2)
    raster = map_of(np.ones(window.shape))
    shown = panel(preview(tmp_path, scene_of(optical), raster, window=window), 0)
    assert abs(int((shown[:, 300, 0] < 128).sum()) - panel_side(2) // 2) < 8


def test_an_even_scene_keeps_its_brightness(tmp_path):
    sheet = preview(tmp_path, scene_of(np.full((3, 8, 8), 180.0)), map_of(blocks()))
    assert set(panel(sheet, 0).ravel().tolist()) == {180}


def test_a_dark_scene_is_stretched(tmp_path):
    sheet = preview(tmp_path, scene_of(gray(low=5, high=60)), map_of(blocks()))
    assert panel(sheet, 0).max() > 240


def test_equal_maps_give_equal_previews(tmp_path):
    scene, raster = scene_of(gray(), gray(bands=2)), map_of(blocks())
    first = write_preview(tmp_path / "first.png", scene, raster, areas=class_areas(raster))
    second = write_preview(tmp_path / "second.png", scene, raster, areas=class_areas(raster))
    assert first.read_bytes() == second.read_bytes()


def test_more_classes_than_fit_are_counted():
    legend = [(f"class {number}", (10, 20, 30), "1.0 %") for number in range(60)]
    panels = [("map", np.full((4, 4, 3), 200, np.uint8))]
    sheet = np.asarray(composed(panels, legend, title="many", note=""))
    assert sheet.shape[0] == HEAD + CAPTION + panel_side(1) + MARGIN
    inside = (sheet[:, MARGIN + panel_side(1) + MARGIN + 5] == (10, 20, 30)).all(axis=1)
    swatches = np.count_nonzero(inside[1:] & ~inside[:-1])
    assert swatches == panel_side(1) // ROW - 1


def test_a_scene_without_valid_pixels_is_all_checker(tmp_path):
    sheet = preview(tmp_path, scene_of(np.zeros((3, 8, 8))), map_of(np.full((8, 8), 255)))
    assert set(panel(sheet, 0).ravel().tolist()) <= set(range(222, 241))


def test_labels_beyond_a_byte_are_colored():
    words = Vocabulary.from_entries([{"id": 700, "name": "water", "color": "#010203"}])
    assert colored(np.array([[700]], np.uint16), words).tolist() == [[[1, 2, 3]]]
