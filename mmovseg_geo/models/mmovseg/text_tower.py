"""Any phrase to a unit vector: the small text encoder of `mmovseg-compact`.

The prompt is learned in: a bare word gives the vector its teacher gives to "a satellite image of" that word.
Shape suffixes: T phrases, L tokens, W width of the transformer, C channels shared with the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmovseg_geo.models import tokens


@dataclass(frozen=True)
class TextParams:
    """Numbers of the text tower.

    Attributes:
        vocabulary: tokens of the CLIP byte-pair tokenizer.
        token_dim: width of the token table, which is most of the file; a matrix widens it.
        context: longest phrase in tokens; what is longer is cut.
        embed_dim: C, channels shared with the image side.
    """

    vocabulary: int = 49408
    token_dim: int = 96
    width: int = 192
    layers: int = 2
    heads: int = 4
    mlp_ratio: int = 2
    context: int = 16
    embed_dim: int = 128


class TextTower(nn.Module):
    """A bag of word vectors, corrected by a small transformer that sees their order.

    That much is learned from sentences. `turned` then brings together what pictures show alike, such as "grass" and
    "meadow", and takes apart what they show differently.
    """

    def __init__(self, params: TextParams) -> None:
        super().__init__()
        self.params = params
        self.tokens = nn.Embedding(params.vocabulary, params.token_dim)
        self.importance = nn.Embedding(params.vocabulary, 1)
        self.direct = nn.Linear(params.token_dim, params.embed_dim)
        self.widen = nn.Linear(params.token_dim, params.width)
        self.positions = nn.Parameter(torch.zeros(params.context, params.width))
        layer = nn.TransformerEncoderLayer(
            params.width,
            params.heads,
            params.mlp_ratio * params.width,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.blocks = nn.TransformerEncoder(layer, params.layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(params.width)
        self.correction = nn.Linear(params.width, params.embed_dim)
        self.turned = nn.Linear(params.embed_dim, params.embed_dim, bias=False)
        nn.init.eye_(self.turned.weight)
        nn.init.zeros_(self.importance.weight)
        nn.init.zeros_(self.correction.weight)
        nn.init.zeros_(self.correction.bias)
        nn.init.normal_(self.positions, std=0.02)

    def forward(self, ids_TL: Tensor) -> Tensor:
        """Unit vectors (T, C) of token ids, 0 where a phrase has ended."""
        is_token_TL = ids_TL > 0
        table_TLE = self.tokens(ids_TL)
        weight_TL1 = self.importance(ids_TL).masked_fill(~is_token_TL[..., None], -torch.inf).softmax(1)
        bag_TC = self.direct((table_TLE * weight_TL1).sum(1))
        x_TLW = self.widen(table_TLE) + self.positions[: ids_TL.shape[1]]
        x_TLW = self.norm(self.blocks(x_TLW, src_key_padding_mask=~is_token_TL))
        count_T1 = is_token_TL.sum(1, keepdim=True)
        mean_TW = (x_TLW * is_token_TL[..., None]).sum(1) / count_T1
        return self.turn(F.normalize(bag_TC + self.correction(mean_TW), dim=-1))

    def turn(self, vectors: Tensor) -> Tensor:
        """Unit vectors (..., C) in the space of the image, of unit vectors in the space of sentences."""
        return F.normalize(self.turned(vectors), dim=-1)

    def embed(self, phrases: Sequence[str]) -> Tensor:
        """Unit vectors (T, C) of phrases in any script and case."""
        vectors_TC: Tensor = self(tokenize(phrases, self.params.context).to(self.positions.device))
        return vectors_TC


def tokenize(phrases: Sequence[str], context: int) -> Tensor:
    """Token ids (T, L) without start token, 0 after the end of a phrase; L is that of the longest, at most `context`.

    Every phrase ends with the end token, so that none is empty.
    """
    # Token 0 is "!", which says nothing about land; it shares the id of the padding.
    ids = tokens.tokenize(phrases, context + 1)[:, 1:]
    return ids[:, : int(ids.any(dim=0).nonzero().max()) + 1].contiguous()
