"""Settings: values from text, from YAML and from options, and what cannot be meant."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path

import pytest

from mmovseg_geo.config import SegmentConfig, load_config
from mmovseg_geo.errors import ConfigError, VocabularyError
from mmovseg_geo.grid import Size
from mmovseg_geo.settings import READERS
from mmovseg_geo.tiles import Tiling

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def yaml(tmp_path):
    """Writes a settings file and reads it, with options in place of its values."""

    def loaded(text: str, **options) -> SegmentConfig:
        (tmp_path / "settings.yaml").write_text(text)
        return load_config(tmp_path / "settings.yaml", SegmentConfig, options)

    return loaded


def test_every_setting_has_a_reader():
    assert {entry.name for entry in fields(SegmentConfig)} == set(READERS)


def test_defaults_need_no_file():
    assert load_config(None, SegmentConfig) == SegmentConfig()


def test_text_of_the_command_line_becomes_values():
    config = SegmentConfig(
        classes="water,building|house", bands="4,3,nir", bounds="1,2,3,4", simplify="1.5px", co=["COMPRESS=ZSTD"]
    )
    assert config.classes == (("water",), ("building", "house"))
    assert config.bands == (4, 3, "nir")
    assert config.bounds == (1.0, 2.0, 3.0, 4.0)
    assert config.simplify == Size(1.5, "px")
    assert config.co == {"COMPRESS": "ZSTD"}


@pytest.mark.parametrize(("text", "value"), [("0", 0.0), ("-9999", -9999.0), ("none", "none"), ("NONE", "none")])
def test_nodata_is_a_number_or_none(text, value):
    assert SegmentConfig(nodata=text).nodata == value


def test_nodata_may_be_nan():
    assert math.isnan(SegmentConfig(nodata="nan").nodata)


def test_an_option_wins_over_the_file_and_the_file_over_the_default(yaml):
    config = yaml("classes: [water, forest]\nbatch_size: 2\nmin_area: 12px\n", batch_size=3, polygons=None)
    assert (config.batch_size, config.min_area, config.polygons) == (3, Size(12, "px"), True)


def test_the_file_of_the_architecture_page_is_read(yaml):
    config = yaml(
        "segmenter: mmovseg-vitb16\nclasses: [water, [building, house, roof], forest]\n"
        "tiling: {size: 384, overlap: 128}\nbatch_size: 8\n"
    )
    assert config.model == "mmovseg-vitb16"
    assert config.classes == (("water",), ("building", "house", "roof"), ("forest",))
    assert config.tiling(Tiling()) == Tiling(384, 128, "linear")


def test_keys_may_be_spelled_as_options_are(yaml):
    assert yaml("optical-scale: reflectance\nbbox: [1, 2, 3, 4]\n").bounds == (1, 2, 3, 4)


def test_yaml_reads_off_as_false_and_it_is_understood(yaml):
    assert yaml("coregister: off\n").shift == (0, 0)


def test_a_shift_is_rows_and_columns():
    assert SegmentConfig(coregister="-2, 3.5").shift == (-2.0, 3.5)


def test_alignment_is_estimated_unless_told_otherwise():
    assert SegmentConfig().coregister == "auto"
    assert SegmentConfig(coregister="auto").shift == (0.0, 0.0)
    assert SegmentConfig(coregister="a/b_coregistration.json").shift == (0.0, 0.0)


def test_a_record_of_an_alignment_is_relative_to_the_file(yaml, tmp_path):
    (tmp_path / "pair_coregistration.json").touch()
    assert yaml("coregister: pair_coregistration.json\n").coregister == str(tmp_path / "pair_coregistration.json")
    assert yaml("coregister: auto\n").coregister == "auto"


def test_paths_are_relative_to_the_file(yaml, tmp_path):
    (tmp_path / "mine.safetensors").touch()
    config = yaml("classes_file: words.txt\nmodel: mine.safetensors\n")
    assert config.classes_file == tmp_path / "words.txt"
    assert config.model == str(tmp_path / "mine.safetensors")


def test_classes_of_an_option_replace_the_classes_file_of_the_settings(yaml):
    config = yaml("classes_file: words.txt\n", classes="water,forest")
    assert config.classes_file is None
    assert config.vocabulary().names == ("water", "forest")


def test_an_empty_file_is_all_defaults(yaml):
    assert yaml("") == SegmentConfig()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("clases: [water]", "unknown key clases. Did you mean classes?"),
        ("segmentor: x", "Did you mean segmenter?"),
        ("tiling: {sise: 384}", "unknown key tiling.sise. Did you mean size?"),
        ("tiling: 384", "should be a mapping"),
        ("title: A set\nsplits: {}", "describes a set of labelled images, it holds no settings. Give it as --dataset"),
        ("model: a\nsegmenter: b", "twice"),
        ("- water", "top level is a list"),
        ("a: [1", "not valid YAML"),
        ("classes: [water]\ntiling: {size: 9, size: 8}", "line 2 on: 'size' is given twice"),
        ("batch_size: many", r"settings.yaml: batch-size 'many' is not a number"),
        ("polygons: maybe", "neither true nor false"),
        ("classes: 5", "not a list"),
        ("classes: [[water, {a: 1}]]", "is not a class"),
        ("blend: sharp", "Known: linear"),
        ("model: [a]", "model ['a'] is not text"),
        ("model_options: [factor]", "model-option 'factor' is not KEY=VALUE, such as factor=0.5"),
        ("model_options: 3", "model-option 3 is not KEY=VALUE"),
        ("co: 3", "such as COMPRESS=ZSTD"),
        ("classes_file: 3", "classes-file 3 is not a path"),
    ],
)
def test_a_wrong_file_is_explained(yaml, text, says):
    with pytest.raises(ConfigError, match=says.replace("[", r"\[")):
        yaml(text)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: No such file"):
        load_config(tmp_path / "nowhere.yaml", SegmentConfig)


@pytest.mark.parametrize(
    "values",
    [
        {"tile_size": 0},
        {"tile_size": 1.5},
        {"overlap": -1},
        {"min_score": 1.1},
        {"min_score": math.nan},
        {"bands": "1,,2"},
        {"bands": "0,1,2"},
        {"nodata": "black"},
        {"optical_scale": "bright"},
        {"sar_scale": "1,2,3"},
        {"bounds": (1, 2, 3)},
        {"bounds": (3, 2, 1, 4)},
        {"bounds": "1,2,inf,4"},
        {"bounds_crs": "EPSG:4326"},
        {"simplify": "-1px"},
        {"device": "cuda:one"},
        {"co": ["TILED"]},
        {"coregister": "shift.tif"},
        {"coregister": "1,2,3"},
        {"classes": "a,b", "classes_file": "words.txt"},
    ],
)
def test_what_cannot_be_meant_is_refused(values):
    with pytest.raises(ConfigError):
        SegmentConfig(**values)


def test_overlap_shrinks_with_the_tile():
    assert SegmentConfig(tile_size=64).tiling(Tiling(512, 64)) == Tiling(64, 8)


def test_an_overlap_as_large_as_the_tile_is_refused():
    with pytest.raises(ConfigError, match="Overlap 64"):
        SegmentConfig(tile_size=64, overlap=64).tiling(Tiling())


def test_without_classes_the_list_of_the_model_is_meant():
    assert SegmentConfig().vocabulary() is None


def test_a_single_class_gets_a_background_and_a_note():
    config = SegmentConfig(classes="water|lake")
    assert config.vocabulary().background is not None
    assert "'water' is the only class" in config.notes[0]


def test_a_background_that_was_asked_for_needs_no_note():
    assert SegmentConfig(classes="water", background=True).notes == []
    assert SegmentConfig(classes="water,background").notes == []
    assert SegmentConfig(classes="water,forest").notes == []


def test_a_single_class_of_a_file_gets_a_background(tmp_path):
    (tmp_path / "words.txt").write_text("water, lake\n")
    config = SegmentConfig(classes_file=tmp_path / "words.txt")
    assert len(config.vocabulary()) == 2
    assert len(config.notes) == 1
    (tmp_path / "words.txt").write_text("background\nwater, lake\n")
    assert len(config.vocabulary()) == 2
    assert config.notes == []


def test_wrong_words_are_found_when_the_vocabulary_is_made():
    with pytest.raises(VocabularyError, match="twice"):
        SegmentConfig(classes="water,water").vocabulary()


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "segment").glob("*.yaml")), ids=lambda path: path.name)
def test_settings_of_the_repository_are_good(path):
    config = load_config(path, SegmentConfig)
    assert config.vocabulary() is not None


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "segment").glob("*.csv")), ids=lambda path: path.name)
def test_class_lists_of_the_repository_are_good(path):
    assert len(SegmentConfig(classes_file=path).vocabulary()) > 1


def test_options_of_a_model_come_as_text_and_in_a_file(tmp_path):
    flags = SegmentConfig(model_options=["Factor=0.5", "long-edge=448"])
    path = tmp_path / "run.yaml"
    path.write_text("model_options: {factor: 0.5, long-edge: 448}\n")
    assert flags.model_options == {"factor": "0.5", "long_edge": "448"}
    assert load_config(path, SegmentConfig).model_options == flags.model_options
    with pytest.raises(ConfigError, match="model-option 'factor' is not KEY=VALUE"):
        SegmentConfig(model_options=["factor"])


def test_clouds_may_be_a_word_or_a_file_beside_the_yaml(tmp_path):
    (tmp_path / "mask.tif").touch()
    for text, meant in (("auto", "auto"), ("off", "off"), ("mask.tif", str(tmp_path / "mask.tif"))):
        (tmp_path / "a.yaml").write_text(f"clouds: {text}\n")
        assert load_config(tmp_path / "a.yaml", SegmentConfig).clouds == meant
