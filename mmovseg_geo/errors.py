"""Every way it can go wrong. A message says what was found, what was expected and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class MmovsegError(Exception):
    """Base of all errors a user can meet; the command line prints it without a traceback."""


class ConfigError(MmovsegError):
    """A setting that does not fit."""


class VocabularyError(MmovsegError):
    """No classes, duplicates, or a name that cannot be used."""


class SceneError(MmovsegError):
    """Inputs that cannot become one scene."""


class MissingCRS(SceneError):
    """A raster without a coordinate reference system where one is needed."""


class NoOverlap(SceneError):
    """Optical and SAR cover different places."""


class MissingBand(SceneError):
    """A band that was asked for, or is needed, is not there."""


class RegistrationFailed(SceneError):
    """The shift between SAR and optical could not be estimated."""


class WeightsError(MmovsegError):
    """Weights that are missing, altered, or made for another network."""


class OutputError(MmovsegError):
    """An output exists already, has an unknown suffix, or cannot be written."""


class TrainingFailed(MmovsegError):
    """A training run that cannot go on, such as one whose loss is no number."""


class ClusterError(MmovsegError):
    """A Dask cluster that cannot be reached, or whose workers cannot do the work."""


OUT_OF_MEMORY = "Out of memory. Use smaller tiles or batches (--tile-size, --batch-size), or --no-polygons."

_OUT_OF_MEMORY_TEXTS = ("DefaultCPUAllocator", "CUDA error: out of memory", "_STATUS_ALLOC_FAILED")
"""How torch says it on a CPU, and how CUDA, cuBLAS and cuDNN say it on a GPU."""


class OutOfMemory(MmovsegError):
    """Memory that does not suffice for the smallest piece of work."""


class DeviceFailed(MmovsegError):
    """A GPU that stopped working."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python's, or that of torch, some of whose errors are told by their text alone."""
    if isinstance(error, (MemoryError, OutOfMemory)) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY_TEXTS)


def is_device_failure(error: BaseException) -> bool:
    """Whether a GPU failed: lost, unplugged, or stopped by its driver; torch tells it by the text alone."""
    return isinstance(error, RuntimeError) and "CUDA error" in str(error) and not is_out_of_memory(error)


def did_you_mean(name: str, known: Iterable[str], *, otherwise: str | None = None) -> str:
    """Advice on a name that is not known: the one it looks like, whatever the capitals, or else `otherwise`.

    Args:
        otherwise: a sentence; by default a list of the known names.

    >>> did_you_mean("Treshold", ["segearth-ov", "threshold"])
    'Did you mean threshold?'
    """
    spelled = {one.casefold(): one for one in known}
    near = get_close_matches(name.casefold(), spelled, n=1)
    if near:
        return f"Did you mean {spelled[near[0]]}?"
    return f"Known: {', '.join(spelled.values())}." if otherwise is None else otherwise


def a_few(items: Iterable[object], most: int = 6) -> str:
    """The first items, and how many more there are.

    >>> a_few("abcdefgh")
    'a, b, c, d, e, f and 2 more'
    """
    shown = [str(item) for item in items]
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more
