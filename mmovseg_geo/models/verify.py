"""Weights files read wholly and compared with all that is known of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mmovseg_geo.errors import WeightsError
from mmovseg_geo.models import hub, registry
from mmovseg_geo.models.convert import CHECKSUM, check_fits, checksum
from mmovseg_geo.models.pickled import read_checkpoint
from mmovseg_geo.models.registry import Entry
from mmovseg_geo.models.weights import SCALE, bundled_weights, open_weights


@dataclass(frozen=True)
class Verified:
    """A file that is what it should be.

    Attributes:
        sha256: of the file.
        checks: what was compared, in words.
    """

    path: Path
    network: str
    sha256: str
    checks: tuple[str, ...]


def verify(path: Path, found: Entry | None = None) -> Verified:
    """Read a weights file wholly and compare it with all that is known of it.

    Args:
        found: the name it goes by; None for a file of the user's.

    Raises:
        WeightsError: it differs in anything.
    """
    if found is not None and found.source is not None and found.source.kind == "package":
        weights = bundled_weights()
        return Verified(weights.path, weights.variant, weights.sha256, ("sha256 that came with the package",))
    if found is not None and found.source is not None and not found.converted and path != registry.stored(found.name):
        network, checks = _as_published(path, found)
    else:
        network, checks = as_converted(path, found)
    tensors = {key: shape for key, shape in shapes(path, path).items() if not key.endswith(SCALE)}
    check_fits(network, tensors, str(path))
    return Verified(path, network, hub.digest(path), (*checks, f"keys and shapes of {network}"))


def _as_published(path: Path, found: Entry) -> tuple[str, list[str]]:
    """A file of the hub, unchanged: its sha256 against those that the registry and the hub name."""
    assert found.source is not None, found.name
    assert found.network is not None, found.name
    digest, checks = hub.digest(path), []
    for promised, whose in ((found.source.sha256, "registry"), (hub.promised(path), "hub")):
        if promised and promised != digest:
            raise _altered(path, digest, promised, found)
        if promised:
            checks.append(f"sha256 that the {whose} names")
    return found.network, checks


def as_converted(path: Path, found: Entry | None) -> tuple[str, list[str]]:
    """A file of ours: its name, its network, and the checksum it was written with."""
    weights = open_weights(path)
    named = weights.details.get("name")
    if found is not None and (named not in (None, found.name) or weights.variant != found.network):
        raise WeightsError(
            f"{path} is {named or weights.variant}, a checkpoint of {weights.variant}; "
            f"expected {found.name}, one of {found.network}."
        )
    noted = weights.details.get(CHECKSUM)
    if noted is None:
        return weights.variant, []
    digest = checksum(read_checkpoint(path))
    if digest != noted:
        raise _altered(path, digest, noted, found)
    return weights.variant, ["checksum of the tensors, noted when it was converted"]


def shapes(path: Path, what: str | Path) -> dict[str, Tensor]:
    """Keys and shapes of a safetensors file, from its head alone; `what` is its name in messages."""
    try:
        with safe_open(path, framework="pt") as file:
            return {
                key: torch.empty(file.get_slice(key).get_shape(), device="meta")
                for key in file.keys()  # noqa: SIM118
            }
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{what}: cannot be read as safetensors ({error}): damaged, or something else.") from error


def _altered(path: Path, digest: str, expected: str, found: Entry | None) -> WeightsError:
    again = f" Get it again: mmovseg models pull {found.name} --overwrite" if found else " Make or get it again."
    return WeightsError(f"{path} was altered: its checksum is {digest[:12]}…, expected {expected[:12]}….\n {again}")
