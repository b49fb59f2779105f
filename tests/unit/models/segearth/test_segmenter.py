"""SegEarth-OV as a segmenter: what is averaged, how two sensors are mixed, what the pipeline makes of it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mmovseg_geo.errors import ConfigError
from mmovseg_geo.grid import Window
from mmovseg_geo.models.segearth.preprocessing import normalize
from mmovseg_geo.models.segearth.recipe import Recipe
from mmovseg_geo.models.segearth.scoring import class_values
from mmovseg_geo.models.segearth.segmenter import SegEarthSegmenter
from mmovseg_geo.models.segearth.view import View
from mmovseg_geo.pipeline import finished_rows
from mmovseg_geo.tiles import Batch, Tile, Tiling
from mmovseg_geo.vocabulary import Vocabulary
from tests.unit.models.segearth.tiny import tiny_clip

VOCABULARY = Vocabulary.of("water,building|house", background=True)
RECIPE = Recipe(upsampler="none", window=64, stride=32, factor=1.0)


class Constant:
    """A view that says the same of every pixel it is shown."""

    def __init__(self, scores: list[float], temperature: float = 10.0) -> None:
        self.scores, self.recipe, self.facts = torch.tensor(scores), replace(RECIPE, temperature=temperature), {}

    def __call__(self, image: Tensor, valid: Tensor) -> Tensor:
        return self.scores[None, :, None, None].expand(len(image), -1, *image.shape[-2:])


def tiny_view(seed: int = 0, **changes: Any) -> View:
    recipe = RECIPE.with_options(changes)
    words = [word for entry in VOCABULARY.classes for word in entry.words]
    return View(tiny_clip(seed), None, recipe, words, device=torch.device("cpu"), about={"weights": "seeded"})


def batch_of(optical_valid: Any, sar_valid: Any) -> Batch:
    """Two rows of pixels with these validities, random values."""
    masks = [None if valid is None else np.array([valid], bool) for valid in (optical_valid, sar_valid)]
    height, width = next(mask for mask in masks if mask is not None).shape[1:]
    rng = np.random.default_rng(0)
    optical, sar = (
        None if mask is None else rng.uniform(0, 255, (1, bands, height, width)).astype(np.float32) * mask
        for mask, bands in zip(masks, (3, 1), strict=True)
    )
    return Batch((Window(0, 0, height, width),), optical, sar, masks[0], masks[1], 10.0)


def fused(**settings: Any) -> SegEarthSegmenter:
    views = {"optical": Constant([0.1, 0.4, 0.0, 0.2]), "sar": Constant([0.0, 0.0, 0.1, 0.3], temperature=20.0)}
    return SegEarthSegmenter("segearth-ov2", views, VOCABULARY, device="cpu", **settings)  # type: ignore[arg-type]


def expected(view: Any) -> Tensor:
    """Class values of a constant view: background, water, building."""
    return class_values(view.scores[:, None, None], [1, 1, 2], view.recipe.temperature).flatten()


def test_words_of_all_classes_and_the_background_are_planes() -> None:
    segmenter = SegEarthSegmenter("segearth-ov", {"optical": tiny_view()}, VOCABULARY, device="cpu")
    scores = segmenter(batch_of(np.ones((80, 48)), None))
    assert scores.shape == (1, segmenter.planes, 80, 48) == (1, 4, 80, 48)
    assert scores.dtype == torch.float32
    assert segmenter.probabilities(scores[0]).shape == (3, 80, 48)
    assert segmenter.sensors == {"optical"}
    assert segmenter.scores_background


def test_values_of_invalid_pixels_do_not_matter() -> None:
    segmenter = SegEarthSegmenter("segearth-ov", {"optical": tiny_view()}, VOCABULARY, device="cpu")
    valid = np.ones((64, 64))
    valid[:, 40:] = 0
    batch = batch_of(valid, None)
    assert batch.optical is not None
    other = np.where(valid[None, None] > 0, batch.optical, np.float32(99))
    torch.testing.assert_close(segmenter(batch), segmenter(replace(batch, optical=other)))


def test_where_one_sensor_saw_nothing_the_other_decides() -> None:
    segmenter = fused()
    values = segmenter.probabilities(segmenter(batch_of([[1, 1, 0]], [[1, 0, 1]]))[0])[:, 0]
    optical, sar = (expected(view) for view in segmenter.views.values())
    torch.testing.assert_close(values[:, 0], (optical + sar) / 2)
    torch.testing.assert_close(values[:, 1], optical)
    torch.testing.assert_close(values[:, 2], sar)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_weight_mixes_where_both_saw_and_only_there(weight: float) -> None:
    segmenter = fused(optical_weight=weight)
    values = segmenter.probabilities(segmenter(batch_of([[1, 1, 0]], [[1, 0, 1]]))[0])[:, 0]
    optical, sar = (expected(view) for view in segmenter.views.values())
    torch.testing.assert_close(values[:, 0], weight * optical + (1 - weight) * sar, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(values[:, 1:], torch.stack([optical, sar], dim=1))


@pytest.mark.parametrize(("optical", "sar"), [([[1, 1]], None), (None, [[1, 1]]), ([[1, 1]], [[0, 0]])])
def test_a_sensor_that_is_absent_is_one_that_saw_nothing(optical: Any, sar: Any) -> None:
    segmenter = fused()
    values = segmenter.probabilities(segmenter(batch_of(optical, sar))[0])
    view = segmenter.views["optical" if optical else "sar"]
    torch.testing.assert_close(values[:, 0, 0], expected(view))


def test_averaged_planes_of_two_sensors_keep_their_meaning() -> None:
    segmenter = fused()
    scores = segmenter(batch_of([[1, 0]], [[1, 1]]))[0]
    rounded = (0.3 * scores + 0.6 * scores) / (0.3 + 0.6)
    torch.testing.assert_close(segmenter.probabilities(rounded), segmenter.probabilities(scores))
    np.testing.assert_allclose(segmenter.probabilities(scores.numpy()), segmenter.probabilities(scores).numpy())


def test_a_weight_outside_its_range_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"optical_weight 1\.5"):
        fused(optical_weight=1.5)


def test_sar_is_seen_by_its_first_band_alone() -> None:
    segmenter = SegEarthSegmenter("segearth-ov2-sar", {"sar": tiny_view()}, VOCABULARY, device="cpu")
    batch = batch_of(None, np.ones((64, 64)))
    assert batch.sar is not None
    second = np.concatenate([batch.sar, np.zeros_like(batch.sar)], axis=1)
    torch.testing.assert_close(segmenter(batch), segmenter(replace(batch, sar=second)))


class MemoryScene:
    """An optical scene in memory."""

    name, sensors = "memory", frozenset({"optical"})

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels, self.shape = pixels, pixels.shape[1:]
        self.grid = SimpleNamespace(shape=self.shape)

    def read(self, window: Window) -> Tile:
        tile = np.zeros((3, *window.shape), np.float32)
        part = self.pixels[(slice(None), *window.slices)]
        tile[:, : part.shape[1], : part.shape[2]] = part
        valid = np.zeros(window.shape, bool)
        valid[: part.shape[1], : part.shape[2]] = True
        return Tile(window, tile, None, valid, None, 1.0)


def blended(scene: MemoryScene, segmenter: SegEarthSegmenter, tiling: Tiling | None = None) -> Tensor:
    rows = finished_rows(scene, segmenter, tiling=tiling, batch_size=3)  # type: ignore[arg-type]
    return torch.cat([torch.as_tensor(scores) for _, scores, _ in rows], dim=1)


@pytest.mark.parametrize("shape", [(160, 128), (100, 150), (64, 64)])
def test_tiles_of_a_scene_are_the_windows_of_one_pass(shape: tuple[int, int]) -> None:
    view = tiny_view()
    segmenter = SegEarthSegmenter("segearth-ov", {"optical": view}, VOCABULARY, device="cpu")
    pixels = np.random.default_rng(1).uniform(0, 255, (3, *shape)).astype(np.float32)
    with torch.inference_mode():
        whole = view.network(normalize(torch.from_numpy(pixels)[None]), view.words)[0]
    torch.testing.assert_close(blended(MemoryScene(pixels), segmenter), whole, atol=1e-5, rtol=1e-4)


def test_a_tile_at_half_the_scale_is_a_smaller_image() -> None:
    half, full = tiny_view(factor=0.5), tiny_view()
    batch = batch_of(np.ones((128, 128)), None)
    assert batch.optical is not None
    small = torch.nn.functional.interpolate(torch.from_numpy(batch.optical), scale_factor=0.5, mode="bilinear")
    ones = torch.ones(1, 128, 128)
    with torch.inference_mode():
        found = half(torch.from_numpy(batch.optical), ones)
        small_scores = full(small, ones[:, :64, :64])
    wanted = torch.nn.functional.interpolate(small_scores, size=(128, 128), mode="bilinear")
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_the_long_edge_is_that_of_the_image_not_of_the_tile_around_it() -> None:
    view = tiny_view(long_edge=64)
    segmenter = SegEarthSegmenter("segearth-ov", {"optical": view}, VOCABULARY, device="cpu")
    pixels = np.random.default_rng(2).uniform(0, 255, (3, 90, 128)).astype(np.float32)
    resized = torch.nn.functional.interpolate(
        normalize(torch.from_numpy(pixels)[None]), size=(45, 64), mode="bilinear", align_corners=False
    )
    with torch.inference_mode():
        scores = view.network(resized, view.words)
    wanted = torch.nn.functional.interpolate(scores, size=(90, 128), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(blended(MemoryScene(pixels), segmenter), wanted, atol=1e-5, rtol=1e-4)
