"""Input that cannot become a map: each ends in one clear message before any work, and leaves nothing behind."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from rasterio.control import GroundControlPoint

WORDS = ("--classes", "dark,bright")
FAR = Affine(10, 0, 700000, 0, -10, 5000000)


def test_a_missing_file_is_named(scene, refused):
    assert "nowhere.tif: no such file" in refused("segment", "nowhere.tif", *WORDS)
    assert "nowhere.tif: no such file" in refused("segment", scene[0], "nowhere.tif", *WORDS)


def test_a_file_that_is_no_raster_is_named(here, refused):
    (here / "notes.tif").write_text("water, forest\n")
    assert "notes.tif" in refused("segment", "notes.tif", *WORDS)


def test_a_cut_off_file_is_named(scene, refused):
    whole = scene[0].read_bytes()
    scene[0].write_bytes(whole[: len(whole) // 2])
    assert "s2.tif" in refused("segment", *scene, *WORDS)


def test_a_folder_is_no_image(here, refused):
    (here / "scene").mkdir()
    assert "scene is a folder" in refused("segment", "scene", *WORDS)


@pytest.mark.parametrize("out", ["s3://bucket/maps", "/vsis3/bucket/maps", "https://host/maps"])
def test_maps_are_written_to_folders(scene, here, refused, out):
    (here / "scenes.csv").write_text("optical,sar\ns2.tif,s1.tif\n")
    assert "no folder of this computer" in refused("segment", *scene, *WORDS, "-o", out)
    assert "no folder of this computer" in refused("batch", "scenes.csv", *WORDS, "-o", out)


def test_without_a_crs_the_pixel_grid_is_advised(write, pixels, refused):
    write("plain.tif", pixels["optical"], crs=None, transform=Affine.identity())
    message = refused("segment", "plain.tif", *WORDS)
    assert "plain.tif" in message
    assert "--pixel-grid" in message


def test_a_crs_without_a_transform_places_nothing(scene, write, pixels, refused):
    write("plain.tif", pixels["sar"], transform=Affine.identity())
    assert "plain.tif has no transform" in refused("segment", scene[0], "plain.tif", *WORDS)


@pytest.mark.parametrize("driver", ["PNG", "JPEG"])
def test_pictures_without_a_place_need_the_pixel_grid(write, pixels, refused, run, driver):
    name = f"picture.{driver.lower()}"
    write(name, pixels["optical"], driver=driver, crs=None, transform=None)
    assert "--pixel-grid" in refused("segment", name, *WORDS)
    assert run("segment", name, *WORDS, "--pixel-grid").exit_code == 0


def test_pixel_grids_of_other_sizes_are_refused(write, pixels, refused):
    write("a.png", pixels["optical"], driver="PNG", crs=None, transform=None)
    write("b.png", pixels["optical"][:1, :50], driver="PNG", crs=None, transform=None)
    assert "64 x 64" in refused("segment", "a.png", "b.png", *WORDS, "--pixel-grid")


def test_files_of_different_places_say_where_they_lie(scene, write, pixels, refused):
    write("away.tif", pixels["sar"], transform=FAR)
    message = refused("segment", scene[0], "away.tif", *WORDS)
    assert "do not overlap" in message
    assert "700000" in message
    assert "500000" in message


def test_control_points_alone_are_refused_with_advice(write, pixels, refused, run):
    corners = [(0, 0), (0, 64), (64, 0), (64, 64), (30, 40)]
    points = [GroundControlPoint(row, col, 500000 + 10 * col, 5000000 - 10 * row) for row, col in corners]
    write("swath.tif", pixels["optical"], gcps=points, transform=None)
    message = refused("segment", "swath.tif", *WORDS)
    assert "terrain-corrected" in message
    assert "--gcps tps" in message


def test_a_swath_with_control_points_is_warped_when_asked(scene, write, pixels, run):
    corners = [(0, 0), (0, 64), (64, 0), (64, 64), (30, 40)]
    points = [GroundControlPoint(row, col, 500000 + 10 * col, 5000000 - 10 * row) for row, col in corners]
    write("swath.tif", pixels["sar"], gcps=points, transform=None)
    assert run("segment", scene[0], "swath.tif", *WORDS, "--gcps", "tps").exit_code == 0


def test_complex_radar_is_refused_with_advice(scene, write, refused):
    write("slc.tif", np.ones((1, 64, 64), np.complex64))
    message = refused("segment", scene[0], "slc.tif", *WORDS)
    assert "slc.tif holds complex values" in message


def test_an_image_without_any_data_is_refused(write, refused):
    write("empty.tif", np.zeros((3, 64, 64), np.uint8), nodata=0)
    assert "empty.tif holds no data" in refused("segment", "empty.tif", *WORDS)


def test_a_radar_image_without_any_data_is_refused(scene, write, refused):
    write("empty.tif", np.full((2, 64, 64), np.nan, np.float32), nodata=np.nan)
    assert "empty.tif holds no data" in refused("segment", scene[0], "empty.tif", *WORDS)


@pytest.mark.parametrize("bands", ["4,3,2", "red,green,infrared"])
def test_a_band_that_is_not_there_is_named_with_those_that_are(scene, refused, bands):
    message = refused("segment", *scene, *WORDS, "--bands", bands)
    assert "s2.tif has no band" in message


def test_a_radar_band_that_is_not_there_is_named(scene, refused):
    assert "s1.tif has no band 3" in refused("segment", *scene, *WORDS, "--sar-bands", "3")


def test_one_band_is_no_color_image(write, pixels, refused):
    write("gray.tif", pixels["optical"][:1])
    message = refused("segment", "gray.tif", *WORDS)
    assert "gray.tif has 1 band" in message
    assert "--bands 1,1,1" in message


def test_one_file_cannot_be_both_images(scene, refused):
    assert "given twice" in refused("segment", scene[0], scene[0], *WORDS)


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        ("", "No classes"),
        ("water,,forest", "empty"),
        ("water,building|", "empty"),
        ("water,Water", "twice"),
        ("water,building|water", "twice"),
        ("water," + "x" * 101, "101 characters"),
        ("background", "no class to look for"),
    ],
)
def test_classes_that_cannot_be_meant_are_explained(scene, refused, classes, says):
    assert says in refused("segment", *scene, "--classes", classes)


def test_more_classes_than_labels_are_refused(here, scene, refused):
    (here / "many.txt").write_text("\n".join(f"thing {number}" for number in range(65600)))
    assert "16-bit" in refused("segment", *scene, "--classes-file", "many.txt")


def test_a_classes_file_that_is_not_there_is_named(scene, refused):
    assert "nowhere.yaml" in refused("segment", *scene, "--classes-file", "nowhere.yaml")


def test_classes_come_from_one_place(here, scene, refused):
    (here / "classes.txt").write_text("water\nforest\n")
    assert "not both" in refused("segment", *scene, *WORDS, "--classes-file", "classes.txt")


def test_an_unknown_model_is_named_with_the_nearest(scene, refused):
    assert "Did you mean threshold?" in refused("segment", *scene, *WORDS, "--model", "treshold")


def test_a_weights_file_that_is_not_there_is_named(scene, refused):
    assert "mine.safetensors" in refused("segment", *scene, *WORDS, "--model", "mine.safetensors")


def test_damaged_weights_are_named(here, scene, refused):
    (here / "mine.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0not weights")
    assert "mine.safetensors" in refused("segment", *scene, *WORDS, "--model", "mine.safetensors")


def test_an_existing_output_is_kept_before_any_work(scene, run, refused):
    assert run("segment", *scene, *WORDS).exit_code == 0
    message = refused("segment", *scene, *WORDS)
    assert "s2_mmovseg" in message
    assert "--overwrite" in message
    assert run("segment", *scene, *WORDS, "--overwrite").exit_code == 0


@pytest.mark.parametrize("out", ["/dev/full/maps", "s1.tif", "s1.tif/maps"])
def test_a_place_that_cannot_be_written_is_named(scene, refused, out):
    message = refused("segment", *scene, *WORDS, "--out", out)
    assert out.split("/maps")[0] in message


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--tile-size", "0", "tile-size 0"),
        ("--overlap", "512", "Overlap 512"),
        ("--batch-size", "0", "batch-size 0"),
        ("--min-score", "2", "between 0 and 1"),
        ("--nodata", "black", "not a number"),
        ("--bounds", "1,2,3", "xmin,ymin,xmax,ymax"),
        ("--bounds", "5,5,1,1", "empty"),
        ("--bounds", "0,0,10,10", "bounds"),
        ("--bounds-crs", "EPSG:4326", "--bounds"),
        ("--optical-scale", "reflectnce", "Did you mean reflectance?"),
        ("--sar-scale", "5,1", "smaller first"),
        ("--coregister", "nowhere.json", "nowhere.json: cannot be read"),
        ("--coregister", "left", "rows,cols"),
        ("--simplify", "much", "not a size"),
        ("--device", "gpu", "Give auto, cpu"),
        ("--co", "TILED", "KEY=VALUE"),
    ],
)
def test_options_that_cannot_be_meant_are_explained(scene, refused, option, value, says):
    assert says in refused("segment", *scene, *WORDS, option, value)


def test_bounds_in_an_unknown_crs_are_refused(scene, refused):
    assert "nonsense" in refused("segment", *scene, *WORDS, "--bounds", "1,2,3,4", "--bounds-crs", "nonsense")


def test_what_gdal_warns_of_is_said_once(scene, run):
    """GDAL only warns of a creation option it does not know, and writes without it."""
    result = run("segment", *scene, *WORDS, "--co", "COMPRESS=NONSENSE")
    assert result.exit_code == 0
    assert result.stderr.count("COMPRESS=NONSENSE value not recognised") == 1


def test_a_layer_option_that_gdal_does_not_know_is_said(scene, run):
    result = run("segment", *scene, *WORDS, "--lco", "NONSENSE=1")
    assert result.exit_code == 0
    assert "NONSENSE" in result.stderr


def test_unknown_options_and_words_are_wrong_usage(scene, refused):
    assert "--clases" in refused("segment", *scene, "--clases", "water", code=2)
    refused("segment", code=2)
    refused("segment", *scene, *WORDS, "--blend", "sharp", code=2)


def test_palette_images_are_expanded_with_a_warning(here, write, run):
    write("map.tif", np.eye(64, dtype=np.uint8)[None])
    import rasterio

    with rasterio.open("map.tif", "r+") as dataset:
        dataset.write_colormap(1, {0: (20, 90, 20, 255), 1: (200, 210, 220, 255)})
    result = run("segment", "map.tif", *WORDS)
    assert result.exit_code == 0, result.output
    assert "palette" in result.stderr
