"""What the compact network's encoders say, and how its norms are folded."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from mmovseg_geo.errors import WeightsError
from mmovseg_geo.grid import Window
from mmovseg_geo.models import load_segmenter
from mmovseg_geo.models.mmovseg.compact import SpeakingHead, build, fuse_norms, image_planes, mmovseg_compact, trained
from mmovseg_geo.models.mmovseg.lite import Lite0
from mmovseg_geo.models.mmovseg.network import MMOVSeg
from mmovseg_geo.models.weights import bundled_weights, open_weights
from mmovseg_geo.tiles import Batch, Tile
from mmovseg_geo.training.kinds import KINDS
from mmovseg_geo.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def network() -> MMOVSeg:
    torch.manual_seed(0)
    found = build(mmovseg_compact())
    for norm in found.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.running_mean, -0.2, 0.2)  # type: ignore[arg-type]
            nn.init.uniform_(norm.running_var, 0.5, 2)  # type: ignore[arg-type]
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, -0.2, 0.2)
    return found.eval()


@torch.inference_mode()
def test_folded_norms_change_nothing(network: MMOVSeg) -> None:
    planes = image_planes(255 * torch.rand(1, 3, 64, 96), None, 10.0)
    sar = image_planes(255 * torch.rand(1, 2, 64, 96), None, 10.0)
    text = torch.randn(2, 128)
    folded = fuse_norms(copy.deepcopy(network))
    encoders = (*folded.optical.modules(), *folded.sar.modules())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in encoders)
    torch.testing.assert_close(folded(planes, sar, text), network(planes, sar, text), atol=1e-3, rtol=1e-3)


@torch.inference_mode()
def test_the_optical_encoder_is_that_of_timm() -> None:
    torch.manual_seed(0)
    theirs = timm.create_model("efficientnet_lite0", features_only=True, in_chans=5, bn_eps=1e-3).eval()
    own = Lite0(5).eval()
    own.load_state_dict(theirs.state_dict())
    planes = torch.randn(1, 5, 64, 96)
    for found, expected in zip(own(planes), theirs(planes), strict=True):
        torch.testing.assert_close(found, expected)


def test_every_kind_has_a_vector() -> None:
    assert len(KINDS) == mmovseg_compact().kinds


def test_logits_have_half_the_rows_and_columns(network: MMOVSeg) -> None:
    with torch.inference_mode():
        logits = network(image_planes(torch.zeros(2, 3, 64, 96), None, 10.0), None, torch.randn(3, 128))
    assert logits.shape == (2, 3, 32, 48)


@given(st.floats(-30, 30), st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_encoders_that_say_nothing_are_silent(level: float, seed: int) -> None:
    torch.manual_seed(seed)
    head = SpeakingHead(mmovseg_compact().head, 5)
    torch.testing.assert_close(
        head.speak(torch.full((1, 5, 2, 2), level)), torch.zeros(1, 128, 2, 2), atol=1e-6, rtol=0
    )


def test_a_sure_encoder_says_the_vector_of_its_kind() -> None:
    torch.manual_seed(0)
    head = SpeakingHead(mmovseg_compact().head, 5)
    dense = torch.zeros(1, 5, 1, 1)
    dense[0, 3] = 50
    with torch.inference_mode():
        said = head.speak(dense)[0, :, 0, 0]
        torch.testing.assert_close(said, head.vectors[3] - head.vectors.mean(0))


def test_two_sensors_that_agree_are_surer_than_one() -> None:
    torch.manual_seed(0)
    head = SpeakingHead(mmovseg_compact().head, 5)
    head.name(torch.eye(5, 128))
    one = torch.tensor([1.0, 0, 0, 0, 0]).reshape(1, 5, 1, 1)
    alone, both = (head.speak(logits)[0, 0] for logits in (one, one + one))
    assert both > alone > 0


@given(st.integers(0, 2**31), st.floats(0.05, 1))
@settings(max_examples=30, deadline=None)
def test_a_word_is_heard_nearer_to_its_kind(seed: int, share: float) -> None:
    torch.manual_seed(seed)
    head = SpeakingHead(mmovseg_compact().head, 5)
    head.name(torch.eye(5, 128))
    kinds, elsewhere = torch.rand(5), torch.nn.functional.pad(torch.randn(123), (5, 0))
    word = torch.nn.functional.pad(share * kinds / kinds.norm(), (0, 123)) + (1 - share) * elsewhere / elsewhere.norm()
    heard, kind = head.hear(word), int(word[:5].argmax())
    assert heard.norm().item() == pytest.approx(1, abs=1e-5)
    assert int(heard[:5].argmax()) == kind
    assert heard[kind] >= torch.nn.functional.normalize(word, dim=0)[kind] - 1e-6


def test_the_word_of_a_kind_is_heard_as_it_is() -> None:
    head = SpeakingHead(mmovseg_compact().head, 5)
    head.name(torch.eye(5, 128))
    assert head.hear(head.vectors[2])[2] > 0.999


def test_whoever_asks_for_water_alone_has_more_of_it_than_who_asks_for_a_map() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.uniform(20, 90, (3, 64, 64)).astype(np.float32)
    batch = Batch.stack([Tile(Window(0, 0, 64, 64), pixels, None, np.ones((64, 64), bool), None, 10.0)])
    alone, among = (
        torch.special.logit(load_segmenter("mmovseg-compact", vocabulary, gsd_m=10.0)(batch)[:, 0].double())
        for vocabulary in (Vocabulary.of("water,trees", background=True), Vocabulary.of("water,trees"))
    )
    further = (alone - among).flatten()
    assert 1 < further.mean() < 4
    assert further.std() < 0.05  # scores are rounded


def test_weights_of_an_earlier_version_are_refused_with_what_to_do(tmp_path: Path) -> None:
    bundled = bundled_weights()
    state = {name: value for name, value in bundled.tensors().items() if name != "head.heard"}
    path = tmp_path / "earlier.safetensors"
    save_file(state, path, metadata=bundled.details)
    with pytest.raises(WeightsError, match=r"earlier.safetensors: written by an earlier version.*\n.*Train again"):
        trained(open_weights(path))
