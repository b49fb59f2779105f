"""Known defects of the published programs of MM-OVSeg, one by one: none of them is here.

The ensemble of prompts and the sliding windows (defects 2 and 3) have their tests in `test_published.py`.
"""

from __future__ import annotations

import ast
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import mmovseg_geo
from mmovseg_geo.errors import SceneError, WeightsError
from mmovseg_geo.models.clip import embed_texts
from mmovseg_geo.models.mmovseg.checkpoint import build_loaded
from mmovseg_geo.models.mmovseg.network import MMOVSeg
from mmovseg_geo.models.mmovseg.published import PublishedView
from mmovseg_geo.models.mmovseg.views import Pixels
from mmovseg_geo.models.state_dict import load
from mmovseg_geo.rasters.scene import open_scene
from mmovseg_geo.training.augment import Augmentation, augmented
from mmovseg_geo.training.chips import Chips
from tests.unit.models.mmovseg.tiny import tiny_network, tiny_params

FAMILIES = ("dinov1", "dinov3")
PACKAGE = Path(mmovseg_geo.__file__).parent


@pytest.fixture(scope="module", params=FAMILIES)
def network(request: pytest.FixtureRequest) -> MMOVSeg:
    return tiny_network(request.param)


def pixels(height: int, width: int, *, seed: int = 0, batch: int = 1) -> Pixels:
    torch.manual_seed(seed)
    return Pixels(255 * torch.rand(batch, 3, height, width), torch.ones(batch, height, width))


def scores(network: MMOVSeg, words: list[str], optical: Pixels, sar: Pixels) -> Tensor:
    view = PublishedView(tiny_params())
    with torch.inference_mode():
        return view.scores(network, optical, sar, view.text(network, words), 1.0)


def test_1_words_asked_for_before_leave_no_trace() -> None:
    """They keep the words of the first forward pass, whatever is asked for later."""
    used, fresh = tiny_network(), tiny_network()
    images = pixels(64, 64), pixels(64, 64, seed=1)
    scores(used, ["city", "forest", "farmland"], *images)
    later = ["road", "water"]
    torch.testing.assert_close(scores(used, later, *images), scores(fresh, later, *images))
    assert not torch.allclose(scores(used, later, *images), scores(used, later[::-1], *images))


def test_4_training_cuts_and_turns_sar_and_labels_with_optical() -> None:
    """They mirror optical and labels half of the time, and SAR never."""
    values = np.random.default_rng(0).integers(0, 20, (8, 6, 6), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    chips = Chips(
        optical=np.repeat(values[:, None] * 10, 3, axis=1),
        sar=np.repeat(values[:, None] * 4 + 60, 2, axis=1),
        labels=values,
        gsd_m=np.full(8, 10, np.float32),
        has_optical=np.ones(8, bool),
        has_sar=np.ones(8, bool),
        has_clouds=np.ones(8, bool),
    )
    nothing = {"optical_only": 0.0, "sar_only": 0.0, "gaps": 0.0, "stretched": 0.0, "single_band": 0.0}
    batch = augmented([chips], Augmentation(crop=32, **nothing), np.random.default_rng(1))  # type: ignore[arg-type]
    assert batch.optical is not None
    assert batch.sar is not None
    for optical, sar, labels in zip(batch.optical, batch.sar, batch.labels, strict=True):
        for image in (optical[0], sar[0]):
            # Speckle and contrast are disturbed too; what is turned another way resembles the labels by chance only.
            right = np.corrcoef(image.flatten(), labels.flatten())[0, 1]
            assert right > max(0.6, np.corrcoef(image.flip(-1).flatten(), labels.flatten())[0, 1] + 0.2)


@pytest.mark.parametrize("size", [(64, 64), (96, 128), (160, 64)])
def test_5_the_networks_take_any_size_in_batches(network: MMOVSeg, size: tuple[int, int]) -> None:
    """They take 384 x 384 pixels only, and return the first image of a batch."""
    torch.manual_seed(0)
    optical, sar = torch.randn(2, 3, *size), torch.randn(2, 3, *size)
    with torch.inference_mode():
        text = embed_texts(network.text, ["water", "city"])  # type: ignore[arg-type]
        together = network(optical, sar, text)
        alone = [network(optical[i : i + 1], sar[i : i + 1], text) for i in range(2)]
    assert together.shape == (2, 2, size[0] // 4, size[1] // 4)
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-4, rtol=1e-4)


def test_6_a_wide_tile_is_neither_cut_nor_stretched() -> None:
    """They cut what is beyond a square, and stretch the scores of the square over the whole."""
    network = tiny_network()
    optical, sar = pixels(64, 128), pixels(64, 128, seed=1)
    before = scores(network, ["water", "city"], optical, sar)
    optical.image[..., 96:] = 255 - optical.image[..., 96:]
    changed = (scores(network, ["water", "city"], optical, sar) - before).abs().mean((0, 1, 2))
    assert changed[96:].mean() > 2 * changed[:64].mean() > 0


def test_7_one_file_is_not_both_sensors(tmp_path: Path, sample_data: Path) -> None:
    """Where their rule for names finds no SAR, they read the optical image as SAR."""
    (image,) = sorted(sample_data.glob("*rgb*.tif"))[:1]
    link = tmp_path / "sar.tif"
    link.symlink_to(image)
    for other in (image, link):
        with pytest.raises(SceneError, match="given twice"):
            open_scene(image, other)


def test_7_no_file_of_the_package_holds_an_absolute_path() -> None:
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        texts = [
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        assert not [text for text in texts if text.startswith(("/home/", "/data/", "/mnt/", "C:\\"))], path


def test_8_threads_share_a_network(network: MMOVSeg) -> None:
    """They gather features in a list on the module, where two passes at once mix."""
    optical, sar = pixels(64, 64, batch=4), pixels(64, 64, seed=1, batch=4)

    def one(i: int) -> Tensor:
        cut = slice(i, i + 1)
        return scores(network, ["water", "city"], *(Pixels(p.image[cut], p.valid[cut]) for p in (optical, sar)))

    alone = [one(i) for i in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for expected, found in zip(alone, pool.map(one, range(4)), strict=True):
            torch.testing.assert_close(found, expected)


def test_9_encoders_give_the_same_in_training_and_out_of_it(network: MMOVSeg) -> None:
    """In training mode their DINOv3 scales its positions at random."""
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        resting = network.eval().sar(image)
        training = network.train().sar(image)
    network.eval()
    for before, after in zip(resting, training, strict=True):
        assert torch.equal(before, after)


@pytest.mark.parametrize("family", FAMILIES)
def test_9_loaded_networks_are_for_inference(family: str) -> None:
    loaded = build_loaded(tiny_params(family), tiny_network(family).state_dict())  # type: ignore[arg-type]
    assert not [name for name, module in loaded.named_modules() if module.training]


def test_10_missing_and_unknown_weights_are_errors(network: MMOVSeg) -> None:
    """They load what fits and say nothing of the rest."""
    state = dict(network.state_dict())
    state["head.decoder.head.surplus"] = state.pop("head.decoder.head.bias")
    with pytest.raises(WeightsError, match=r"1 missing: head\.decoder\.head\.bias; 1 unexpected: .*surplus"):
        load(network, state)
