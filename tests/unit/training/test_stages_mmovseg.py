"""The stage that trains MM-OVSeg from labels, on networks a few channels wide: see `tests/parity` for its numbers."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from PIL import Image
from torch.utils.data import default_collate

from mmovseg_geo.errors import ConfigError, SceneError, WeightsError
from mmovseg_geo.grid import Window
from mmovseg_geo.models.mmovseg import named
from mmovseg_geo.models.mmovseg.build import build
from mmovseg_geo.rasters.scene import open_scene
from mmovseg_geo.training.loop_batches import Draw
from mmovseg_geo.training.stages.attention_rows import joined_state
from mmovseg_geo.training.stages.augment import Augmentation, Sample, cut, disturbed
from mmovseg_geo.training.stages.images import Data, Images, Labels, Pair, as_pairs, fingerprint, labelled, pairs
from mmovseg_geo.training.stages.mmovseg import SegmentationStage, Settings
from mmovseg_geo.training.stages.networks import NAMES, Begun, published_params
from mmovseg_geo.training.stages.recipe import STAGES, read_stage_recipe
from tests.unit.models.mmovseg.tiny import tiny_network, tiny_params
from tests.unit.training.labelled_images import NATIVE, recipe, write_images

NO_CHANGE = Augmentation(flip=0.0, color=0.0)


def stage(words: tuple[str, ...] = ("water", "city"), **settings: Any) -> SegmentationStage:
    found = SegmentationStage(Begun(tiny_network(), tiny_params(), named.VARIANT, {}), words, Settings(**settings))
    found.train()
    return found


def batch(count: int = 2) -> dict[str, Any]:
    torch.manual_seed(1)
    valid = torch.ones(count, NATIVE, NATIVE)
    return {
        "id": [str(i) for i in range(count)],
        "optical": torch.randint(0, 256, (count, 3, NATIVE, NATIVE)).float(),
        "sar": torch.randint(0, 256, (count, 1, NATIVE, NATIVE)).float(),
        "optical_valid": valid,
        "sar_valid": valid.clone(),
        "labels": torch.randint(0, 3, (count, NATIVE, NATIVE)) * 127 % 255,
    }


def test_keys_are_left_as_they_are_though_one_table_holds_them() -> None:
    found = stage()
    table = "optical.clip.visual.transformer.resblocks.0.attn.in_proj_weight"
    before = joined_state(found.network)[table].clone()
    optimizer = torch.optim.AdamW(found.groups(weight_decay=0.1), lr=0.1)
    found(batch()).backward()
    optimizer.step()
    query, key, value = (after != start for after, start in zip(
        joined_state(found.network)[table].chunk(3), before.chunk(3), strict=True
    ))  # fmt: skip
    assert query.any()
    assert value.any()
    assert not key.any()


def test_joined_again_the_state_is_that_of_the_network() -> None:
    state = tiny_network().state_dict()
    joined = joined_state(stage().network)
    assert set(joined) == set(state)
    assert all(torch.equal(joined[name], value) for name, value in state.items())


def test_groups_hold_each_parameter_once_and_decay_no_norms() -> None:
    found = stage(clip_rate=0.05)
    groups = found.groups(weight_decay=1e-3)
    listed = [id(value) for group in groups for value in group["params"]]
    assert sorted(listed) == sorted(map(id, found.trained().values()))
    assert {group["rate"] for group in groups} == {1.0, 0.05}
    names = {id(value): name for name, value in found.trained().items()}
    plain = [names[id(value)] for group in groups if not group["weight_decay"] for value in group["params"]]
    assert plain
    assert all("norm" in name for name in plain)
    assert not [name for name in names.values() if "norm" in name and name not in plain]


@pytest.mark.slow
def test_classes_are_told_apart_though_both_encoders_rest_at_random(tmp_path: Path) -> None:
    """Chance is ln 2; a network at random stays there for a hundred steps before it finds the way down."""
    images, found = labelled(write_images(tmp_path), "train"), stage(ignore="mask")
    samples = Images(as_pairs(images), NATIVE, augmentation=NO_CHANGE, labels=Labels(images.config.labels, 2))
    shown = default_collate([samples[Draw(index, index)] for index in range(2)])
    torch.manual_seed(0)
    apart = torch.nn.functional.normalize(torch.randn(2, 16), dim=-1)  # a text tower at random hardly tells words apart
    found.embedded = lambda words: apart  # type: ignore[method-assign, assignment]
    optimizer = torch.optim.AdamW(found.groups(weight_decay=1e-4), lr=3e-3)
    for _ in range(300):
        optimizer.zero_grad()
        loss = found(shown)
        if loss.item() < 0.2:
            break
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2


def test_a_sensor_that_is_not_there_still_teaches() -> None:
    found, whole = stage(), batch()
    for missing in ("optical", "sar"):
        part = {name: value for name, value in whole.items() if not name.startswith(missing)}
        assert found(part).isfinite()
    hidden = {**whole, "sar_valid": torch.zeros_like(whole["sar_valid"])}
    found(hidden).backward()
    assert all(value.grad is not None for value in found.trained().values())


def test_scores_come_from_one_confusion_matrix() -> None:
    found = stage(("water",))
    found.judged_words = ("water", "city", "forest")
    matrix = torch.tensor([[6.0, 2, 0], [1, 3, 0], [0, 0, 0]])
    scores = found.scores(matrix.flatten())
    assert scores["iou water"] == pytest.approx(6 / 9)
    assert scores["iou city"] == pytest.approx(3 / 6)
    assert "iou forest" not in scores
    assert scores["miou"] == pytest.approx((6 / 9 + 3 / 6) / 2)
    assert (scores["miou_seen"], scores["miou_unseen"]) == pytest.approx((6 / 9, 3 / 6))


def test_validation_counts_labelled_pixels_at_the_size_of_the_labels() -> None:
    found = stage()
    found.eval()
    one = batch(1)
    one["labels"] = torch.zeros(1, 50, 70, dtype=torch.long)
    one["labels"][:, :10] = 255
    matrix = found.sums(one).reshape(2, 2)
    assert matrix[0].sum() == 40 * 70
    assert matrix[1].sum() == 0


@pytest.mark.parametrize("variant", sorted(NAMES))
def test_a_variant_by_its_encoders_names_is_the_published_one(variant: str) -> None:
    clip, dino, size = NAMES[variant]
    published = published_params(variant)
    assert published is not None
    with torch.device("meta"):
        ours, theirs = build(named.named(clip, dino, size=size)), build(published)
    shapes = [{name: value.shape for name, value in network.state_dict().items()} for network in (ours, theirs)]
    assert shapes[0] == shapes[1]
    assert size == published.native_size


def mosaic(height: int, width: int) -> Sample:
    """One image in both sensors and the labels, so that they can be compared after any geometry."""
    rng = np.random.default_rng(0)
    blocks = torch.from_numpy(rng.integers(0, 200, (-(-height // 8), -(-width // 8)))).repeat_interleave(8, 0)
    gray = blocks.repeat_interleave(8, 1)[:height, :width]
    valid = torch.ones(height, width)
    return Sample(gray.float().expand(3, -1, -1).clone(), gray.float()[None], valid, valid.clone(), gray)


@pytest.mark.parametrize("shape", [(64, 64), (96, 160), (160, 64), (32, 32)])
def test_both_sensors_and_labels_keep_one_geometry(shape: tuple[int, int]) -> None:
    for number in range(8):
        rng = np.random.default_rng(number)
        found = cut(mosaic(*shape), 64, rng, Augmentation(flip=0.5, turns=True, color=0.0))
        assert found.optical is not None
        assert found.sar is not None
        assert found.labels is not None
        assert found.optical.shape == (3, 64, 64)
        torch.testing.assert_close(found.optical[:1], found.sar)
        inside = found.labels != 255
        off = (found.sar[0] - found.labels).abs()[inside]
        assert off.median() < 1  # apart at the edges of blocks, where one is averaged and the other is not


def test_images_are_mirrored_and_turned() -> None:
    sample, settings = mosaic(64, 64), Augmentation(flip=0.5, turns=True, color=0.0)
    seen = {cut(sample, 64, np.random.default_rng(number), settings).labels.numpy().tobytes() for number in range(60)}  # type: ignore[union-attr]
    assert len(seen) == 8


def test_color_is_for_optical_alone_and_speckle_for_sar_alone() -> None:
    sample, rng = mosaic(64, 64), np.random.default_rng(3)
    colored = disturbed(sample, rng, Augmentation(color=1.0))
    assert not torch.equal(colored.optical, sample.optical)  # type: ignore[arg-type]
    assert torch.equal(colored.sar, sample.sar)  # type: ignore[arg-type]
    noisy = disturbed(sample, rng, Augmentation(color=0.0, speckle=1.0, gain=1.0))
    assert torch.equal(noisy.optical, sample.optical)  # type: ignore[arg-type]
    assert not torch.equal(noisy.sar, sample.sar)  # type: ignore[arg-type]
    cloudy = disturbed(sample, rng, Augmentation(color=0.0, clouds=1.0))
    assert (cloudy.optical - sample.optical).abs().max() > 10  # type: ignore[operator]
    assert cloudy.optical.min() >= 0  # type: ignore[union-attr]
    assert cloudy.optical.max() <= 255  # type: ignore[union-attr]


def test_a_ratio_sees_the_speckle_of_both_polarizations_and_no_gain() -> None:
    sar = torch.full((3, 16, 16), 128.0)
    sample = replace(mosaic(16, 16), sar=sar)
    gained = disturbed(sample, np.random.default_rng(1), Augmentation(color=0.0, gain=1.0)).sar
    assert gained is not None
    assert torch.equal(gained[2], sar[2])
    assert not torch.equal(gained[0], sar[0])
    speckled = disturbed(sample, np.random.default_rng(1), Augmentation(color=0.0, speckle=1.0)).sar
    assert speckled is not None
    co_db, cross_db = (speckled[:2] - 128) * 25 / 255
    within = ((speckled > 0) & (speckled < 255)).all(0)
    assert within.float().mean() > 0.5
    torch.testing.assert_close((speckled[2] - 128)[within], (255 / 20 * (co_db - cross_db))[within], atol=1e-3, rtol=0)


def test_the_ratio_of_radar_is_learned_from_as_it_is_mapped(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    place = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500000, 0, -10, 5000000), "height": 64, "width": 64}
    pixels = {"s2": rng.integers(1, 255, (3, 64, 64)), "s1": rng.normal(-14, 3, (2, 64, 64))}
    pixels["gray"] = rng.integers(1, 255, (1, 64, 64))
    for name, bands in pixels.items():
        kind = "float32" if name == "s1" else "uint8"
        with rasterio.open(tmp_path / f"{name}.tif", "w", count=len(bands), dtype=kind, **place) as target:
            target.write(bands.astype(kind))
    pair = Pair("one", tmp_path / "s2.tif", tmp_path / "s1.tif")
    found = Images([pair], 64, sar_ratio=True)[Draw(0, 0)]
    with open_scene(pair.optical, pair.sar, pixel_grid=True, sar_ratio=True) as scene:
        expected = scene.read(Window(0, 0, 64, 64)).sar
    np.testing.assert_array_equal(found["sar"].numpy(), expected)
    assert Images([pair], 64)[Draw(0, 0)]["sar"].shape == (1, 64, 64)
    with pytest.raises(SceneError, match=r"gray.tif: data\.sar_ratio needs a co- and a cross-polarized band"):
        Images([Pair("two", pair.optical, tmp_path / "gray.tif")], 64, sar_ratio=True)[Draw(0, 0)]


@pytest.mark.parametrize("stage", ["alignearth", "simfeatup"])
def test_stages_that_do_not_look_at_the_ratio_refuse_it(stage: str, tmp_path: Path) -> None:
    data = {"folder": ".", "optical": "optical/{id}.png", "sar": "sar/{id}.png", "sar_ratio": True}
    read = read_stage_recipe(recipe(tmp_path, stage=stage, data=data, start={}))
    with pytest.raises(ConfigError, match=f"the stage {stage} does not look at the ratio"):
        import_module(STAGES[stage]).prepare(read)


def test_one_sensor_is_always_left() -> None:
    settings = Augmentation(color=0.0, drop_optical=0.5, drop_sar=0.5)
    for number in range(30):
        found = disturbed(mosaic(8, 8), np.random.default_rng(number), settings)
        assert {float(found.optical_valid.max()), float(found.sar_valid.max())} == {0.0, 1.0}  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="one sensor must be left"):
        Augmentation(drop_optical=0.6, drop_sar=0.5)


def test_a_draw_is_the_same_whenever_it_is_made(tmp_path: Path) -> None:
    data = write_images(tmp_path)
    listed = [Pair(image.id, image.optical, image.sar) for image in labelled(data, "train").images]
    images = Images(listed, NATIVE, seed=3, augmentation=Augmentation(clouds=0.5, speckle=0.5))
    one, again, other = (images[Draw(0, number)] for number in (5, 5, 6))
    assert torch.equal(one["optical"], again["optical"])
    assert not torch.equal(one["optical"], other["optical"])


def test_validation_shows_whole_images_and_keeps_their_labels(tmp_path: Path) -> None:
    data = write_images(tmp_path, side=80)
    images = labelled(data, "val")
    found = Images(as_pairs(images), NATIVE, labels=Labels(images.config.labels, 3))[Draw(0, 0)]
    assert found["optical"].shape == (3, NATIVE, NATIVE)
    assert found["labels"].shape == (80, 80)


def test_labels_of_another_size_are_named(tmp_path: Path) -> None:
    data = write_images(tmp_path)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "labels" / "val_0.png")
    images = labelled(data, "val")
    with pytest.raises(SceneError, match=r"val_0\.png: labels of 8 x 8 pixels"):
        Images(as_pairs(images), NATIVE, labels=Labels(images.config.labels, 3))[Draw(0, 0)]


def test_changed_data_have_another_fingerprint(tmp_path: Path) -> None:
    data = write_images(tmp_path)
    listed, _ = pairs(Data(folder=data.folder, optical="optical/{id}.png", sar="sar/{id}.png"), ("optical", "sar"))
    before = fingerprint(listed)
    assert before == fingerprint(listed)
    Image.fromarray(np.full((NATIVE, NATIVE), 9, np.uint8)).save(tmp_path / "sar" / "train_1.png")
    assert fingerprint(listed) != before


def test_pairs_without_labels_go_by_pattern(tmp_path: Path) -> None:
    data = write_images(tmp_path)
    asked = Data(folder=data.folder, optical="optical/{id}.png", sar="sar/{id}.png", left_out=("val_0",))
    kept, left_out = pairs(asked, ("optical", "sar"))
    assert [pair.id for pair in left_out] == ["val_0"]
    assert "val_0" not in [pair.id for pair in kept]
    assert all(pair.labels is None for pair in kept)
    (tmp_path / "sar" / "train_0.png").unlink()
    with pytest.raises(ConfigError, match="no sar file for 1 images: train_0"):
        pairs(asked, ("optical", "sar"))
    with pytest.raises(ConfigError, match="one file stands for optical and SAR"):
        pairs(Data(folder=data.folder, optical="optical/{id}.png", sar="optical/{id}.png"), ("optical", "sar"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stage": "mmovsg"}, "unknown stage 'mmovsg'. Did you mean mmovseg"),
        ({"datas": {}}, "unknown key datas. Did you mean data"),
        ({"optimization": {"step": 3}}, "unknown key optimization.step. Did you mean steps"),
        ({"optimization": {"steps": "many"}}, "optimization.steps cannot be 'many'"),
        ({"settings": {"ignore": "zero"}}, "Known: zeros, mask"),
        ({"augmentation": {"flip": 2}}, "no probability"),
        ({"data": {"folder": "."}}, "names no images"),
        ({"network": {"clip": "x", "dyno": "y"}}, "unknown key network.dyno"),
    ],
)  # fmt: skip
def test_mistakes_in_a_recipe_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = recipe(tmp_path, **change)
    with pytest.raises(ConfigError, match=message) as caught:
        read_stage_recipe(path)
    assert str(path) in str(caught.value)


def test_numbers_may_be_written_as_powers_of_ten(tmp_path: Path) -> None:
    path = recipe(tmp_path)
    path.write_text(path.read_text().replace("learning_rate: 0.001", "learning_rate: 1e-3"))
    assert read_stage_recipe(path).optimization.learning_rate == 1e-3


def test_weights_of_another_kind_are_refused(tmp_path: Path) -> None:
    from mmovseg_geo.models.weights import bundled_weights
    from mmovseg_geo.training.stages.networks import Start, begin

    with pytest.raises(WeightsError, match="weights of mmovseg-compact, which this stage cannot train"):
        begin("mmovseg-vitb16", Start(weights=bundled_weights().path))
    with pytest.raises(ConfigError, match=r"network 'mmovseg-vitb' is unknown\. Did you mean mmovseg-vitb16"):
        begin("mmovseg-vitb", Start())
