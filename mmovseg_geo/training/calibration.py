"""The last step of training: how far the words of a map lean toward yes or no.

Shape suffixes: N pixels, T words, K kinds of land cover.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch.nn import functional as F

from mmovseg_geo.models.mmovseg.compact import SpeakingHead
from mmovseg_geo.models.mmovseg.network import MMOVSeg
from mmovseg_geo.models.mmovseg.text_tower import TextTower
from mmovseg_geo.training.concepts import FALSE, TRUE, UNASKED

STEPS = (1.0, 0.5, 0.25)
ROUNDS = 3
FACTORS = (0.1, 10.0)
"""The least and the most that logits are multiplied by."""
CLAIMS = np.arange(-6, 6.01, 0.125)
"""What is tried to be added to the logits of a word that is told from a background."""
GIVEN_UP = 0.01
"""Share of the best that is given up to add less: over two logits it matters little how much is added, and what is best
among them is chance; beyond them a word is said wherever nothing speaks against it."""
RARE = 0.02
"""Share of a group's pixels below which a word says nothing of how it is told from the rest: it is of a few places."""
KEPT = 0.75
"""Share of the best offsets by which words lean: they are of a few places. With each place of calibration left out in
turn, in three folds, half and three quarters of them served it better than all or none."""
LEAST = 1e-2
"""Share of the most that words lean together below which they are not told apart."""
Words = Mapping[str, NDArray[np.bool_]]
"""The words of a map, and which kinds of land cover (K,) each stands for."""
Offsets = NDArray[np.float64]


class Answers(NamedTuple):
    """Logits (N, T) of some pixels and the truth (N, T): 1 true, 0 false, -1 not asked."""

    logits: NDArray[np.float32]
    truth: NDArray[np.int8]


@torch.no_grad()
def hear_as_on_maps(network: MMOVSeg, words: Words) -> None:
    """Let each kind of land cover be heard as the word of the map that stands for it; others are heard as before.

    Simulated scenes part a desert from a beach and from a field's bare soil, real maps do not: what the encoders say of
    a real picture is the map's word. So "desert", whose nearest kind pictures seldom show, is heard as "bare ground".
    """
    head = _head(network)
    covered_KT = torch.from_numpy(np.stack(list(words.values()), axis=1)).float()
    meant_TC = F.normalize(_nearest(network, words) @ F.normalize(head.vectors, dim=-1), dim=-1)
    of_a_word_K = covered_KT.any(1)
    head.heard[of_a_word_K] = F.normalize(covered_KT @ meant_TC, dim=-1)[of_a_word_K]


@torch.no_grad()
def lean(network: MMOVSeg, words: Words, answers: Mapping[str, Answers]) -> Offsets:
    """Set how far words lean beside each other and return it in logits (T,), 0 in the mean: most of what would serve
    these answers best.

    A weight for rare words in the loss and questions that seek out what is there make a network say yes more often
    than maps do, or less. What is judged is the word with the highest score, in the mean over groups of answers.
    """
    offsets = KEPT * best_offsets(answers, len(words))
    _head(network).leaning.add_(_of_kinds(network, words, offsets))
    return offsets


@torch.no_grad()
def trust(network: MMOVSeg, answers: Mapping[str, Answers], offsets: Offsets) -> tuple[float, float]:
    """Add one number to all logits and multiply them by another, so that scores are as high as answers are right.

    Which word is the highest does not change. What is judged is how the score of the best word agrees with how often it
    is true (Platt's scaling), on pixels of which one word is known to be true, in all groups alike.

    Returns:
        the factor and what is added before.
    """
    factor, shift = best_trust(answers, offsets)
    head = _head(network)
    last = head.decoder.head
    assert last.bias is not None, "the last layer has an offset"
    last.bias.add_(shift).mul_(factor)
    for part in (last.weight, head.leaning, head.claiming):
        part.mul_(factor)
    return factor, shift


@torch.no_grad()
def claim(network: MMOVSeg, words: Words, answers: Mapping[str, Answers]) -> Offsets:
    """Set how much further words lean where each is told from a background, and return it in logits (T,).

    How often a word is true of maps of the world says little of a map whose user asks for this word. So each is judged
    by itself as if it were true of half of the pixels.

    Args:
        answers: of the network as it leans and is trusted.
    """
    offsets = even_offsets(answers, len(words))
    _head(network).claiming.copy_(_of_kinds(network, words, offsets))
    return offsets


def _head(network: MMOVSeg) -> SpeakingHead:
    assert isinstance(network.head, SpeakingHead), "a compact network leans"
    return network.head


def _of_kinds(network: MMOVSeg, words: Words, offsets: Offsets) -> torch.Tensor:
    """How far each kind of land cover leans (K,), so that words lean by the offsets (T,).

    All kinds that a word stands for lean alike, by that word; those of several words by their mean; others do not lean.
    So "gravel" leans as "bare ground" does, though sentences use them differently.
    """
    covered_KT = np.stack(list(words.values()), axis=1).astype(float)
    covered_KT /= np.maximum(covered_KT.sum(1, keepdims=True), 1)
    together_TT = _nearest(network, words).numpy() @ covered_KT
    return torch.from_numpy(covered_KT @ np.linalg.lstsq(together_TT, offsets, rcond=LEAST)[0]).float()


