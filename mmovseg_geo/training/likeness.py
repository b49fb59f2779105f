"""After distillation: words are brought together and taken apart by what pictures show alike.

Sentences part "grass" and "grassland" (a cosine of 0.5), hardly "grass" and "cropland". One matrix, learned from
concepts alone, before any image, turns the vectors so that words of one concept agree and words that are true of
different things do not. Words that were never listed are turned with their neighbors.
Shape suffixes: W words, K concepts, V land covers, P phrases, C channels.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from mmovseg_geo.models.mmovseg.text_tower import TextTower
from mmovseg_geo.simulate import LAND_COVERS
from mmovseg_geo.training.concepts import FALSE, TRUE, Concepts

STEPS, RATE, NOISE = 300, 2e-3, 0.03
APART, KEPT, NEAR = 4.0, 2.0, 0.002
"""Weights beside that of words of one concept: others apart, cosines of further phrases kept, the matrix near unity."""
NEVER, SELDOM = 0.0, 0.25
"""Largest cosine of words that are true together nowhere: where one is false wherever the other may hold, and else."""
SAME = 1.0
UNKNOWN = -1.0


def turn_toward(tower: TextTower, concepts: Concepts, phrases: list[str], seed: int = 0) -> None:
    """Set `tower.turned`; the same concepts and phrases give the same matrix.

    Args:
        phrases: further ones, whose cosines should stay as they are. Words held out may not be among them, nor need be.
    """
    torch.manual_seed(seed)
    used = set(concepts.words) | set(concepts.held_out)
    with torch.no_grad():
        words_WC, others_PC = tower.embed(concepts.words), tower.embed([p for p in phrases if p not in used])
    wanted_WW = torch.from_numpy(wanted_cosines(concepts)).float()
    is_pair_WW = ~torch.eye(len(words_WC), dtype=torch.bool)
    alike_WW, apart_WW = (wanted_WW == SAME) & is_pair_WW, (wanted_WW >= 0) & (wanted_WW < SAME)
    usual_PP, unity = others_PC @ others_PC.T, torch.eye(words_WC.shape[1])
    tower.requires_grad_(False)
    weight = tower.turned.weight.requires_grad_(True)
    optimizer = torch.optim.Adam([weight], lr=RATE)
    for _ in range(STEPS):
        turned_WC = tower.turn(words_WC + NOISE * torch.randn_like(words_WC))
        others = tower.turn(others_PC)
        cosine_WW, cosine_PP = turned_WC @ turned_WC.T, others @ others.T
        loss = (1 - cosine_WW[alike_WW]).square().mean()
        loss = loss + APART * F.relu(cosine_WW[apart_WW] - wanted_WW[apart_WW]).square().mean()
        loss = loss + KEPT * (cosine_PP - usual_PP).square().mean() + NEAR * (weight - unity).square().sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    tower.requires_grad_(False)


def wanted_cosines(concepts: Concepts) -> NDArray[np.float64]:
    """(W, W): 1 for words of one concept, `NEVER` or `SELDOM` as a largest cosine, -1 where nothing is wanted."""
    truth_VK = concepts.truth[: len(LAND_COVERS)]
    holds, may_hold = (truth_VK == TRUE).astype(float), (truth_VK != FALSE).astype(float)
    wanted_KK = np.where(may_hold.T @ may_hold == 0, NEVER, np.where(holds.T @ holds == 0, SELDOM, UNKNOWN))
    np.fill_diagonal(wanted_KK, SAME)
    of_word = [[k for k, one in enumerate(concepts.concepts) if word in one.words] for word in concepts.words]
    wanted_WW = np.full((len(of_word), len(of_word)), NEVER)
    for row, mine in enumerate(of_word):
        for col, theirs in enumerate(of_word):
            if mine and theirs:  # absurd words belong to no concept
                pair = wanted_KK[np.ix_(mine, theirs)]
                wanted_WW[row, col] = SAME if (pair == SAME).any() else UNKNOWN if (pair < 0).any() else pair.max()
    return wanted_WW
