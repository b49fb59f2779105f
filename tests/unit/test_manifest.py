"""Which scenes a batch has: tables and folders, and every way they can be wrong."""

from __future__ import annotations

import pytest

from mmovseg_geo.errors import ConfigError
from mmovseg_geo.manifest import pair_files, read_manifest


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Makes empty files in the current folder."""
    monkeypatch.chdir(tmp_path)

    def made(*names: str) -> None:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()

    return made


@pytest.fixture
def table(files, tmp_path):
    def written(text: str, name: str = "scenes.csv"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return read_manifest(tmp_path / name)

    return written


def pairs(scenes) -> list[tuple[str, str | None]]:
    """Names of the files of each scene, without folders."""
    return [tuple(path and path.rpartition("/")[2] for path in (scene.optical, scene.sar)) for scene in scenes]


def test_a_table_lists_scenes_with_and_without_sar(files, table):
    files("a.tif", "a_sar.tif", "b.tif")
    scenes = table("optical,sar\na.tif,a_sar.tif\nb.tif,\n")
    assert pairs(scenes) == [("a.tif", "a_sar.tif"), ("b.tif", None)]
    assert [scene.folder for scene in scenes] == ["a", "b"]


def test_a_scene_may_have_only_sar(files, table, tmp_path):
    files("s.tif")
    (scene,) = table("optical,sar\n,s.tif\n")
    assert (scene.optical, scene.first, scene.folder) == (None, str(tmp_path / "s.tif"), "s")


def test_paths_are_relative_to_the_table(files, tmp_path):
    files("data/a.tif", "data/sub/s.tif")
    (tmp_path / "data" / "scenes.csv").write_text("optical,sar\na.tif,sub/s.tif\n")
    (scene,) = read_manifest(tmp_path / "data" / "scenes.csv")
    assert scene.optical == str(tmp_path / "data" / "a.tif")
    assert scene.sar == str(tmp_path / "data" / "sub" / "s.tif")


def test_a_column_out_names_the_folder(files, table):
    files("a.tif", "b.tif")
    assert [scene.folder for scene in table("optical,sar,out\na.tif,,first\nb.tif,,\n")] == ["first", "b"]


def test_tables_of_spreadsheets_are_read(files, table):
    files("a.tif", "s.tif")
    assert pairs(table("\ufeffOptical;SAR;Date\na.tif;s.tif;2024\n\n")) == [("a.tif", "s.tif")]


def test_two_radar_files_stand_in_one_quoted_cell(files, table, tmp_path):
    files("a.tif", "vv.tif", "vh.tif")
    (scene,) = table('optical,sar\na.tif,"vv.tif,vh.tif"\n')
    assert scene.sar == f"{tmp_path / 'vv.tif'},{tmp_path / 'vh.tif'}"


def test_remote_files_are_not_looked_for(table):
    (scene,) = table("optical,sar\nhttps://example.org/a.tif?token=1,/vsicurl/https://example.org/s.tif\n")
    assert scene.optical == "https://example.org/a.tif?token=1"
    assert scene.folder == "a"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("image,radar\na.tif,b.tif\n", "no column optical and no sar"),
        ("optical\na.tif\n", "no column sar"),
        ("", "no column"),
        ("optical,sar\n", "lists no scenes"),
        ("optical,sar,out\n,,x\n", "line 2: no image file"),
        ("optical,sar\na.tif,b.tif,c.tif\n", "line 2: more cells"),
        ("optical,sar\na.tif,nowhere.tif\nlost.tif,\n", "2 files that cannot be found"),
        ("optical,sar\na.tif,b.tif\na.tif,b.tif\n", "twice"),
        ("optical,sar\na.tif,a.tif\n", "as the optical and the SAR file"),
        ("optical,sar,out\na.tif,,same\nb.tif,,Same\n", "share the output folder"),
    ],
)
def test_a_wrong_table_is_explained(files, table, text, says):
    files("a.tif", "b.tif")
    with pytest.raises(ConfigError, match=says):
        table(text)


def test_all_missing_files_are_named(files, table):
    with pytest.raises(ConfigError, match=r"one\.tif.*two\.tif"):
        table("optical,sar\none.tif,two.tif\n")


def test_a_table_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.csv"):
        read_manifest(tmp_path / "nowhere.csv")


def test_equal_stems_take_the_name_of_their_folder_in_front(files, table):
    files("north/rgb.tif", "south/rgb.tif", "other.tif")
    scenes = table("optical,sar\nnorth/rgb.tif,\nsouth/rgb.tif,\nother.tif,\n")
    assert [scene.folder for scene in scenes] == ["north_rgb", "south_rgb", "other"]


def test_stems_that_stay_equal_are_an_error(files, table):
    files("a/north/rgb.tif", "b/north/rgb.tif")
    with pytest.raises(ConfigError, match="column `out`"):
        table("optical,sar\na/north/rgb.tif,\nb/north/rgb.tif,\n")


def test_folders_are_paired_by_equal_names(files):
    files("optical/b.tif", "optical/a.tif", "sar/a.tif", "sar/b.tif", "sar/readme.txt")
    assert pairs(pair_files("optical", "sar")) == [("a.tif", "a.tif"), ("b.tif", "b.tif")]


def test_words_for_the_sensor_do_not_matter(files):
    files("o/scene-1_rgb.tif", "o/scene-2_S2.tif", "s/scene-1_sar.tif", "s/Scene-2_S1_VV.tif")
    assert pairs(pair_files("o", "s")) == [
        ("scene-1_rgb.tif", "scene-1_sar.tif"),
        ("scene-2_S2.tif", "Scene-2_S1_VV.tif"),
    ]


def test_patterns_over_folders_are_paired_by_the_folder(files):
    files("one/rgb.tif", "one/sar.tif", "two/rgb.tif", "two/sar.tif")
    scenes = pair_files("*/rgb.tif", "*/sar.tif")
    assert [scene.optical.split("/")[0] == scene.sar.split("/")[0] for scene in scenes] == [True, True]
    assert [scene.folder for scene in scenes] == ["one_rgb", "two_rgb"]


def test_a_folder_of_optical_images_alone_is_a_batch(files):
    files("o/a.tif", "o/b.tif", "o/.hidden.tif")
    assert pairs(pair_files("o", None)) == [("a.tif", None), ("b.tif", None)]


def test_files_without_a_partner_are_listed(files):
    files("o/a.tif", "o/b.tif", "s/a.tif", "s/c.tif")
    with pytest.raises(ConfigError, match=r"no partner for o/b\.tif, s/c\.tif"):
        pair_files("o", "s")


def test_files_with_two_partners_are_listed(files):
    files("o/a_rgb.tif", "s/a_vv.tif", "s/a_vh.tif")
    with pytest.raises(ConfigError, match="more than one partner"):
        pair_files("o", "s")


@pytest.mark.parametrize("place", ["nowhere", "empty", "*.jp2"])
def test_places_without_images_are_named(files, tmp_path, place):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="quoted pattern"):
        pair_files(place, None)


def test_one_folder_cannot_hold_both(files):
    files("o/a.tif")
    with pytest.raises(ConfigError, match="both hold"):
        pair_files("o", "o")
