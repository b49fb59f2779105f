"""The last step of training: how far the words of a map lean toward yes or no.

Shape suffixes: N pixels, T words, C channels of the text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mmovseg_geo.models.mmovseg.compact import SpeakingHead
from mmovseg_geo.models.mmovseg.network import MMOVSeg
from mmovseg_geo.models.mmovseg.text_tower import TextTower
from mmovseg_geo.training.concepts import FALSE, TRUE, UNASKED

STEPS = (1.0, 0.5, 0.25)
ROUNDS = 3
FACTORS = tuple(float(factor) for factor in np.geomspace(0.25, 4, 41))
RIDGE = 0.05
"""What is added to the likeness of a word to itself, so that words that are nearly the same lean alike."""

Offsets = NDArray[np.float64]


class Answers(NamedTuple):
    """Logits (N, T) of some pixels and the truth (N, T): 1 true, 0 false, -1 not asked."""

    logits: NDArray[np.float32]
    truth: NDArray[np.int8]


@torch.no_grad()
def lean(network: MMOVSeg, words: tuple[str, ...], answers: Mapping[str, Answers]) -> Offsets:
    """Set how far the network leans by what serves maps of the words best, and return it in logits (T,).

    A weight for rare words in the loss and questions that seek out what is there make a network say yes more often
    than maps do, or less. What is judged is the mean over groups of answers, half by each word alone at a score of one
    half, half by the word with the highest score.
    """
    assert isinstance(network.head, SpeakingHead), "a compact network leans"
    assert isinstance(network.text, TextTower), "a compact network carries its text tower"
    offsets = best_offsets(answers, len(words))
    text_TC = network.head.hear(network.text.embed(words))
    likeness = text_TC @ text_TC.T + RIDGE * torch.eye(len(words))
    strength = torch.linalg.solve(likeness, torch.from_numpy(offsets).float())
    network.head.leaning.add_(strength @ text_TC)
    return offsets


@torch.no_grad()
def trust(network: MMOVSeg, answers: Mapping[str, Answers], offsets: Offsets) -> float:
    """Multiply all logits by one number, which is returned, so that scores are as high as answers are right.

    Neither the sign of a logit nor which one is the highest changes. What is judged is how the score of the best word
    agrees with how often it is true, on pixels of which one word is known to be true, in all groups alike.
    """
    assert isinstance(network.head, SpeakingHead), "a compact network leans"
    factor = min(FACTORS, key=lambda factor: float(np.mean([_mistrust(a, offsets, factor) for a in answers.values()])))
    last = network.head.decoder.head
    last.weight.mul_(factor)
    assert last.bias is not None, "the last layer has an offset"
    last.bias.mul_(factor)
    network.head.leaning.mul_(factor)
    return factor


def _mistrust(part: Answers, offsets: Offsets, factor: float) -> float:
    """Mean cross-entropy of whether the best word is true, given its score."""
    is_true = part.truth == TRUE
    decided = is_true.sum(1) == 1
    logits = factor * np.where(part.truth == UNASKED, -np.inf, part.logits + offsets)[decided]
    best = logits.argmax(1)
    right = is_true[decided, best]
    highest = logits.max(1)
    return float(np.logaddexp(0, np.where(right, -highest, highest)).mean())


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
    return offsets


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
    """Mean IoU of the words that occur: half of each alone, half of the best among those asked."""
    logits = part.logits + offsets.astype(np.float32)
    is_true, is_false = part.truth == TRUE, part.truth == FALSE
    there = is_true.any(0)
    asked = is_true | is_false
    # Only pixels of which one word is known to be true tell which word should win.
    decided = is_true.sum(1) == 1
    best = np.where(asked, logits, -np.inf).argmax(1)
    said = best[decided, None] == np.arange(logits.shape[1])
    among = _iou(said, is_true[decided], is_false[decided])
    return float((alone(Answers(logits, part.truth))[there].mean() + among[there].mean()) / 2)


def alone(part: Answers) -> NDArray[np.float64]:
    """IoU of each word (T,) at a score of one half."""
    return _iou(part.logits > 0, part.truth == TRUE, part.truth == FALSE)


def _iou(said: NDArray[np.bool_], is_true: NDArray[np.bool_], is_false: NDArray[np.bool_]) -> NDArray[np.float64]:
    hits = (said & is_true).sum(0)
    return np.asarray(hits / np.maximum((is_true | (said & is_false)).sum(0), 1))
