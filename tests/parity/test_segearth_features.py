"""Dense features and word vectors of SegEarth-OV against every recorded array of them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from mmovseg_geo.models.clip import IMAGENET_TEMPLATES, CLIPWords, embed_texts
from mmovseg_geo.models.segearth.features import DenseFeatures
from mmovseg_geo.models.segearth.preprocessing import normalize
from tests.parity.segearth_fixture import Recorded, compared, discover, feature_error

VECTORS = re.compile(
    r"(?P<where>square\.|rect\.)?(?P<gelu>gelu\.|quickgelu\.)?(?P<what>tokens|cls)"
    r"\.(?P<mode>\w+?)(?:\.(?P<form>nores|res))?(?:\[::\d+\])?"
)
SAR_MODE = re.compile(r"last(\d)")
IMAGES = {None: ("image",), "square.": ("image_square",), "rect.": ("rect.image",)}


def features(file: Recorded, name: str, channels: int) -> DenseFeatures:
    """The features that an array's name asks for; SAR models are SCLIP over several layers."""
    asked = VECTORS.fullmatch(name)
    assert asked, name
    sar = SAR_MODE.fullmatch(asked["mode"])
    return DenseFeatures(
        file.model(channels, quick_gelu=file.quick_gelu(name)).visual,
        "sclip" if sar else asked["mode"].lower(),  # type: ignore[arg-type]
        last=int(sar[1]) if sar else 1,
        residual=asked["form"] == "res",
    )


def vectors(file: Recorded) -> Iterator[tuple[str, Tensor]]:
    """Name and value of every recorded array of patch or CLS vectors, as we have them; each pass is run once."""
    done: dict[str, tuple[Tensor, Tensor | None]] = {}
    for name, expected in file.arrays.items():
        asked = VECTORS.fullmatch(name)
        if not asked:
            continue
        run = name.split("[")[0].replace("tokens.", "").replace("cls.", "")
        if run not in done:
            (image,) = IMAGES[asked["where"]]
            done[run] = features(file, name, expected.shape[-1])(normalize(file.image(image)))
        dense, cls = done[run]
        if asked["what"] == "cls":
            assert cls is not None, f"{name}: this kind of attention has no CLS vector"
            yield name, cls[0]
            continue
        tokens = dense[0].flatten(1).T
        stride = -(-len(tokens) // len(expected))
        yield name, tokens[::stride]


@pytest.mark.parametrize("file", discover(lambda name: bool(VECTORS.fullmatch(name))))
@torch.inference_mode()
def test_every_recorded_vector_is_met(file: Recorded) -> None:
    wrong = {name: feature_error(ours, file[name]) for name, ours in vectors(file)}
    assert wrong, f"{file.path.name} records no vectors"
    assert not any(wrong.values()), {name: problem for name, problem in wrong.items() if problem}


@pytest.mark.parametrize("file", discover(lambda name: name.endswith("pos_embed_interp")))
def test_the_position_table_is_resampled_by_scale(file: Recorded) -> None:
    expected = file["pos_embed_interp"]
    dense = DenseFeatures(file.model(file.meta["tiny"]["embed_dim"]).visual)
    height, width = (side // dense.patch for side in file["image"].shape[:2])
    assert not feature_error(dense.positions((height, width)), expected)


@pytest.mark.parametrize("file", discover(lambda name: name.endswith("text_embeddings")))
@torch.inference_mode()
def test_every_recorded_word_vector_is_met(file: Recorded) -> None:
    names = [name for name in file.arrays if name.endswith("text_embeddings")]
    for name in names:
        expected = file[name]
        words = file["query_words"].tolist() if "query_words" in file.arrays else file.words(len(expected))
        encoder = CLIPWords(file.model(expected.shape[-1], quick_gelu=file.quick_gelu(name)))
        assert not feature_error(embed_texts(encoder, words, IMAGENET_TEMPLATES), expected), name


@pytest.mark.parametrize("file", discover(lambda name: name == "template_features"))
@torch.inference_mode()
def test_prompts_tokens_and_their_vectors_are_the_recorded_ones(file: Recorded) -> None:
    word, prompts = str(file["template_word"]), file["prompts"].tolist()
    ours = [template.format(word) for template in IMAGENET_TEMPLATES]
    assert sorted(ours) == sorted(prompts)
    encoder = CLIPWords(file.model(file["template_features"].shape[-1]))
    np.testing.assert_array_equal(encoder.tokens(prompts), file["template_token_ids"])
    assert not compared(encoder.encode(prompts), file["template_features"], atol=1e-4, rtol=1e-4)
