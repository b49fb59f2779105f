"""The files of a set below a folder: which are found, which belong together, and what their labels say."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mmovseg_geo.datasets import open_dataset
from mmovseg_geo.datasets.codes import LabelCode
from mmovseg_geo.errors import ConfigError, SceneError

DESCRIPTION = """\
title: A set
classes: {0: dark, 1: bright}
splits:
  val:
    optical: rgb/{id}.png
    sar: sar/{id}.png
    labels: labels/{id}_gt.png
  listed:
    optical: rgb/{id}.png
    labels: labels/{id}_gt.png
    list: names.txt
  placed:
    optical: rgb/{id}.png
    labels: labels/{id}_gt.png
    places: [b, "7"]
evaluate: val
"""


@pytest.fixture
def root(tmp_path):
    """A set of three images a, b and c.1 of 8 x 8 pixels."""
    (tmp_path / "set.yaml").write_text(DESCRIPTION, encoding="utf-8")
    for folder in ("rgb", "sar", "labels"):
        (tmp_path / folder).mkdir()
    for name in ("a", "b", "c.1"):
        picture(tmp_path / f"rgb/{name}.png", np.full((8, 8, 3), 200))
        picture(tmp_path / f"sar/{name}.png", np.full((8, 8), 20))
        picture(tmp_path / f"labels/{name}_gt.png", np.eye(8))
    return tmp_path


def picture(path, pixels):
    Image.fromarray(np.asarray(pixels).astype(np.uint8)).save(path)


def opened(root, split=None, **options):
    return open_dataset(root / "set.yaml", root, split, **options)


def test_files_are_paired_by_what_stands_for_the_placeholder(root):
    images = opened(root).images
    assert [image.id for image in images] == ["a", "b", "c.1"]
    assert [path.name for path in (images[2].optical, images[2].sar, images[2].labels)] == [
        "c.1.png",
        "c.1.png",
        "c.1_gt.png",
    ]


def test_other_files_of_the_folders_are_left_alone(root):
    (root / "rgb" / ".a.png").touch()
    (root / "rgb" / "a.png.aux.xml").touch()
    (root / "labels" / "a.png").touch()
    (root / "labels" / "_gt.png").touch()
    (root / "rgb" / "more.png").mkdir()
    assert len(opened(root)) == 3


def test_pixels_of_both_sensors_come_out_as_they_are_stored(root):
    image = opened(root).images[0]
    with image.scene() as scene:
        assert scene.sensors == {"optical", "sar"}
        tile = scene.overview(8)
    assert np.unique(tile.optical).tolist() == [200]
    assert np.unique(tile.sar).tolist() == [20]
    with image.scene(["sar"]) as scene:
        assert scene.sensors == {"sar"}


def test_a_sensor_that_an_image_does_not_have_is_an_error(root):
    image = opened(root, "listed", listed=False).images[0]
    with pytest.raises(SceneError, match="belongs to no image of sar"):
        image.scene(["sar"])


def test_an_image_without_labels_is_named(root):
    (root / "labels" / "b_gt.png").unlink()
    with pytest.raises(ConfigError, match="no file of `labels` for 1 of 3 images: b"):
        opened(root)


def test_labels_without_an_image_are_named(root):
    picture(root / "labels" / "d_gt.png", np.eye(8))
    with pytest.raises(ConfigError, match="no file of `optical` for 1 of 4 images: d"):
        opened(root)


def test_two_files_for_one_image_are_refused(root):
    picture(root / "rgb" / "a.PNG", np.zeros((8, 8, 3)))
    with pytest.raises(ConfigError, match="both are the image 'a'"):
        opened(root)


def test_one_file_for_two_sensors_is_refused(root):
    """The official MM-OVSeg reads the optical image as SAR where it finds none."""
    text = DESCRIPTION.replace("sar: sar/{id}.png", "sar: rgb/{id}.png")
    (root / "set.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="one file stands for two of optical, sar, labels"):
        opened(root)


def test_a_folder_without_the_files_says_where_it_looked(root, tmp_path):
    with pytest.raises(ConfigError, match=r"no files of set for `optical`; looked for rgb/\*\.png") as caught:
        open_dataset(root / "set.yaml", root / "rgb")
    assert "Give the folder that holds rgb" in str(caught.value)
    with pytest.raises(ConfigError, match="is no folder; give the one that holds the files of A set"):
        open_dataset(root / "set.yaml", tmp_path / "absent")


def test_a_list_decides_which_images_there_are_and_in_which_order(root):
    (root / "names.txt").write_text("c.1\r\nimages\\a.png\r\n", encoding="utf-8")
    assert [image.id for image in opened(root, "listed").images] == ["c.1", "a"]
    assert len(opened(root, "listed", listed=False)) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "Cannot read the list of the images of set, .*names.txt: No such file.*\n.*listed=False"),
        ("a\nb\na.png\n", "lists a twice"),
        ("\n# nothing\n", "lists no image"),
        ("a\nz\n", "no file of `optical` for 1 of 2 images: z"),
    ],
)
def test_a_list_that_cannot_be_used_is_one_error(root, text, said):
    if text is not None:
        (root / "names.txt").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        opened(root, "listed")


def test_places_are_whole_first_parts_of_names(root):
    for name in ("b_1", "bb", "7-2", "70"):
        picture(root / f"rgb/{name}.png", np.zeros((8, 8, 3)))
        picture(root / f"labels/{name}_gt.png", np.eye(8))
    assert [image.id for image in opened(root, "placed").images] == ["7-2", "b", "b_1"]


def test_a_folder_without_an_image_of_the_places_is_an_error(root):
    for folder, tail in (("rgb", ""), ("labels", "_gt")):
        (root / folder / f"b{tail}.png").unlink()
    with pytest.raises(ConfigError, match="names should begin with one of: b, 7"):
        opened(root, "placed")


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (
            np.full((8, 8), 2),
            r"a_gt\.png: the stored value 2 stands for no class \(64 pixels\); 2 classes are stored as 0 to 1",
        ),
        (np.arange(64).reshape(8, 8), "the stored values 2, 3, 4, 5, 6, 7 and 56 more stand for no class"),
        (np.arange(192).reshape(8, 8, 3), "is a color picture, and its set says nothing of colors"),
    ],
)
def test_labels_that_stand_for_no_class_are_refused_by_file(root, pixels, said):
    picture(root / "labels" / "a_gt.png", pixels)
    images = opened(root)
    with pytest.raises(SceneError, match=said):
        images.labels(images.images[0])


def test_a_file_that_is_no_picture_is_refused_by_name(root):
    (root / "labels" / "a_gt.png").write_bytes(b"not a picture")
    images = opened(root)
    with pytest.raises(SceneError, match=r"a_gt\.png: cannot be read"):
        images.labels(images.images[0])


def indices(code: LabelCode, stored, count=3):
    return code.indices(np.asarray(stored), count, path="labels.tif").tolist()


def test_gray_pictures_of_three_bands_are_labels(tmp_path):
    assert indices(LabelCode(), np.full((3, 1, 2), [0, 255])) == [[0, 255]]


def test_values_are_shifted_after_colors_are_read():
    code = LabelCode(colors={0: ((0, 0, 0),), 1: ((9, 8, 7),), 2: ((1, 1, 1), (2, 2, 2))}, reduce_zero=True)
    picture = np.array([[0, 9, 1, 2], [0, 8, 1, 2], [0, 7, 1, 2]])[:, None]
    assert indices(code, picture, 2) == [[255, 0, 1, 1]]


def test_a_threshold_has_its_own_value_on_the_upper_side_and_knows_no_gaps():
    assert indices(LabelCode(at_least=128), [[[0, 127, 128, 255]]], 2) == [[0, 0, 1, 1]]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_white_of_a_picture_of_one_bit_is_class_1_whatever_the_threshold(root, suffix):
    """Image readers of the published programs make 255 of it, GDAL makes 1."""
    text = DESCRIPTION.replace("{id}_gt.png", "{id}_gt." + suffix)
    (root / "set.yaml").write_text(text + "labels: {at_least: 128}\n", encoding="utf-8")
    truth = np.eye(8, dtype=bool)
    for name in ("a", "b", "c.1"):
        Image.fromarray(truth).save(root / f"labels/{name}_gt.{suffix}")
    images = opened(root)
    assert np.array_equal(images.labels(images.images[0]), truth)


def test_the_message_counts_as_the_file_does():
    with pytest.raises(SceneError, match=r"the stored value 4 stands for no class .* stored as 1 to 3"):
        indices(LabelCode(reduce_zero=True), [[[0, 3, 4]]])


def test_a_color_that_stands_for_nothing_is_named():
    with pytest.raises(SceneError, match=r"labels.tif: the color #0a0b0c stands for no class \(1 pixels\)"):
        indices(LabelCode(colors={0: ((0, 0, 0),), 1: ((255, 255, 255),)}), [[[10]], [[11]], [[12]]])


def test_floats_are_labels_only_where_they_are_whole():
    assert indices(LabelCode(), np.array([[[0.0, 2.0]]])) == [[0, 2]]
    with pytest.raises(SceneError, match="holds fractions"):
        indices(LabelCode(), np.array([[[0.5]]]))
    with pytest.raises(SceneError, match="the stored value -1 stands for no class"):
        indices(LabelCode(), np.array([[[-1]]]))
