from __future__ import annotations

import re
from collections.abc import Sequence

import open_clip
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mmovseg_geo.errors import ConfigError
from mmovseg_geo.models.clip import (
    IMAGENET_TEMPLATES,
    CLIPText,
    CLIPWords,
    DenseCLIP,
    FusedAttention,
    dense_config,
    embed_texts,
)
from tests.unit.models.segearth.tiny import tiny_clip


@pytest.fixture(scope="module")
def visual() -> DenseCLIP:
    torch.manual_seed(0)
    return DenseCLIP(embed_dim=16, image_size=64, patch=16, width=64, layers=3, hooks=(0, 1)).eval()


@pytest.fixture(scope="module")
def text() -> CLIPText:
    torch.manual_seed(0)
    return CLIPText(embed_dim=16, width=32, heads=2, layers=2).eval()


class Spelling:
    """A text encoder that can be calculated by hand: length and number of words."""

    def encode(self, texts: Sequence[str]) -> Tensor:
        return torch.tensor([[len(text), len(text.split())] for text in texts], dtype=torch.float32)


@torch.no_grad()
def test_dense_features_and_hooks_lie_on_the_grid_of_patches(visual: DenseCLIP) -> None:
    dense, hooks = visual(torch.randn(2, 3, 48, 80))
    assert dense.shape == (2, 16, 3, 5)
    assert [hook.shape for hook in hooks] == [(2, 64, 3, 5), (2, 64, 3, 5)]


def test_positions_of_the_native_grid_are_the_table_itself(visual: DenseCLIP) -> None:
    assert visual.positions((4, 4)) is visual.visual.positional_embedding


def test_resampled_positions_keep_the_class_token(visual: DenseCLIP) -> None:
    positions = visual.positions((6, 5))
    assert positions.shape == (31, 64)
    assert torch.equal(positions[0], visual.visual.positional_embedding[0])


@torch.no_grad()
def test_in_the_last_block_a_patch_depends_on_itself_and_the_class_token_only(visual: DenseCLIP) -> None:
    block = visual.visual.transformer.resblocks[-1]
    x = torch.randn(1, 5, 64)
    taken: list[Tensor] = []
    handle = visual.visual.transformer.resblocks[-2].register_forward_hook(lambda *_: x)
    try:
        handles = [visual.visual.ln_post.register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0]))]
        visual(torch.randn(1, 3, 32, 32))
    finally:
        for hook in (handle, *handles):
            hook.remove()
    values = F.linear(block.ln_1(x), block.attn.in_proj_weight[128:], block.attn.in_proj_bias[128:])
    y = block.attn.out_proj(values) + x[:, :1]
    assert torch.allclose(taken[0], y + block.mlp(block.ln_2(y)), atol=1e-5)


@torch.no_grad()
def test_embeddings_are_unit_vectors_for_any_phrase(text: CLIPText) -> None:
    phrases = ["water", "", "Straßenbäume", "水田", "a " * 200]
    embedded = embed_texts(text, phrases)
    assert torch.allclose(embedded.norm(dim=-1), torch.ones(len(phrases)), atol=1e-5)


def test_tokens_start_and_end_as_clip_expects(text: CLIPText) -> None:
    ids = text.tokens(["A photo of a water in the scene"])[0].tolist()
    assert ids[0] == 49406
    assert ids[1:9] == [320, 1125, 539, 320, 1573, 530, 518, 3562]
    assert ids[9:11] == [49407, 0]


def test_one_template_fills_in_each_class() -> None:
    assert torch.allclose(embed_texts(Spelling(), ["ab"], ["a {}"]), F.normalize(torch.tensor([[4.0, 2.0]]), dim=-1))


def test_several_templates_average_their_unit_embeddings() -> None:
    found = embed_texts(Spelling(), ["ab", "c"], ["{}", "a {} b"])
    for row, forms in zip(found, ([[2.0, 1.0], [6.0, 3.0]], [[1.0, 1.0], [5.0, 3.0]]), strict=True):
        mean = F.normalize(torch.tensor(forms), dim=-1).mean(dim=0)
        assert torch.allclose(row, F.normalize(mean, dim=-1))


@torch.no_grad()
def test_words_get_the_vectors_that_open_clip_gives_them() -> None:
    model = tiny_clip()
    words = CLIPWords(model)
    texts = ["water", "a bad photo of a very long phrase about buildings.", "", "a " * 100]
    for chosen in (texts, texts[:2]):
        torch.testing.assert_close(words.encode(chosen), model.encode_text(words.tokens(chosen)), atol=1e-6, rtol=1e-5)


def test_there_are_eighty_published_prompts() -> None:
    assert len(set(IMAGENET_TEMPLATES)) == 80
    assert "a bad photo of a road." in {template.format("road") for template in IMAGENET_TEMPLATES}


@pytest.mark.parametrize("architecture", open_clip.list_models())
def test_every_architecture_of_open_clip_is_usable_or_says_why(architecture: str) -> None:
    if re.match("ViT-(?!.*(SigLIP|CLIPA|worldwide))", architecture):
        with torch.device("meta"):
            visual = open_clip.CLIP(**dense_config(architecture)).visual
        assert visual.pool_type == "tok"
        assert all(isinstance(block.attn, torch.nn.MultiheadAttention) for block in visual.transformer.resblocks)
    else:
        with pytest.raises(ConfigError, match="cannot be used: it"):
            dense_config(architecture)


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        ("RN50", "ResNet"),
        ("ViT-B-16-SigLIP", "attention pool over the whole image, as in SigLIP"),
        ("coca_ViT-B-32", "CoCa"),
        ("EVA02-B-16", "timm"),
        ("roberta-ViT-B-32", "tokenizer or a text tower"),
        ("vit_base_patch16_dinov3", "shares no space with words"),
        ("ViT-B-16-quickgeluu", "Did you mean ViT-B-16-quickgelu"),
    ],
)
def test_an_encoder_that_cannot_work_says_why(architecture: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        dense_config(architecture)


@torch.no_grad()
def test_fused_attention_has_the_names_and_the_numbers_of_torch() -> None:
    torch.manual_seed(0)
    plain = torch.nn.MultiheadAttention(32, 4, batch_first=True)
    torch.nn.init.normal_(plain.in_proj_bias)
    fused = FusedAttention(plain)
    assert {key: value.shape for key, value in fused.state_dict().items()} == {
        key: value.shape for key, value in plain.state_dict().items()
    }
    x = torch.randn(2, 7, 32)
    torch.testing.assert_close(fused(x, x, x)[0], plain(x, x, x, need_weights=False)[0], atol=1e-6, rtol=1e-5)
    with pytest.raises(ValueError, match="each other"):
        fused(x, x + 1, x)
