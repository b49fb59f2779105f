"""State dicts: keys of other programs to ours and back, and strict loading.

A rule reads (their keys, our keys). `{}` stands for a number and `{*}` for anything, the same on both sides. One to
one renames; several of theirs to one of ours are joined along rows; one of theirs to several of ours is cut into equal
rows; theirs without ours is left out on purpose. The first rule that fits wins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmovseg_geo.errors import WeightsError, a_few


class Rule(NamedTuple):
    """Keys of another layout and the keys of ours they become; `None` is a part that is not kept."""

    theirs: tuple[str, ...]
    ours: tuple[str | None, ...]


def same(theirs: str, ours: str) -> Rule:
    """A key that only has another name."""
    return Rule((theirs,), (ours,))


def rename(state: Mapping[str, Tensor], table: Iterable[Rule]) -> dict[str, Tensor]:
    """The tensors of another layout under our keys.

    Raises:
        WeightsError: a key that no rule knows, or a joined key of which a part is missing.
    """
    table = tuple(table)
    renamed: dict[str, Tensor] = {}
    unknown = []
    for key in state:
        found = _match(key, table)
        if found is None:
            unknown.append(key)
            continue
        rule, slot, filling = found
        if slot or not rule.ours:
            continue
        sources = [_fill(theirs, filling) for theirs in rule.theirs]
        absent = [source for source in sources if source not in state]
        if absent:
            raise WeightsError(f"The checkpoint has {key} without {a_few(absent)}.")
        parts = [state[source] for source in sources]
        whole = parts[0] if len(parts) == 1 else torch.cat(parts)
        for ours, rows in zip(rule.ours, whole.chunk(len(rule.ours)) if len(rule.ours) > 1 else (whole,), strict=True):
            if ours is not None:
                renamed[_fill(ours, filling)] = rows
    if unknown:
        raise WeightsError(f"Not a checkpoint of this network: unknown keys {a_few(unknown)}.")
    return renamed


def their_shapes(ours: Mapping[str, tuple[int, ...]], table: Iterable[Rule]) -> dict[str, tuple[int, ...]]:
    """Keys and shapes in the other layout, from those of ours; without what is left out.

    Raises:
        WeightsError: a key of ours that none of theirs fills.
    """
    table = tuple(table)
    shapes: dict[str, tuple[int, ...]] = {}
    for key, shape in ours.items():
        for rule in table:
            fillings = (capture(part, key) for part in rule.ours if part is not None)
            filling = next((found for found in fillings if found is not None), None)
            if filling is not None:
                break
        else:
            raise WeightsError(f"No key of theirs fills {key}.")
        rows = shape[0] * len(rule.ours) // len(rule.theirs) if shape else 0
        for theirs in rule.theirs:
            shapes[_fill(theirs, filling)] = (rows, *shape[1:]) if shape else ()
    return shapes


def load(network: nn.Module, state: Mapping[str, Tensor], *, source: str = "The state dict") -> None:
    """Put `state` into the network, which may be on the meta device; tensors are taken over, dtype included.

    Raises:
        WeightsError: missing, unexpected or differently shaped entries; the network is left as it was.
    """
    expected = network.state_dict()
    missing = [key for key in expected if key not in state]
    unexpected = [key for key in state if key not in expected]
    reshaped = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected
        if key in state and state[key].shape != expected[key].shape
    ]
    problems = [("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped)]
    found = "; ".join(f"{len(keys)} {what}: {a_few(keys, 12)}" for what, keys in problems if keys)
    if found:
        raise WeightsError(f"{source} does not fit the network: {found}.")
    network.load_state_dict(state, strict=True, assign=True)


def capture(template: str, key: str) -> tuple[str, ...] | None:
    """What the braces of a template stand for in a key, or None where it does not fit."""
    pattern = re.escape(template).replace(r"\{\}", r"(\d+)").replace(r"\{\*\}", "(.+)")
    found = re.fullmatch(pattern, key)
    return found.groups() if found else None


def _match(key: str, table: tuple[Rule, ...]) -> tuple[Rule, int, tuple[str, ...]] | None:
    for rule in table:
        for slot, theirs in enumerate(rule.theirs):
            filling = capture(theirs, key)
            if filling is not None:
                return rule, slot, filling
    return None


def _fill(template: str, filling: tuple[str, ...]) -> str:
    parts = iter(filling)
    return re.sub(r"\{\*?\}", lambda _: next(parts), template)
