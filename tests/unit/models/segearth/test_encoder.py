"""CLIP checkpoints as they are found: wrapped, halved, of another grid, for another network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mmovseg_geo.errors import ConfigError, WeightsError
from mmovseg_geo.models.clip import CLIPWords, with_weights
from mmovseg_geo.models.segearth.encoder import activation_of, load_encoder
from tests.unit.models.segearth.tiny import CONFIG, tiny_clip, tiny_encoder


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return tiny_clip().state_dict()


@pytest.mark.parametrize(("asked", "expected"), [("auto", "gelu"), ("quickgelu", "quickgelu"), ("gelu", "gelu")])
def test_the_activation_is_that_of_the_name_unless_asked_for(tmp_path: Path, asked: str, expected: str) -> None:
    options = tiny_encoder(tmp_path)
    model = load_encoder(options["checkpoint"], options["encoder"], asked)
    assert activation_of(model) == expected


def test_a_published_file_is_unwrapped_and_made_single_precision(tmp_path: Path, state: dict[str, Tensor]) -> None:
    options = tiny_encoder(tmp_path)
    path = tmp_path / "published.pt"
    halved = {f"module.{key}": value.half() for key, value in state.items()}
    torch.save({"epoch": 3, "state_dict": {**halved, "module.context_length": torch.tensor(77)}}, path)
    model = load_encoder(path, options["encoder"])
    assert model.visual.proj.dtype == torch.float32
    torch.testing.assert_close(model.visual.proj.detach(), state["visual.proj"].half().float())
    assert model.visual(torch.zeros(1, 3, 64, 64)).shape == (1, 16)


def test_a_position_table_of_another_grid_is_resampled(state: dict[str, Tensor]) -> None:
    table = state["visual.positional_embedding"]
    larger = torch.cat([table[:1], table[1:].repeat(4, 1)])
    model = with_weights(CONFIG, {**state, "visual.positional_embedding": larger})
    assert model.visual.positional_embedding.shape == table.shape


def test_both_towers_give_what_open_clip_gives(state: dict[str, Tensor]) -> None:
    ours, theirs = with_weights(CONFIG, state), tiny_clip(quick_gelu=False)
    image = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(ours.visual(image), theirs.visual(image))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"visual.proj": None}, "1 missing: visual.proj"),
        ({"logit_bias": torch.zeros(())}, "1 unexpected: logit_bias"),
        ({"text_projection": torch.zeros(3, 3)}, r"text_projection \(3, 3\) instead of \(16, 16\)"),
    ],
)
def test_weights_that_do_not_fit_are_told_by_name(state: dict[str, Tensor], change: Any, message: str) -> None:
    changed = {key: value for key, value in {**state, **change}.items() if value is not None}
    with pytest.raises(WeightsError, match=message):
        with_weights(CONFIG, changed, source="foreign.pt")


@torch.no_grad()
def test_a_checkpoint_of_transformers_gives_the_same_vectors() -> None:
    transformers = pytest.importorskip("transformers", reason="transformers comes with the extra `train`")
    torch.manual_seed(0)
    widths = {"intermediate_size": 64, "num_attention_heads": 2, "hidden_size": 32, "hidden_act": "gelu"}
    vision = {**widths, "num_hidden_layers": 3, "image_size": 64, "patch_size": 16}
    text = {**widths, "intermediate_size": 128, "num_hidden_layers": 1, "vocab_size": 49408, "eos_token_id": 49407}
    config = transformers.CLIPConfig(
        vision_config={**vision, "intermediate_size": 128}, text_config=text, projection_dim=16
    )
    theirs = transformers.CLIPModel(config).eval()
    ours = with_weights({**CONFIG, "text_cfg": {**CONFIG["text_cfg"], "width": 32}}, theirs.state_dict())
    image, ids = torch.randn(2, 3, 64, 64), CLIPWords(ours).tokens(["water", "a forest"])
    found = theirs(pixel_values=image, input_ids=ids)
    torch.testing.assert_close(F.normalize(ours.visual(image), dim=-1), found.image_embeds, atol=1e-5, rtol=1e-4)
    vectors = F.normalize(CLIPWords(ours).encode(["water", "a forest"]), dim=-1)
    torch.testing.assert_close(vectors, found.text_embeds, atol=1e-5, rtol=1e-4)


def test_an_encoder_is_never_fetched() -> None:
    with pytest.raises(ConfigError, match="would be fetched"):
        load_encoder("x.pt", "hf-hub:someone/something")
