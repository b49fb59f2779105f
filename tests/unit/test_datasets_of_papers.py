"""Three images of every set that a published method was scored on: found, paired, decoded, mapped and scored."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from mmovseg_cli.app import app
from typer.testing import CliRunner

from mmovseg_geo.datasets import open_dataset, read_dataset
from mmovseg_geo.datasets.methods import MMOVSegSettings, SegEarthSettings
from mmovseg_geo.errors import SceneError
from mmovseg_geo.evaluation import evaluate
from mmovseg_geo.models import load_segmenter
from mmovseg_geo.models.threshold import ThresholdSegmenter
from mmovseg_geo.rasters.labels import LabelRaster
from tests.conftest import ROOT
from tests.dataset_copies import BLOCK, COPIES, IGNORED, SETS, copy_of, save


def naive_iou(truths, shown, classes):
    """IoU of each class by its definition, over all images at once; None where it does not occur."""
    truth = np.concatenate([truths[name].ravel() for name in truths])
    said = np.concatenate([shown[name].ravel() for name in truths])[truth != IGNORED]
    truth = truth[truth != IGNORED]
    both = [int(((truth == k) & (said == k)).sum()) for k in range(classes)]
    either = [int(((truth == k) | (said == k)).sum()) for k in range(classes)]
    return [one / all_ if all_ else None for one, all_ in zip(both, either, strict=True)]


def with_mistakes(copy):
    """What the images show: their labels, but for the first blocks, which are another class (or background)."""
    shown = {}
    for number, name in enumerate(copy.ids):
        shown[name] = np.where(copy.draw(number) == IGNORED, 0, copy.draw(number))
        shown[name][: BLOCK * (number + 1), :BLOCK] = copy.classes - 1 if copy.background in (None, 0) else 0
    return shown


def run(copy, root, sensors=None):
    """The set read from its file, and its scores with the `threshold` model."""
    images = open_dataset(SETS[copy.dataset], root, copy.split)
    segmenter = load_segmenter("threshold", images.vocabulary())
    assert isinstance(segmenter, ThresholdSegmenter)
    if sensors:
        segmenter.sensors = frozenset(sensors)
    return images, evaluate(images, segmenter, min_score=None if copy.background is None else 0.75)


def test_every_file_has_a_copy_of_the_split_it_is_scored_on():
    assert {(name, read_dataset(path).evaluate) for name, path in SETS.items()} <= {
        (c.dataset, c.split) for c in COPIES
    }
    assert len(SETS) == 32


@pytest.mark.parametrize("copy", COPIES, ids=str)
def test_a_copy_of_the_published_layout_is_found_decoded_and_scored(copy, tmp_path):
    shown = with_mistakes(copy)
    truths = copy.write(tmp_path, shown=shown)
    images, scores = run(copy, tmp_path)
    assert sorted(image.id for image in images.images) == sorted(copy.ids)
    for image in images.images:
        for pattern, path in ((copy.optical, image.optical), (copy.sar, image.sar), (copy.labels, image.labels)):
            assert path == (None if pattern is None else tmp_path / pattern.format(image.id))
        assert np.array_equal(images.labels(image), truths[image.id])
    expected = naive_iou(truths, shown, copy.classes)
    assert list(scores.iou.values()) == pytest.approx(expected)
    assert scores.miou == pytest.approx(np.mean([value for value in expected if value is not None]))
    assert 0.3 < scores.miou < 1
    assert (scores.foreground is None) == (copy.classes > 2)


@pytest.mark.parametrize("copy", [copy for copy in COPIES if copy.optical and copy.sar], ids=str)
def test_sar_alone_gives_the_scores_of_the_sar_images(copy, tmp_path):
    truths = copy.write(tmp_path)
    black = np.zeros((*next(iter(truths.values())).shape, 3), np.uint8)
    for name in copy.ids:
        save(tmp_path / copy.optical.format(name), black)
    assert run(copy, tmp_path, ["sar"])[1].miou == 1
    assert run(copy, tmp_path, ["optical"])[1].miou < 0.3


def test_the_thin_cloud_images_are_also_found_without_val(tmp_path):
    copy = copy_of("oem-thin")
    moved = replace(
        copy,
        optical=copy.optical.replace("/val/", "/"),
        sar=copy.sar.replace("/val/", "/"),
        labels=copy.labels.replace("/val/", "/"),
    )
    moved.write(tmp_path)
    images, scores = run(moved, tmp_path)
    assert [image.optical.parent.name for image in images.images] == ["rgb_cloud_thin"] * 3
    assert scores.miou == 1


def test_validation_labels_in_place_of_training_labels_are_refused_by_name(tmp_path):
    """PIE keeps both under the folder name D2masks6."""
    copy = copy_of("pie-cloud")
    training = copy_of("pie-cloud", "train")
    replace(training, classes=copy.classes).write(tmp_path)
    images = open_dataset(SETS["pie-cloud"], tmp_path, "train")
    first = next(image for image in images.images if image.id == "tile_1")
    with pytest.raises(SceneError, match=r"tile_1\.png: the stored values 4, 5 stand for no class"):
        images.labels(first)


@pytest.mark.parametrize("dataset", ["isaid", "uavid", "potsdam"])
def test_labels_of_one_band_hold_the_values_that_colors_stand_for(dataset, tmp_path):
    copy = copy_of(dataset)
    plain = replace(copy, code="reduce_zero" if copy.code == "isprs" else "index")
    truths = plain.write(tmp_path)
    images = open_dataset(SETS[copy.dataset], tmp_path)
    for image in images.images:
        assert np.array_equal(images.labels(image), truths[image.id])


@pytest.mark.parametrize(("dataset", "count"), [("potsdam", 2016), ("vaihingen", 398), ("wbs-si", 499)])
def test_a_copy_of_another_size_than_published_says_so(dataset, count, tmp_path):
    copy_of(dataset).write(tmp_path)
    (note,) = open_dataset(SETS[dataset], tmp_path).notes
    assert note.startswith("3 images were found")
    assert str(count) in note


def test_classes_and_their_order_are_those_of_mm_ovseg():
    """The order of the two DDHR sets differs, and the spelling is that of the prompts."""
    assert read_dataset(SETS["ddhr-sk"]).vocabulary().names == ("city", "road", "forest", "water", "farmland")
    assert read_dataset(SETS["ddhr-ch"]).vocabulary().names == ("city", "road", "farmland", "forest", "water")
    assert read_dataset(SETS["pie-cloud"]).vocabulary(split="train").names == (
        "backbroad",
        "city",
        "forest",
        "farmland",
    )
    oem = read_dataset(SETS["oem-thick"])
    assert oem.seen == ("bareland", "rangeland", "developedspace", "tree", "agricultureland")
    assert oem.unseen == ("road", "water", "building")
    assert [entry.id for entry in oem.vocabulary(split="train").classes] == [0, 1, 2, 3, 4]
    assert read_dataset(SETS["ddhr-ch"]).unseen == ("road", "water")


@pytest.mark.parametrize(
    ("dataset", "file"),
    [
        ("pie-clean", "modelPIEclean.pth"),
        ("pie-cloud", "modelPIE.pth"),
        ("ddhr-sk", "modelDDSK.pth"),
        ("ddhr-ch", "modelDDCH.pth"),
        ("oem-thin", "modelOEMthin.pth"),
        ("oem-thick", "modelOEMthick.pth"),
    ],
)
def test_each_set_of_mm_ovseg_names_its_official_weights(dataset, file):
    config = read_dataset(SETS[dataset])
    for method, archive in (("mmovseg-vitb16", "B16.zip"), ("mmovseg-vitl14", "L14.zip")):
        settings = config.settings(method)
        assert isinstance(settings, MMOVSegSettings)
        assert settings.checkpoint == f"{archive}/{file}"
        assert (settings.tile, settings.sar_alignment, settings.prompt) == (
            384,
            "reference",
            "A photo of a {} in the scene",
        )


THRESHOLDS = {
    "openearthmap": 0.1, "loveda": 0.3, "isaid": 0.4, "potsdam": 0.1, "vaihingen": 0.1, "uavid": 0.3, "udd5": 0.4,
    "vdd": 0.3, "whu-aerial": 0.6, "whu-satellite2": 0.7, "inria": 0.6, "xbd": 0.0, "chn6-cug": 0.8,
    "deepglobe-road": 0.7, "massachusetts-road": 0.7, "spacenet-road": 0.7, "wbs-si": 0.6,
}  # fmt: skip
"""Optical sets of SegEarth-OV."""


@pytest.mark.parametrize(("dataset", "threshold"), THRESHOLDS.items())
def test_settings_of_segearth_on_optical_sets(dataset, threshold):
    config = read_dataset(SETS[dataset])
    background = {"potsdam": 5, "vaihingen": 5, "udd5": 4}.get(dataset, 0)
    expected = SegEarthSettings(threshold=threshold, background=background, bias=0.0 if dataset == "xbd" else -0.3)
    assert config.settings("segearth-ov") == expected
    assert replace(config.settings("segearth-ov2"), classes={}) == expected
    assert (expected.resize, expected.window, expected.stride, expected.scale) == (448, 224, 112, 50)


def test_the_second_version_of_segearth_has_other_words_for_two_sets():
    potsdam, vaihingen = (read_dataset(SETS[name]) for name in ("potsdam", "vaihingen"))
    assert potsdam.words("segearth-ov")[:3] == (("road", "parking lot"), ("building",), ("low vegetation",))
    assert potsdam.words("segearth-ov2") == (
        ("road",), ("building",), ("grass",), ("tree",), ("car",), ("clutter", "background"),
    )  # fmt: skip
    assert vaihingen.words("segearth-ov2")[0] == ("road",)
    assert vaihingen.words("segearth-ov")[0] == ("impervious surface",)


@pytest.mark.parametrize("dataset", [copy.dataset for copy in COPIES if copy.sar and not copy.optical])
def test_settings_of_segearth_on_sar_sets(dataset):
    config = read_dataset(SETS[dataset])
    (method,) = config.methods
    settings = config.settings(method)
    assert isinstance(settings, SegEarthSettings)
    whole = dataset not in ("openearthmap-sar", "fusar-map")
    assert settings.sensors == "sar"
    assert (settings.window, settings.stride) == ((None, None) if whole else (224, 112))
    assert settings.resize == (224 if whole and dataset != "hrsid" else 448)
    assert settings.threshold == {"yeseg-opt-sar": 0.3, "hrsid": 0.6}.get(dataset, 0.0)
    assert settings.background == (6 if dataset == "whu-opt-sar" else 0)
    if dataset == "hrsid":
        assert (method, settings.encoder, settings.attention, settings.last_n) == (
            "segearth-ov2", "clip-vitb16-openai", "segearth", 1,
        )  # fmt: skip
    else:
        assert (method, settings.encoder, settings.attention, settings.last_n) == (
            "segearth-ov2-sar", "alignearth-sar-vitb16", "sclip", 2,
        )  # fmt: skip


@pytest.mark.parametrize("dataset", ["loveda", "ddhr-sk", "whu-opt-sar"])
def test_the_command_in_the_first_line_maps_an_image_with_the_class_indices_of_the_set(dataset, tmp_path, monkeypatch):
    copy, path = copy_of(dataset), SETS[dataset]
    truths = copy.write(tmp_path)
    words = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# mmovseg ").split()
    one = copy.ids[0]
    files = {"image": copy.optical, "rgb": copy.optical, "sar": copy.sar}
    given = [
        str(tmp_path / files[word.partition(".")[0]].format(one)) if word.partition(".")[0] in files else word
        for word in words
    ]
    given[given.index("--model") + 1] = "threshold"
    given[given.index("--classes-file") + 1] = str(path)
    monkeypatch.chdir(tmp_path)
    extra = ["--min-score", "0.75"] if copy.background is not None else []
    result = CliRunner().invoke(app, [*given, "-o", "map", "--no-polygons", "--no-preview", *extra])
    assert result.exit_code == 0, result.output
    found = LabelRaster.open(next((tmp_path / "map").glob("*_labels.tif")))
    truth = truths[one]
    assert np.array_equal(found.read()[truth != IGNORED], truth[truth != IGNORED])
    assert found.vocabulary.names == read_dataset(path).vocabulary().names


def test_the_page_lists_every_set():
    page = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([\w-]+)\.yaml` \|", page, flags=re.MULTILINE)) == set(SETS)
    rows = dict(re.findall(r"^\| `([\w-]+)\.yaml` \| (.*?) \|", page, flags=re.MULTILINE))
    assert rows == {name: read_dataset(path).title for name, path in SETS.items()}


def blocks(kind: str) -> list[str]:
    page = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
    return re.findall(rf"```{kind}\n(.*?)```", page, flags=re.DOTALL)


def test_the_example_on_the_page_is_a_description(tmp_path):
    (tmp_path / "own.yaml").write_text(blocks("yaml")[0], encoding="utf-8")
    dataset = read_dataset(tmp_path / "own.yaml")
    assert dataset.vocabulary().names == ("city", "road")
    assert dataset.settings("segearth-ov").threshold == 0.3


def test_the_python_on_the_page_scores_a_set(tmp_path, monkeypatch, capsys):
    copy_of("ddhr-sk").write(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    code = blocks("python")[0].replace("configs/", f"{ROOT.as_posix()}/configs/")
    assert "mmovseg-compact" in code
    exec(code.replace("mmovseg-compact", "threshold"), {})
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "3"
    assert printed[1].startswith("1.0 {'city': 1.0")
    assert printed[2].startswith("[(73.1, '')")
