"""Checkpoints as others publish them: tensors by name, without running what a pickle may carry."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mmovseg_geo.errors import WeightsError
from mmovseg_geo.models.registry import absent

WRAPPERS = ("state_dict", "model", "teacher")
"""Entries under which training programs keep the weights, beside optimizer, schedule and epoch."""

PARALLEL = "module."
"""What data-parallel training puts before every key."""

_ZIP, _PICKLE, _POINTER = b"PK\x03\x04", b"\x80", b"version https://git-lfs"


def read_checkpoint(path: str | Path, *, trust_pickle: bool = False) -> dict[str, Tensor]:
    """Every tensor of a safetensors or torch file by name, on the CPU, in the precision it is stored in.

    The wrappers `state_dict`, `model` and `teacher` are opened and a leading `module.` is dropped; entries that are no
    tensors are left out.

    Args:
        trust_pickle: also run the code that a pickled file may carry; only for files whose source you trust.

    Raises:
        WeightsError: missing, cut off, no checkpoint, or (without `trust_pickle`) a pickle of more than tensors.

    >>> sorted(read_checkpoint("upsampler.ckpt"))[:1]  # doctest: +SKIP
    ['upsampler.fixup_proj.1.bias']
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(absent(path))
    found = _safetensors(path) if path.suffix == ".safetensors" else _unwrapped(_loaded(path, trust_pickle), path)
    if not found:
        raise WeightsError(f"{path}: holds no tensors, so it is no checkpoint.")
    return {key.removeprefix(PARALLEL): value for key, value in found.items()}


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise _cut_off(path, f"cannot be read as safetensors ({error})") from error


def _loaded(path: Path, trust_pickle: bool) -> Any:
    """What the file unpickles to."""
    archive = check_kind(path)
    # Memory-mapped, the states of the optimizer, which may be two thirds of the file, are never read.
    options: dict[str, Any] = {"map_location": "cpu", "mmap": archive}
    try:
        return torch.load(path, weights_only=True, **options)
    except pickle.UnpicklingError as error:
        carried = re.search(r"GLOBAL ([\w.]+)", str(error))
        if carried is None:
            raise _cut_off(path, "cannot be unpickled") from error
        if not trust_pickle:
            raise _refused(path, f"it carries {carried[1]}") from error
    except (RuntimeError, EOFError, OSError) as error:
        if "TorchScript" not in str(error):
            raise _cut_off(
                path, f"cannot be read ({str(error).splitlines()[0] if str(error) else 'it ends early'})"
            ) from error
        if not trust_pickle:
            raise _refused(path, "it is a TorchScript program") from error
        options = {"map_location": "cpu"}
    try:
        return torch.load(path, weights_only=False, **options)
    except Exception as error:  # a pickle can fail in any way, as it runs the code of others
        raise WeightsError(f"{path}: cannot be unpickled: {type(error).__name__}: {error}.") from error


def check_kind(path: Path) -> bool:
    """Whether the file is an archive of `torch.save`, told from its first bytes; the older plain pickle is not.

    Raises:
        WeightsError: it is neither.
    """
    with path.open("rb") as file:
        start = file.read(len(_POINTER))
    if not start:
        raise WeightsError(f"{path}: the file is empty. Get it again.")
    if start == _POINTER:
        raise WeightsError(
            f"{path}: a pointer to a file in Git LFS, not the file itself.\n"
            "  Get the file from the repository's web page, or with `git lfs pull`."
        )
    if start.startswith(_ZIP):
        if not zipfile.is_zipfile(path):
            raise _cut_off(path, "an archive whose end is missing")
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if not any(name.endswith("data.pkl") for name in names):
            listed = ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
            raise WeightsError(f"{path}: an archive, but not one of torch: it holds {listed}. Unpack it first.")
        return True
    if not start.startswith(_PICKLE):
        raise WeightsError(
            f"{path}: not a checkpoint; it begins with {start[:12]!r}. A download that failed often leaves a web page."
        )
    return False


def _unwrapped(loaded: Any, path: Path) -> dict[str, Tensor]:
    if isinstance(loaded, torch.nn.Module):
        return dict(loaded.state_dict())
    while isinstance(loaded, Mapping):
        inner = next((loaded[name] for name in WRAPPERS if isinstance(loaded.get(name), Mapping)), None)
        if inner is None:
            return {str(key): value for key, value in loaded.items() if isinstance(value, Tensor)}
        loaded = inner
    raise WeightsError(f"{path}: not a checkpoint; it holds a {type(loaded).__name__} instead of tensors by name.")


def _refused(path: Path, why: str) -> WeightsError:
    return WeightsError(
        f"{path}: opening it could run code of others: {why}.\n"
        "  If you trust where the file comes from, say --trust-pickle; safer is to ask its authors for safetensors."
    )


def _cut_off(path: Path, found: str) -> WeightsError:
    return WeightsError(
        f"{path}: {found}. The file is damaged or incomplete ({path.stat().st_size} bytes): get it again."
    )
