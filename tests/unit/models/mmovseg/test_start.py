"""Pretrained encoders put into a network by name, from files as their authors write them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mmovseg_geo.errors import WeightsError
from mmovseg_geo.models import load_segmenter
from mmovseg_geo.models.mmovseg import named
from mmovseg_geo.models.mmovseg.encoders import dino
from mmovseg_geo.models.mmovseg.params import MMOVSegParams
from mmovseg_geo.models.mmovseg.start import save, with_encoders
from mmovseg_geo.models.verify import verify
from mmovseg_geo.models.weights import open_weights
from tests.unit.models.mmovseg.tiny import HEAD, tiny_params
from tests.unit.models.segearth.tiny import tiny_clip, tiny_encoder

DINO = "vit_tiny_patch16_dinov3_qkvb.eupe_lvd1689m"


@pytest.fixture
def params(tmp_path: Path) -> MMOVSegParams:
    clip = named.clip_params(tiny_encoder(tmp_path)["encoder"])
    return replace(tiny_params(), clip=clip, dino=named.dino_params(DINO), head=HEAD)


@pytest.fixture(scope="module")
def encoder() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return dino(named.dino_params(DINO), (0, 1, 2)).vit.state_dict()  # type: ignore[no-any-return]


def test_encoders_come_from_files_and_the_result_from_its_own(
    tmp_path: Path, params: MMOVSegParams, encoder: dict[str, Tensor]
) -> None:
    clip, optical, sar = tmp_path / "tiny-0.safetensors", tmp_path / "dino.pth", tmp_path / "sar.pth"
    torch.save({"teacher": encoder}, optical)
    periods = encoder["rope.periods"].bfloat16()
    kept = {f"backbone.{key}": value + 1 for key, value in encoder.items() if key != "rope.periods"}
    torch.save({"model": {**kept, "backbone.rope_embed.periods": periods, "ibot_head.x": torch.ones(1)}}, sar)
    network = with_encoders(params, clip=clip, dino=optical, sar=sar)
    state, theirs = network.state_dict(), tiny_clip(0).state_dict()
    torch.testing.assert_close(state["optical.clip.visual.proj"], theirs["visual.proj"])
    torch.testing.assert_close(state["text.tower.token_embedding.weight"], theirs["token_embedding.weight"])
    torch.testing.assert_close(state["optical.dino.vit.cls_token"], encoder["cls_token"])
    torch.testing.assert_close(state["sar.vit.cls_token"], encoder["cls_token"] + 1)
    torch.testing.assert_close(state["sar.vit.rope.periods"], periods.float())

    start = save(network, params, tmp_path / "start.safetensors", trained=False)
    with pytest.raises(WeightsError, match="cost head is not"):
        load_segmenter(str(start), "water")
    whole = save(network, params, tmp_path / "whole.safetensors", trained=True)
    loaded = open_weights(whole).tensors()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], state[key]) for key in state)
    assert "keys and shapes of mmovseg-custom" in verify(whole).checks
    assert load_segmenter(str(whole), "water", device="cpu").planes == 1


def test_a_checkpoint_of_another_width_is_refused(tmp_path: Path, params: MMOVSegParams) -> None:
    path = tmp_path / "wide.safetensors"
    save_file({**tiny_clip().state_dict(), "text_projection": torch.zeros(16, 24)}, path)
    with pytest.raises(WeightsError, match=r"share 24 channels; in .* they share 16"):
        with_encoders(params, clip=path)
    save_file({"cls_token": torch.zeros(1, 1, 384)}, path)
    with pytest.raises(WeightsError, match=r"wide.safetensors does not fit the network: .* missing"):
        with_encoders(params, dino=path)


def test_published_sets_are_not_fetched(tmp_path: Path, params: MMOVSegParams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))
    plain = replace(params, clip=replace(params.clip, architecture="ViT-B-16-quickgelu"))
    with pytest.raises(WeightsError, match=r"not on this machine. Bring them: hf download timm/vit_base_patch16_clip"):
        with_encoders(plain, clip="openai")
    with pytest.raises(WeightsError, match=rf"not on this machine. Bring them: hf download timm/{DINO}"):
        with_encoders(params, sar=DINO)
    with pytest.raises(WeightsError, match=r"neither a file nor a set of weights for ViT-B-16-quickgelu. Known sets"):
        with_encoders(plain, clip="opena")
    with pytest.raises(WeightsError, match="neither a file nor a set of weights that timm knows"):
        with_encoders(params, dino="missing.pth")