def _nearest(network: MMOVSeg, words: Words) -> torch.Tensor:
    """Shares (T, K) of the kinds in what words mean."""
    assert isinstance(network.text, TextTower), "a compact network carries its text tower"
    return _head(network).nearest(network.text.embed(tuple(words)))


def best_trust(answers: Mapping[str, Answers], offsets: Offsets) -> tuple[float, float]:
    """Factor and what is added before, by which the score of the best word tells best whether it is true."""
    judged = [_of_the_best(part, offsets) for part in answers.values()]

    def doubt(line: NDArray[np.float64]) -> float:
        """Mean cross-entropy."""
        logits = ((line[0] * highest + line[1], right) for highest, right in judged)
        return float(np.mean([np.logaddexp(0, np.where(right, -z, z)).mean() for z, right in logits]))

    slope, intercept = minimize(doubt, np.array([1.0, 0.0]), bounds=[FACTORS, (None, None)]).x
    return float(slope), float(intercept / slope)


def _of_the_best(part: Answers, offsets: Offsets) -> tuple[Offsets, NDArray[np.bool_]]:
    """Logit of the best word, and whether it is true, of each pixel of which one word is known to be true."""
    is_true = part.truth == TRUE
    decided = is_true.sum(1) == 1
    logits = np.where(part.truth == UNASKED, -np.inf, part.logits + offsets)[decided]
    best = logits.argmax(1)
    return logits.max(1), is_true[decided, best]


def even_offsets(answers: Mapping[str, Answers], count: int) -> Offsets:
    """For each word (T,) what is best added to its logits if it is true of every second pixel.

    The IoU of a word is then the share of its pixels that are found over one and the share of others that are taken for
    it. Of what serves nearly as well the least is taken. Nothing is added to words that are rare, or of which it is not
    known where they are false.
    """
    found = np.zeros(count)
    for word in range(count):
        judged = []
        for logits, truth in answers.values():
            true, false = (logits[truth[:, word] == said, word] for said in (TRUE, FALSE))
            if RARE <= len(true) / max(len(true) + len(false), 1) < 1:
                judged.append([(true + move > 0).mean() / (1 + (false + move > 0).mean()) for move in CLAIMS])
        if judged:
            served = np.mean(judged, 0)
            enough = CLAIMS[served >= (1 - GIVEN_UP) * served.max()]
            found[word] = enough[np.abs(enough).argmin()]
    return found


def best_offsets(answers: Mapping[str, Answers], count: int) -> Offsets:
    """One number for each word to add to its logits (T,), found word by word in ever smaller steps."""
    judged = judge(answers)
    offsets = max(np.zeros(count), as_often_as_true(answers, count), key=judged)
    best = judged(offsets)
    for step in STEPS:
        for _ in range(ROUNDS):
            for word in range(count):
                for move in (-step, step):
                    tried = offsets.copy()
                    tried[word] += move
                    if (value := judged(tried)) > best:
                        best, offsets = value, tried
    return np.asarray(offsets - offsets.mean())  # all alike change no winner


def as_often_as_true(answers: Mapping[str, Answers], count: int) -> Offsets:
    """Offsets (T,) by which each word is said of as many pixels as it is true of, the mean over groups.

    A search has to begin near: a word far below the others wins no pixel, and a small step of its own changes nothing.
    """
    offsets = np.zeros(count)
    for word in range(count):
        found = []
        for logits, truth in answers.values():
            asked = truth[:, word] != UNASKED
            if (truth[asked, word] == TRUE).any():
                share = (truth[asked, word] == TRUE).mean()
                found.append(-np.quantile(logits[asked, word], 1 - share))
        offsets[word] = np.mean(found) if found else 0.0
    return offsets


def judge(answers: Mapping[str, Answers]) -> Callable[[Offsets], float]:
    """How well logits with offsets answer, 0..1."""

    def judged(offsets: Offsets) -> float:
        return float(np.mean([quality(part, offsets) for part in answers.values()]))

    return judged


def quality(part: Answers, offsets: Offsets) -> float:
    """Mean IoU of the words that occur, of the best among those asked for each pixel."""
    logits = part.logits + offsets.astype(np.float32)
    is_true, is_false = part.truth == TRUE, part.truth == FALSE
    # Only pixels of which one word is known to be true tell which word should win.
    decided = is_true.sum(1) == 1
    best = np.where(is_true | is_false, logits, -np.inf).argmax(1)
    said = best[decided, None] == np.arange(logits.shape[1])
    return float(_iou(said, is_true[decided], is_false[decided])[is_true.any(0)].mean())


def _iou(said: NDArray[np.bool_], is_true: NDArray[np.bool_], is_false: NDArray[np.bool_]) -> NDArray[np.float64]:
    hits = (said & is_true).sum(0)
    return np.asarray(hits / np.maximum((is_true | (said & is_false)).sum(0), 1))
