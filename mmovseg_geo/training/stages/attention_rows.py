"""Query and value projections that learn, beside keys that do not, though open_clip keeps all three in one table."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

TABLE = "in_proj_weight"
PARTS = ("query", "key", "value")


class JoinedRows(nn.Module):
    """A table made of three blocks of rows, which are parameters of their own."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return torch.cat([query, key, value])

    def right_inverse(self, table: Tensor) -> tuple[Tensor, ...]:
        return tuple(rows.clone() for rows in table.chunk(len(PARTS)))


def split_attention(tower: nn.Module) -> list[nn.Parameter]:
    """Let the queries and values of every attention of a tower learn, and nothing else of it.

    The blocks become parameters of their own, so that weight decay, which moves a whole parameter, leaves the keys.
    """
    tower.requires_grad_(False)
    learning = []
    for attention in [part for part in tower.modules() if isinstance(part, nn.MultiheadAttention)]:
        parametrize.register_parametrization(attention, TABLE, JoinedRows())
        parametrizations: Any = attention.parametrizations
        for number, part in enumerate(PARTS):
            rows: nn.Parameter = getattr(parametrizations[TABLE], f"original{number}")
            rows.requires_grad_(part != "key")
            if part != "key":
                learning.append(rows)
    return learning


def joined_state(module: nn.Module) -> dict[str, Tensor]:
    """The state of a module under the names it had before `split_attention`."""
    state = dict(module.state_dict())
    marked = f".parametrizations.{TABLE}.original"
    for name in [name for name in state if name.endswith(f"{marked}0")]:
        place = name.removesuffix(f"{marked}0")
        rows = [state.pop(f"{place}{marked}{number}") for number in range(len(PARTS))]
        state[f"{place}.{TABLE}"] = torch.cat(rows)
    return state
