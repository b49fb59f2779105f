"""What a run leaves to go on from: written wholly or not at all, and refused where it does not fit."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmovseg_geo.errors import OutputError, WeightsError, a_few

FORMAT = 1
LAST, BEST = "last.pt", "best.pt"


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a file that has its name only when it is complete and on the disk.

    Raises:
        OutputError: it cannot be written; the file that was there before is left.
    """
    staged = path.with_name(f".{path.name}.unfinished")
    try:
        with staged.open("wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(path)
    except (OSError, RuntimeError) as error:
        with suppress(OSError):
            staged.unlink(missing_ok=True)
        kept = "The checkpoint before it is still there" if path.is_file() else "No earlier one is there"
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise OutputError(
            f"{path}: the checkpoint cannot be written ({reason}). {kept}.\n  Make room, then go on with --resume."
        ) from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What `write_checkpoint` wrote, on the CPU.

    Raises:
        WeightsError: no file, a damaged one, or one of another program.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such checkpoint.") from None
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = (str(error) or "it is empty").splitlines()[0]
        raise WeightsError(f"{path}: the checkpoint is damaged ({reason}).") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise WeightsError(f"{path}: no checkpoint of a training run, or one of another version of mmovseg.")
    return state


def check_weights(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> None:
    """Refuse trained weights of another network.

    Raises:
        WeightsError: says which entries differ.
    """
    wrong = [
        *(f"{name} is missing" for name in expected if name not in found),
        *(f"{name} is not known here" for name in found if name not in expected),
        *(
            f"{name} is {tuple(found[name].shape)} instead of {tuple(value.shape)}"
            for name, value in expected.items()
            if name in found and found[name].shape != value.shape
        ),
    ]
    if wrong:
        raise WeightsError(
            f"{path}: a checkpoint of another network than this recipe describes: {a_few(wrong)}.\n"
            "  Give the recipe that the run began with, or another folder."
        )
