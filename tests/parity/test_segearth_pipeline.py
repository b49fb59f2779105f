"""SegEarth-OV from image to labels against every recorded map, in full and in reduced precision."""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import deepcopy
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mmovseg_geo.models.compute import mixed
from mmovseg_geo.models.segearth.features import DenseFeatures
from mmovseg_geo.models.segearth.network import SegEarth
from mmovseg_geo.models.segearth.preprocessing import normalize, resized, working_size
from mmovseg_geo.models.segearth.recipe import SEGEARTH_OV, SEGEARTH_OV2_SAR, Recipe
from mmovseg_geo.models.segearth.scoring import class_values
from mmovseg_geo.models.segearth.upsampler import build_upsampler
from tests.parity.segearth_fixture import Recorded, compared, discover, fill

MAP = re.compile(r"(?:(?P<case>\w+)\.)?(?P<what>query_logits|class_prob|label)(?:\[::(?P<stride>\d+),::\d+\])?")
OMITTED = "label_when_shape_omitted"
ODD_WINDOW, ODD_STRIDE = 70, 50
STRIDE_OF_SETTINGS = 2
"""Of logits and class values in a file of many settings, whose names do not tell it."""


def settings(file: Recorded, case: str | None, side: int) -> Recipe:
    """What the name of a recorded case stands for; `side` is the image size of the model."""
    lam = file.meta["lam"]
    if not file.quick_gelu(f"{case}.") or case == "quickgelu":
        whole = "label" not in file.arrays
        return SEGEARTH_OV2_SAR.with_options({"bias": lam, "window": 0 if whole else side, "stride": side // 2})
    usual = SEGEARTH_OV.with_options({"bias": lam, "window": side, "stride": side // 2})
    changes = {
        "segearth_nobias": {"bias": 0},
        "clearclip_noup": {"attention": "clearclip", "upsampler": "none", "bias": 0},
        "vanilla_noup": {"attention": "vanilla", "residual": "true", "upsampler": "none", "bias": 0},
        "sclip": {"attention": "sclip", "temperature": file.meta["alt_logit_scale"]},
        "whole": {"window": 0},
        "oddwindow": {"window": ODD_WINDOW, "stride": ODD_STRIDE},
    }
    assert case in {None, "segearth", *changes}, f"{file.path.name}: unknown setting {case}"
    return usual.with_options(changes.get(case or "", {}))


@lru_cache(maxsize=16)
def scores(
    file: Recorded, case: str | None, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> tuple[Tensor, Recipe]:
    """Averaged scores (Q, H, W) of the image of a case at its own size, by our network with seeded weights."""
    vectors = file[f"{case}.query_vectors" if f"{case}.query_vectors" in file.arrays else "query_vectors"]
    model = file.model(vectors.shape[1], quick_gelu=file.quick_gelu(f"{case}." if case else ""))
    recipe = settings(file, case, model.visual.image_size[0])
    features = DenseFeatures(model.visual, recipe.attention, last=recipe.last, residual=recipe.residual)
    upsampler = None
    if recipe.upsampler != "none":
        upsampler = fill(build_upsampler("jbu_one", vectors.shape[1]), file.salt)
    image = normalize(file.image())
    if case == "whole":
        height, width = (side // features.patch * features.patch for side in image.shape[-2:])
        image = image[..., :height, :width]
    with torch.inference_mode(), mixed(torch.device(device), dtype):
        network = deepcopy(SegEarth(features, upsampler, recipe)).to(device)
        return network(image.to(device), torch.from_numpy(vectors).to(device)).cpu(), recipe


def maps(
    file: Recorded, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> Iterator[tuple[str, str, np.ndarray]]:
    """Name, kind and value, as we have it, of every recorded map of a file."""
    counts = np.bincount(file["query_idx"]).tolist()
    for name, expected in file.arrays.items():
        asked = MAP.fullmatch("segearth.label" if name == OMITTED else name)
        if not asked:
            continue
        case = asked["case"]
        stride = int(asked["stride"] or STRIDE_OF_SETTINGS)
        label = next((file[n] for n in (f"{case}.label", "label") if n in file.arrays and name != OMITTED), None)
        size = file["image"].shape[:2] if label is None else label.shape
        averaged, recipe = scores(file, case, dtype, device)
        logits = resized(averaged, size)[0]
        values = class_values(logits, counts, recipe.temperature)
        if asked["what"] == "query_logits":
            yield name, "logits", logits[:, ::stride, ::stride].numpy()
        elif asked["what"] == "class_prob":
            yield name, "values", values[:, ::stride, ::stride].numpy()
        else:
            best, labels = values.max(dim=0)
            # The SAR fixtures are recorded without a threshold.
            least = 0 if recipe.last > 1 else file.meta["thd"]
            yield name, "labels", torch.where(best < least, file.meta["bg"], labels).numpy()
        assert expected.ndim in (2, 3), name


def real_scene(shared: Path) -> np.ndarray:
    """The scene that files without an image were cut from (H, W, 3), float32."""
    with Image.open(shared / "data" / "optical" / "oem_koeln_50.tif") as picture:
        return np.asarray(picture).astype(np.float32)


def has_labels(name: str) -> bool:
    return name.endswith("label")


ON_GPU = pytest.param(
    "cuda",
    marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device was found")],
)


@pytest.mark.parametrize("device", ["cpu", ON_GPU])
@pytest.mark.parametrize("file", discover(has_labels))
def test_every_recorded_map_is_met(file: Recorded, device: str) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    wrong, seen = {}, 0
    for name, kind, ours in maps(file, device=device):
        seen += 1
        if kind == "labels":
            assert ours.shape == file[name].shape, name
            same = float((ours == file[name]).mean())
            problem = "" if same >= 0.999 else f"{100 * same:.2f} % of labels agree"
        else:
            problem = compared(ours, file[name], atol=2e-5 if kind == "logits" else 2e-4)
        if problem:
            wrong[name] = problem
    assert seen, f"{file.path.name} records no maps"
    assert not wrong


@pytest.mark.parametrize("device", ["cpu", ON_GPU])
@pytest.mark.parametrize("file", discover(has_labels))
def test_in_bfloat16_labels_hardly_change(file: Recorded, device: str) -> None:
    for name, kind, ours in maps(file, torch.bfloat16, device):
        if kind == "labels":
            same = float((ours == file[name]).mean())
            assert same >= 0.98, f"{name}: {100 * same:.2f} % of labels agree"


@pytest.mark.parametrize("file", discover(lambda name: name.startswith("jbu_one.upsampled[")))
def test_scores_of_one_window_of_the_real_scene(file: Recorded, shared: Path) -> None:
    words = torch.from_numpy(file.beside("query_words")["text_embeddings"])
    model = file.model(words.shape[1])
    side = model.visual.image_size[0]
    top, left = file["image_origin"]
    image = torch.from_numpy(real_scene(shared)[top : top + side, left : left + side]).permute(2, 0, 1)[None]
    upsampler = fill(build_upsampler("jbu_one", words.shape[1]), file.salt)
    with torch.inference_mode():
        network = SegEarth(DenseFeatures(model.visual), upsampler, settings(file, None, side))
        ours = network(normalize(image), words)[0]
    assert not compared(ours[:, ::4, ::4], file["query_logits[::4,::4]"], atol=2e-5)


@pytest.mark.parametrize("file", discover(lambda name: name == "resized_rgb"))
def test_an_image_is_resized_to_the_published_long_edge(file: Recorded, shared: Path) -> None:
    top, bottom, left, right = file["region_rows_cols"]
    region = real_scene(shared)[top:bottom, left:right]
    expected = file["resized_rgb"]
    size = working_size(region.shape[:2], max(expected.shape) / max(region.shape))
    assert size == expected.shape[:2]
    ours = resized(torch.from_numpy(region).permute(2, 0, 1)[None], size)
    assert not compared(ours[0].permute(1, 2, 0).round(), expected, atol=1)
    normalized = normalize(file.image("resized_rgb"))[0, :, ::8, ::8]
    assert not compared(normalized, file["normalised_std_1x"], atol=1e-4, rtol=1e-4)
