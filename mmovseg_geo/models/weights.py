"""Where weights are, what they may be used for, and their tensors, checked before use."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mmovseg_geo.errors import WeightsError
from mmovseg_geo.models import hub
from mmovseg_geo.models.registry import PICKLED, absent, as_published

BUNDLED = "compact.safetensors"
SCALE = ".scale"
"""Ends the name of what a tensor of bytes is multiplied by, row by row."""


@dataclass(frozen=True)
class Weights:
    """A checkpoint file that says what it is for.

    Attributes:
        variant: the network it belongs to, such as `mmovseg-compact`.
        licence: of the weights, which may differ from that of the code.
        classes: the classes it offers when none are asked for, each a name and synonyms.
        details: everything the file says of itself.
    """

    path: Path
    variant: str
    licence: str
    classes: tuple[tuple[str, ...], ...]
    details: dict[str, str]

    @cached_property
    def sha256(self) -> str:
        """Digest of the file."""
        return hub.digest(self.path)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by name, floating point ones in single precision."""
        try:
            with safe_open(self.path, framework="pt") as file:
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise _damaged(self.path, error) from error
        scales = {name.removesuffix(SCALE): found.pop(name) for name in list(found) if name.endswith(SCALE)}
        for name, scale in scales.items():
            found[name] = found[name].float() * scale.float()
        return {name: value.float() if value.is_floating_point() else value for name, value in found.items()}


def open_weights(path: str | Path) -> Weights:
    """The weights in a `.safetensors` file, by what its metadata says.

    Raises:
        WeightsError: the file is missing, damaged, or does not say which network it is for.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(absent(path))
    if path.name.endswith(PICKLED):
        raise WeightsError(as_published(path))
    details = metadata(path)
    if "variant" not in details:
        raise WeightsError(
            f"{path}: the file does not say which network it is for (no `variant` in its metadata).\n"
            "  Give weights written by mmovseg."
        )
    return Weights(path, details["variant"], details.get("licence", "unknown"), _classes(details, path), details)


def metadata(path: Path) -> dict[str, str]:
    """What a `.safetensors` file says of itself, read from its head alone.

    Raises:
        WeightsError: it cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def bundled_weights() -> Weights:
    """The weights of `mmovseg-compact` that come with the package, verified.

    Raises:
        WeightsError: the file is missing or is not the one that was published.
    """
    folder = Path(str(files("mmovseg_geo.models.mmovseg").joinpath("weights")))
    path, note = folder / BUNDLED, folder / f"{BUNDLED}.sha256"
    if not path.is_file() or not note.is_file():
        raise WeightsError(f"{path}: the bundled weights are missing. Install mmovseg-geo again.")
    expected = note.read_text(encoding="ascii").split()[0]
    found = hub.digest(path)
    if found != expected:
        raise WeightsError(
            f"{path}: the bundled weights are damaged (sha256 {found[:12]}…, expected {expected[:12]}…).\n"
            "  Install mmovseg-geo again, or give another file with --model PATH.safetensors."
        )
    return open_weights(path)


def packed(name: str, rows: Tensor) -> dict[str, Tensor]:
    """A table as signed bytes with a scale for each row, as `Weights.tensors` reads it back."""
    scale = rows.abs().amax(1, keepdim=True).clamp(min=1e-6) / 127
    return {name: (rows / scale).round().to(torch.int8), name + SCALE: scale.to(torch.float16)}


def _classes(details: dict[str, str], path: Path) -> tuple[tuple[str, ...], ...]:
    try:
        found: list[str | list[str]] = json.loads(details.get("classes", "[]"))
        return tuple((one,) if isinstance(one, str) else tuple(one) for one in found)
    except (ValueError, TypeError) as error:
        raise WeightsError(
            f"{path}: the `classes` in its metadata are {details['classes'][:40]!r}; expected a JSON list\n"
            "  with the words of each class. Write the file again."
        ) from error


def _damaged(path: Path, error: Exception) -> WeightsError:
    return WeightsError(
        f"{path}: cannot be read as safetensors ({error}).\n"
        "  The file is damaged or incomplete, or is no weights file: get it again, or give another."
    )
