"""Maps and labels paired by name, values read by the names of classes, published numbers beside, tables as text."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from mmovseg_geo.config import EvalConfig
from mmovseg_geo.datasets import read_dataset
from mmovseg_geo.datasets.images import LabelledImages
from mmovseg_geo.errors import ConfigError, OutputError, SceneError, VocabularyError
from mmovseg_geo.evaluation.classes import meaning, require_countable
from mmovseg_geo.evaluation.confusion import Groups
from mmovseg_geo.evaluation.outputs import as_json, staged
from mmovseg_geo.evaluation.pairs import paired
from mmovseg_geo.evaluation.result import Evaluation, SceneTally
from mmovseg_geo.evaluation.run import published_method
from mmovseg_geo.evaluation.tables import (
    as_csv,
    as_markdown,
    as_text,
    class_table,
    footnotes,
    scene_table,
    single_table,
)
from mmovseg_geo.evaluation.tally import Tally, in_memory
from mmovseg_geo.published import published
from mmovseg_geo.vocabulary import Vocabulary
from tests.conftest import ROOT

DATASETS = ROOT / "configs" / "datasets"
ALL = np.ones((1, 4), bool)


@pytest.fixture
def files(tmp_path):
    """Makes empty files below maps/ and truth/; pairs them; returns map to truth, both relative."""

    def made(maps, truths):
        for folder, names in (("maps", maps), ("truth", truths)):
            for name in names:
                (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / folder / name).touch()
        pairs, notes = paired(tmp_path / "maps", tmp_path / "truth")
        return {
            pair.map.relative_to(tmp_path / "maps").as_posix(): pair.labels.relative_to(tmp_path / "truth").as_posix()
            for pair in pairs
        }, notes

    return made


@pytest.mark.parametrize(
    ("maps", "truths"),
    [
        (["a_labels.tif", "b_labels.tif"], ["a.tif", "b.tif"]),
        (["a_labels.tif", "b_labels.tif"], ["a_gt.png", "b_gt.png"]),
        (["a/a_labels.tif", "b/b_labels.tif"], ["a_mask.tif", "b_mask.tif"]),
        (["a_rgb_labels.tif", "b_rgb_labels.tif"], ["a_s2_labels.tif", "b_s2_labels.tif"]),
        (["a_mmovseg/rgb_labels.tif", "b_mmovseg/rgb_labels.tif"], ["a/labels.tif", "b/labels.tif"]),
        (["a.png", "b.png"], ["a.gpkg", "b.geojson"]),
    ],
)
def test_files_belong_together_by_name_or_folder(files, maps, truths):
    assert files(maps, truths) == (dict(zip(maps, truths, strict=True)), [])


def test_images_and_confidence_beside_are_neither_maps_nor_labels(files):
    found, _ = files(
        ["a_labels.tif", "a_confidence.tif", "a_preview.png"],
        ["a_rgb.tif", "a_labels.tif", "b_labels.tif", "b_rgb.tif"],
    )
    assert found == {"a_labels.tif": "a_labels.tif"}


def test_labels_left_over_are_told_and_a_map_left_over_is_refused(files):
    _, notes = files(["a_labels.tif"], ["a.tif", "b.tif", "c.tif"])
    assert notes == ["2 files of labels have no map and are not scored: b.tif, c.tif"]
    with pytest.raises(ConfigError, match=r"no labels for 1 of 2 maps of .*maps: z_labels\.tif"):
        files(["z_labels.tif"], [])


def test_files_that_cannot_be_told_apart_are_refused(files):
    with pytest.raises(ConfigError, match="several files of one name: a"):
        files(["x/a_labels.tif", "y/a_labels.tif"], ["a.tif", "b.tif"])


def test_one_file_of_labels_is_that_of_all_maps(tmp_path):
    for name in ("a_labels.tif", "b_labels.tif", "all.gpkg"):
        (tmp_path / name).touch()
    pairs, _ = paired(tmp_path, tmp_path / "all.gpkg")
    assert [(pair.name, pair.labels.name) for pair in pairs] == [("a", "all.gpkg"), ("b", "all.gpkg")]


def test_scenes_of_one_name_are_called_by_their_folder_too(tmp_path):
    for name in ("x/rgb_labels.tif", "y/rgb_labels.tif", "x/rgb_confidence.tif"):
        (tmp_path / "maps" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "maps" / name).touch()
    (tmp_path / "all.gpkg").touch()
    pairs, _ = paired(tmp_path / "maps", tmp_path / "all.gpkg")
    assert [pair.name for pair in pairs] == ["x_rgb", "y_rgb"]
    assert [pair.confidence is not None for pair in pairs] == [True, False]


def test_a_file_under_two_names_is_one_file(tmp_path):
    (tmp_path / "a_labels.tif").touch()
    (tmp_path / "truth.tif").symlink_to(tmp_path / "a_labels.tif")
    with pytest.raises(SceneError, match="was given as map and as labels"):
        paired(tmp_path / "a_labels.tif", tmp_path / "truth.tif")


def test_values_are_read_by_the_names_that_a_file_gives_them():
    classes = Vocabulary.from_entries([{"id": 1, "name": "lake", "synonyms": ["water"]}, {"id": 2, "name": "wood"}])
    own = Vocabulary.from_entries([{"id": 9, "name": "Wood"}, {"id": 3, "name": "Water"}, {"id": 4, "name": "rock"}])
    read = meaning("map.tif", classes, own)
    assert read.indices(np.array([[3, 9, 255, 3]]), ALL).tolist() == [[0, 1, 255, 0]]
    with pytest.raises(
        SceneError, match=r"map\.tif holds 4 \('rock'\) \(1 pixels\), which is no class .* 1 lake, 2 wood"
    ):
        read.indices(np.array([[3, 9, 4, 3]]), ALL)
    assert meaning("map.tif", classes, own, ["rock", 9]).indices(np.array([[3, 9, 4, 3]]), ALL).tolist() == [
        [0, 255, 255, 0]
    ]


def test_values_of_other_files_are_ids_and_255_may_be_one():
    classes = Vocabulary.from_entries([{"id": 255, "name": "water"}, {"id": 256, "name": "wood"}])
    read = meaning("truth.tif", classes, None)
    assert read.indices(np.array([[255, 256, 255, 256]], np.uint16), ALL).tolist() == [[0, 1, 0, 1]]
    assert read.indices(np.array([[255.0, 256, 255, np.nan]]), ALL & [True, True, True, False]).tolist() == [
        [0, 1, 0, 255]
    ]


def test_negative_values_are_named():
    with pytest.raises(SceneError, match="holds -1"):
        meaning("t.tif", Vocabulary.of("a"), None).indices(np.array([[1, -1, 1, 1]], np.int16), ALL)


def test_values_of_fields_are_names_words_or_ids():
    classes = Vocabulary.from_entries([{"id": 7, "name": "maize", "synonyms": ["corn"]}, {"id": 8, "name": "wheat"}])
    read = meaning("f.gpkg", classes, None, [3])
    assert [read.index_of(value) for value in ("Corn", " wheat ", 7, 8.0, "8", 3, 4, "rice")] == [
        0, 1, 0, 1, 1, 255, None, None,
    ]  # fmt: skip


def test_files_of_other_classes_and_lists_too_long_are_refused():
    with pytest.raises(VocabularyError, match="none of them is among cat"):
        meaning("map.tif", Vocabulary.of("cat"), Vocabulary.of("dog"))
    with pytest.raises(VocabularyError, match="256 classes were given; at most 254"):
        require_countable(Vocabulary.of([f"c{number}" for number in range(256)]))


@pytest.fixture
def found() -> Evaluation:
    """Two scenes of the classes of DDHR-SK: one right, in the other all roads are called city."""
    classes = read_dataset(DATASETS / "ddhr-sk.yaml").vocabulary()
    labels = np.repeat([0, 1, 2, 3], 5)[None].repeat(6, axis=0).astype(np.uint8)
    scenes = [
        SceneTally(name, Tally(classes.names).count(labels.shape, in_memory(labels), in_memory(said)))
        for name, said in (("one", labels), ("two", np.where(labels == 1, 0, labels).astype(np.uint8)))
    ]
    groups = Groups(("city", "forest", "farmland"), ("road", "water"))
    return Evaluation("a model", classes, scenes, groups, published=published("ddhr-sk", "mmovseg-vitb16"))


def test_published_numbers_stand_beside_ours(found):
    table = class_table(found)
    assert table.header[-1] == "published mmovseg-vitb16"
    beside = {row[0]: row[-1] for row in table.rows}
    assert beside == {"city": 0.868, "road": 0.212, "forest": 0.873, "water": 0.848, "farmland": 0.856}
    single = {row[0]: row for row in single_table(found).rows}
    assert single["mIoU, classes in the labels"][-1] == 0.731
    assert single["mIoU, classes in labels or maps"][-1] is None
    assert any("64.1 mIoU (SAR encoder not unified" in note for note in footnotes(found))
    assert "Not in the labels: farmland." in footnotes(found)


def test_text_and_markdown_show_hundredths_and_csv_keeps_shares(found):
    text = as_text(class_table(found))
    city = next(line for line in text if line.startswith("city"))
    assert city.split()[1] == "66.7"
    assert len({len(line) for line in text[:2]}) == 1
    assert next(line for line in as_markdown(class_table(found)) if line.startswith("| city | 66.7 |"))
    rows = list(csv.DictReader(io.StringIO(as_csv(class_table(found)))))
    assert float(rows[0]["IoU"]) == pytest.approx(2 / 3, abs=1e-6)
    assert rows[4]["IoU"] == ""
    assert next(line for line in text if line.startswith("farmland")).split()[1] == "-"


def test_scenes_have_a_line_each(found):
    assert [(row[0], row[1], row[3]) for row in scene_table(found).rows] == [("one", 120, 1.0), ("two", 120, 0.75)]


def test_json_holds_every_score_and_what_it_was_made_of(found):
    told = as_json([found])
    assert told["scores"]["harmonic"] == found.scores.harmonic
    assert told["classes"][1] == {
        "id": 1, "name": "road", "iou": 0.5, "precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3),
        "boundary_f1": pytest.approx(2 / 3), "iou_interval": (0.0, 1.0), "labelled_pixels": 60,
    }  # fmt: skip
    assert told["published"][0]["value"] == 73.1


@pytest.mark.parametrize(
    ("dataset", "model", "method"),
    [
        ("ddhr-sk", "mmovseg-vitb16-ddhr-sk", "mmovseg-vitb16"),
        ("ddhr-sk", "mmovseg-vitl14-ddhr-sk", "mmovseg-vitl14"),
        ("ddhr-sk", "mmovseg-vitb16", "mmovseg-vitb16"),
        ("ddhr-sk", "mmovseg-vitb16-pie", None),
        ("ddhr-sk", "threshold", None),
        ("loveda", "segearth-ov", "segearth-ov"),
    ],
)
def test_a_published_method_is_known_by_its_name_or_that_of_its_weights(dataset, model, method):
    config = read_dataset(DATASETS / f"{dataset}.yaml")
    images = LabelledImages(config, config.split(), ())
    assert published_method(images, EvalConfig(model=model)) == method


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "eval").glob("*.yaml")), ids=lambda path: path.stem)
def test_settings_of_the_papers_sets_run_as_published(path):
    from mmovseg_geo.config import load_config

    settings = load_config(path, EvalConfig)
    config = read_dataset(settings.dataset)
    method = published_method(LabelledImages(config, config.split(), ()), settings)
    assert method == "mmovseg-vitb16"
    assert published(config.name, method)
    assert f"--model {settings.model}" in path.read_text(encoding="utf-8").splitlines()[0]


def test_a_folder_appears_complete_or_not_at_all(tmp_path):
    out = tmp_path / "deep" / "scores"

    def attempt(fails):
        with staged(out, overwrite=False, xlsx=False) as folder:
            (folder / "report.md").write_text("all")
            assert not (out / "report.md").exists()
            if fails:
                raise SceneError("no")

    with pytest.raises(SceneError):
        attempt(True)
    assert list(tmp_path.iterdir()) == []
    attempt(False)
    assert [path.name for path in out.iterdir()] == ["report.md"]
    with pytest.raises(OutputError, match="--overwrite"):
        attempt(False)
    with (
        pytest.raises(OutputError, match="is a file"),
        staged(out / "report.md", overwrite=True, xlsx=False),
    ):
        pass
