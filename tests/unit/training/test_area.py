"""Training on an area: which labels are learned from, what a crop holds, what is refused before any work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
import torch
from affine import Affine
from torch.utils.data import default_collate

from mmovseg_geo.config import EvalConfig
from mmovseg_geo.errors import ConfigError, MmovsegError, NoOverlap, SceneError
from mmovseg_geo.grid import Window
from mmovseg_geo.models.weights import bundled_weights
from mmovseg_geo.training.area.kept import Kept, read, reduced, reduced_labels
from mmovseg_geo.training.area.loss import labelled_loss
from mmovseg_geo.training.area.samples import HeldOutBlocks, TrainingCrops
from mmovseg_geo.training.area.scenes import open_scenes
from mmovseg_geo.training.area.settings import AreaConfig
from mmovseg_geo.training.area.split import hold_out, pixels_of, scanned
from mmovseg_geo.training.area.split_map import write_split_map
from mmovseg_geo.training.area.stage import AreaStage
from mmovseg_geo.training.concepts import FALSE, TRUE, UNASKED
from mmovseg_geo.training.loop_batches import Draw
from mmovseg_geo.vocabulary import Vocabulary

SIDE = 160
NORTH_UP = Affine(10, 0, 500000, 0, -10, 5000000)
WORDS = EvalConfig(classes="water,forest")


def write(path: Path, bands: np.ndarray, **profile: Any) -> Path:
    count, height, width = bands.shape
    options = {"driver": "GTiff", "dtype": bands.dtype, "crs": "EPSG:32633", "transform": NORTH_UP, **profile}
    with rasterio.open(path, "w", count=count, height=height, width=width, **options) as target:
        target.write(bands)
    return path


@pytest.fixture
def truth() -> np.ndarray:
    """Labels in squares of 20 pixels: 1 dark, 2 bright, 0 unlabelled in a corner."""
    rng = np.random.default_rng(4)
    labels = rng.integers(1, 3, (SIDE // 20, SIDE // 20)).astype(np.uint8).repeat(20, 0).repeat(20, 1)
    labels[:30, :50] = 0
    return labels


@pytest.fixture
def config(tmp_path: Path, truth: np.ndarray) -> AreaConfig:
    """A scene whose optical and SAR images are bright where the label is 2."""
    bright = np.where(truth == 2, 200, 40).astype(np.uint8)
    write(tmp_path / "s2.tif", np.stack([bright] * 3))
    write(tmp_path / "s1.tif", np.where(truth == 2, -4, -22).astype(np.float32)[None].repeat(2, 0))
    write(tmp_path / "labels.tif", truth[None], nodata=0)
    return AreaConfig(
        optical=(str(tmp_path / "s2.tif"),),
        sar=(str(tmp_path / "s1.tif"),),
        labels=(tmp_path / "labels.tif",),
        labelling=WORDS,
        block_size=20,
        crop=64,
        clouds=0,
        drop_optical=0,
        drop_sar=0,
    )


def prepared(config: AreaConfig) -> tuple[Any, Any, Any]:
    scenes, classes, every = scanned(*open_scenes(config), config)
    hold_out(every, classes, config)
    return scenes, classes, every


def test_whole_squares_are_held_out_in_the_wanted_share_of_each_class(config: AreaConfig) -> None:
    _, _, every = prepared(config)
    held, learned = pixels_of(every, held_out=True), pixels_of(every, held_out=False)
    assert (held + learned).tolist() == [int((every[0].counts[..., k]).sum()) for k in range(2)]
    assert np.abs(held / (held + learned) - 0.25).max() < 0.05
    # A square is held out as a whole: its counts stand on one side only.
    assert held.sum() % 1 == 0
    assert {window.shape for window in (every[0].window(*at) for at in every[0].listed(held_out=True))} == {(20, 20)}


def test_no_label_of_a_held_out_square_is_ever_learned(config: AreaConfig, truth: np.ndarray) -> None:
    scenes, _, every = prepared(config)
    forbidden = np.zeros(truth.shape, bool)
    for at in every[0].listed(held_out=True):
        forbidden[every[0].window(*at).slices] = True
    crops = TrainingCrops(scenes, every, config)
    rng = np.random.default_rng(0)
    known = 0
    for _ in range(60):
        _, window = crops.window(rng)
        labels = crops.kept.crop(0, window).labels
        assert not (labels[forbidden[window.slices]] != 255).any()
        expected = np.where(forbidden | (truth == 0), 255, truth.astype(int) - 1)[window.slices]
        assert (labels == expected).all()
        known += (labels != 255).sum()
    assert known > 0


def test_a_crop_turns_optical_sar_and_labels_alike(config: AreaConfig) -> None:
    scenes, _, every = prepared(config)
    crops = TrainingCrops(scenes, every, config)
    seen = set()
    for number in range(12):
        sample = crops[Draw(0, number)]
        labels = sample["labels"].numpy()
        for image in (sample["optical"][0], sample["sar"][0]):
            values = image.numpy()
            middle = (np.median(values[labels == 0]) + np.median(values[labels == 1])) / 2
            known = labels != 255
            # Speckle and averaging over three pixels blur edges; another geometry would agree by half.
            assert ((values > middle) == (labels == 1))[known].mean() > 0.85
        seen.add(labels.tobytes())
    assert len(seen) == 12


def test_a_crop_is_the_same_whenever_it_is_drawn(config: AreaConfig) -> None:
    scenes, _, every = prepared(config)
    crops = TrainingCrops(scenes, every, replace(config, clouds=0.5, drop_sar=0.3))
    first, again = crops[Draw(0, 17)], crops[Draw(3, 17)]
    assert first["id"] == again["id"]
    assert all((first[name] == again[name]).all() for name in ("optical", "sar", "labels", "gsd_m"))


def test_a_dropped_sensor_is_invalid_and_black(config: AreaConfig) -> None:
    scenes, _, every = prepared(config)
    sample = TrainingCrops(scenes, every, replace(config, drop_optical=1.0))[Draw(0, 1)]
    assert not sample["optical_valid"].any()
    assert not sample["optical"].any()
    assert sample["sar_valid"].all()
    assert (sample["labels"] != 255).any()


@pytest.mark.parametrize(("balance", "least", "most"), [(0.0, 0.0, 0.12), (1.0, 0.4, 0.6)])
def test_balance_draws_rare_classes_more_often(
    config: AreaConfig, tmp_path: Path, balance: float, least: float, most: float
) -> None:
    rare = np.full((1, SIDE, SIDE), 1, np.uint8)
    rare[0, ::40, ::40] = 2  # points: a pixel in every second square
    write(tmp_path / "points.tif", rare, nodata=0)
    scenes, _, every = prepared(replace(config, labels=(tmp_path / "points.tif",), balance=balance))
    crops = TrainingCrops(scenes, every, replace(config, balance=balance))
    assert least <= crops.class_shares[1] <= most
    rng = np.random.default_rng(1)
    drawn = [crops.window(rng)[1] for _ in range(20)]
    assert all(0 <= window.row <= SIDE - 64 and 0 <= window.col <= SIDE - 64 for window in drawn)


def test_a_crop_does_not_depend_on_what_was_read_before(config: AreaConfig) -> None:
    """Windows of any place, of squares that are kept, dropped and read again: as if averaged from the scene at once."""
    scenes, _, every = prepared(config)
    scenes = [replace(scenes[0], reduction=2)]
    kept = Kept(scenes, every, room=100_000)  # three of nine squares
    rng = np.random.default_rng(3)
    for _ in range(15):
        window = Window(*rng.integers(0, 80, 2).tolist(), *rng.integers(1, 80, 2).tolist())
        found = kept.crop(0, window)
        wide = Window(*(2 * side for side in (window.row, window.col, *window.shape)))
        labels = every[0].without_held_out(scenes[0].labels(wide), wide)
        expected = reduced(read(scenes[0], wide, labels), 2)
        for ours, theirs in zip(found.parts, expected.parts, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_scenes_are_never_read_whole(config: AreaConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    scenes, _, every = prepared(config)
    largest = 0
    read = type(scenes[0].scene).read

    def watched(self: Any, window: Window) -> Any:
        nonlocal largest
        largest = max(largest, window.height * window.width)
        return read(self, window)

    monkeypatch.setattr(type(scenes[0].scene), "read", watched)
    crops = TrainingCrops(scenes, every, config)
    for number in range(4):
        crops[Draw(0, number)]
    assert largest <= 64 * 128


def test_held_out_squares_are_shown_with_what_lies_around(config: AreaConfig, truth: np.ndarray) -> None:
    scenes, _, every = prepared(config)
    judged = HeldOutBlocks(scenes, every, config)
    assert len(judged) == len(every[0].listed(held_out=True))
    pixels = 0
    for index in range(len(judged)):
        sample = judged[Draw(index, index)]
        known = sample["labels"] != 255
        assert known.sum() <= 400
        assert min(sample["optical"].shape[1:]) > 60
        pixels += int(known.sum())
    assert pixels == pixels_of(every, held_out=True).sum()


def test_the_split_is_drawn(config: AreaConfig, tmp_path: Path) -> None:
    from PIL import Image

    scenes, _, every = prepared(config)
    (path,) = write_split_map(tmp_path, scenes, every)
    colors = {color for _, color in Image.open(path).getcolors(1 << 20)}
    assert {(255, 127, 14), (31, 119, 180)} <= colors


def shapes(path: Path, crops: list[str | None] | list[int], *, crs: str = "EPSG:32633", field: str = "crop") -> Path:
    """Stripes from west to east over the scene, one for each value, of a reprojected file where `crs` says so."""
    width = SIDE * 10 / len(crops)
    boxes = [
        shapely.box(500000 + i * width, 5000000 - SIDE * 10, 500000 + (i + 1) * width, 5000000)
        for i in range(len(crops))
    ]
    frame = geopandas.GeoDataFrame({field: crops}, geometry=boxes, crs="EPSG:32633").to_crs(crs)
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_file(path)
    return path


@pytest.mark.parametrize("name", ["parcels.gpkg", "parcels.geojson", "parcels.parquet"])
def test_shapes_of_any_crs_bring_their_own_words(config: AreaConfig, tmp_path: Path, name: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    path = shapes(tmp_path / name, ["wheat", None, "maize", "wheat"], crs="EPSG:4326")
    given = replace(config, labels=(path,), labelling=EvalConfig(class_field="crop"))
    scenes, classes, every = prepared(given)
    assert classes.names == ("maize", "wheat")
    labels = scenes[0].labels(Window(0, 0, SIDE, SIDE))
    assert (labels[:, 2:38] == 1).all()
    assert (labels[:, 42:78] == 255).all()
    assert (labels[:, 82:118] == 0).all()
    assert every[0].counts.sum() == pytest.approx(SIDE * SIDE * 3 / 4, rel=0.02)


def test_sparse_points_are_enough(config: AreaConfig, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    places = [shapely.Point(500005 + 10 * x, 4999995 - 10 * y) for x, y in rng.permutation(SIDE)[:60].reshape(30, 2)]
    frame = geopandas.GeoDataFrame({"kind": ["oak", "pine"] * 15}, geometry=places, crs="EPSG:32633")
    frame.to_file(tmp_path / "trees.gpkg")
    given = replace(config, labels=(tmp_path / "trees.gpkg",), labelling=EvalConfig(class_field="kind"))
    scenes, _, every = prepared(given)
    assert pixels_of(every, held_out=False).sum() + pixels_of(every, held_out=True).sum() == 30
    crops = TrainingCrops(scenes, every, given)
    stage = AreaStage(bundled_weights(), Vocabulary.of(["oak", "pine"])).train()
    for number in range(8):
        sample = crops[Draw(0, number)]
        assert (sample["labels"] != 255).any()
    assert float(stage(default_collate([sample])).detach()) > 0.01


def test_a_point_is_still_there_in_larger_pixels() -> None:
    labels = np.full((12, 12), 255, np.uint8)
    labels[3, 3], labels[7, 4], labels[7, 6] = 1, 2, 3
    assert reduced_labels(labels, 4).tolist() == [[1, 255, 255], [255, 3, 255], [255, 255, 255]]
    full = np.arange(144, dtype=np.uint8).reshape(12, 12)
    assert (reduced_labels(full, 3) == full[1::3, 1::3]).all()


def test_a_point_is_learned_from_as_the_only_pixel_of_its_cell() -> None:
    logits = torch.zeros(1, 2, 4, 4, requires_grad=True)
    truth = torch.full((1, 2, 16, 16), UNASKED)
    truth[0, :, 9, 2] = torch.tensor([TRUE, FALSE])
    loss = labelled_loss(logits, truth, dice=0.0)
    loss.backward()
    assert loss.item() == pytest.approx(np.log(2))
    assert [tuple(at) for at in logits.grad.nonzero().tolist()] == [(0, 0, 2, 0), (0, 1, 2, 0)]
    assert logits.grad[0, :, 2, 0].tolist() == pytest.approx([-0.25, 0.25])
    assert labelled_loss(logits, torch.full_like(truth, UNASKED), dice=0.5) == 0


def test_classes_of_a_file_that_lie_elsewhere_are_left_out(config: AreaConfig, tmp_path: Path) -> None:
    frame = geopandas.read_file(shapes(tmp_path / "a.gpkg", ["wheat", "maize"]))
    far = geopandas.GeoDataFrame({"crop": ["apple"]}, geometry=[shapely.box(0, 0, 10, 10)], crs=frame.crs)
    import pandas

    pandas.concat([frame, far]).to_file(tmp_path / "b.gpkg")
    given = replace(config, labels=(tmp_path / "b.gpkg",), labelling=EvalConfig(class_field="crop"))
    scenes, classes, every = prepared(given)
    assert classes.names == ("maize", "wheat")
    assert set(np.unique(scenes[0].labels(Window(0, 0, SIDE, SIDE)))) == {0, 1}
    assert every[0].counts.shape[-1] == 2


def refused(config: AreaConfig, kind: type[MmovsegError]) -> str:
    with pytest.raises(kind) as found:
        prepared(config)
    return str(found.value)


def test_a_value_beyond_the_classes_is_refused_with_its_file(config: AreaConfig, truth: np.ndarray) -> None:
    labels = truth.copy()
    labels[90, 90] = 7
    write(config.labels[0], labels[None], nodata=0)
    assert "labels.tif holds 7 (1 pixels)" in refused(config, SceneError)


def test_an_empty_class_is_refused(config: AreaConfig) -> None:
    said = refused(replace(config, labelling=EvalConfig(classes="water,forest,snow")), ConfigError)
    assert "labelled snow" in said


def test_a_class_without_anything_else_is_refused(config: AreaConfig, tmp_path: Path) -> None:
    path = tmp_path / "roofs.gpkg"
    geopandas.read_file(shapes(tmp_path / "all.gpkg", ["roof", "shed"])).iloc[:1].to_file(path)
    alone = replace(config, labels=(path,), labelling=EvalConfig(class_field="crop"))
    assert "--outside background" in refused(alone, ConfigError)
    _, classes, _ = prepared(replace(alone, labelling=EvalConfig(class_field="crop", outside="background")))
    assert classes.names == ("background", "roof")


def test_a_file_that_is_given_twice_is_refused(config: AreaConfig) -> None:
    twice = replace(config, optical=config.optical * 2, sar=config.sar * 2, labels=config.labels * 2)
    assert "s2.tif was given twice" in refused(twice, SceneError)
    assert "was given twice" in refused(replace(config, sar=config.optical), SceneError)
    assert "was given twice" in refused(replace(config, labels=(Path(config.optical[0]),)), SceneError)


def test_labels_of_another_place_are_refused(config: AreaConfig, tmp_path: Path, truth: np.ndarray) -> None:
    write(tmp_path / "far.tif", truth[None], transform=Affine(10, 0, 900000, 0, -10, 5000000))
    assert "do not overlap" in refused(replace(config, labels=(tmp_path / "far.tif",)), NoOverlap)


def test_numbers_are_no_words(config: AreaConfig, tmp_path: Path) -> None:
    path = shapes(tmp_path / "codes.gpkg", [3, 7])
    said = refused(replace(config, labels=(path,), labelling=EvalConfig(class_field="crop")), ConfigError)
    assert "--classes-file" in said


def test_labels_without_words_ask_for_classes(config: AreaConfig) -> None:
    assert "--classes-file" in refused(replace(config, labelling=EvalConfig()), ConfigError)


def test_labels_in_one_square_cannot_be_split(config: AreaConfig) -> None:
    assert "--held-out 0" in refused(replace(config, block_size=SIDE), ConfigError)
    _, _, every = prepared(replace(config, block_size=SIDE, held_out=0))
    assert not every[0].held_out.any()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"labels": ()}, "nothing to learn"),
        ({"optical": (), "sar": ()}, "no image"),
        ({"optical": ("a.tif", "b.tif")}, "2 optical and 1 SAR"),
        ({"labels": (Path("a.tif"), Path("b.tif"))}, "2 files of labels"),
        ({"held_out": 1.5}, "--held-out 1.5"),
        ({"crop": 100}, "--crop 100"),
        ({"steps": 0}, "--steps 0"),
        ({"precision": "int8"}, "--precision 'int8'"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(config: AreaConfig, values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        replace(config, **values)
