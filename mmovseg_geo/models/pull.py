"""A name's weights brought to this machine, and checked there."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mmovseg_geo.errors import ConfigError, OutputError, WeightsError
from mmovseg_geo.models import hub, registry
from mmovseg_geo.models.convert import CHECKSUM, Converted, check_fits, checksum, convert, write
from mmovseg_geo.models.pickled import check_kind, read_checkpoint
from mmovseg_geo.models.registry import Entry
from mmovseg_geo.models.weights import SCALE, bundled_weights, metadata, open_weights

logger = logging.getLogger(__name__)


def pull(
    name: str,
    *,
    given: Path | None = None,
    trust_pickle: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> dict[str, Path]:
    """The file of a name, or of each of its parts: fetched if it is not here yet, checked, and converted if pickled.

    Args:
        given: take this file instead of asking the hub.
        trust_pickle: as in `read_checkpoint`.
        overwrite: fetch or take it even if it is here.
        quiet: draw no progress bar.

    Raises:
        ConfigError: there is no such name, or a file was given for a system of several parts.
        WeightsError: it cannot be had, or is not what it should be; nothing is left that passes for it.
    """
    found = registry.entry(name)
    if found.source is None:
        return _parts(found, given, trust_pickle=trust_pickle, overwrite=overwrite, quiet=quiet)
    if found.source.kind == "package":
        return {name: bundled_weights().path}
    here = registry.cached(name)
    if here is not None and not overwrite:
        if given is not None:
            raise OutputError(f"{name} is here already, at {here}. Add --overwrite to replace it.")
        return {name: here}
    if given is not None:
        return {name: _taken(found, given, trust_pickle)}
    if found.source.kind == "web":
        raise WeightsError(f"{name} cannot be fetched.\n{registry.how_to_get(found)}")
    return {name: _fetched(found, trust_pickle, overwrite, quiet)}


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
        network, checks = _as_converted(path, found)
    tensors = {key: shape for key, shape in _shapes(path, path).items() if not key.endswith(SCALE)}
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


def _as_converted(path: Path, found: Entry | None) -> tuple[str, list[str]]:
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


def _parts(found: Entry, given: Path | None, *, trust_pickle: bool, overwrite: bool, quiet: bool) -> dict[str, Path]:
    if given is not None:
        raise ConfigError(
            f"{found.name} is put together from {', '.join((*found.parts, *found.wanted))}.\n"
            "  Say which of them the file is: mmovseg models pull PART --from FILE"
        )
    got: dict[str, Path] = {}
    for part in (*found.parts, *found.wanted):
        source = registry.entry(part).source
        if part in found.wanted and source is not None and source.kind == "web" and registry.cached(part) is None:
            logger.warning(
                "%s runs without %s, but not as published.\n%s",
                found.name, part, registry.how_to_get(registry.entry(part)),
            )  # fmt: skip
            continue
        got |= pull(part, trust_pickle=trust_pickle, overwrite=overwrite, quiet=quiet)
    return got


def _taken(found: Entry, given: Path, trust_pickle: bool) -> Path:
    """A file that the user brought, which is the published one or one that was converted elsewhere."""
    assert found.source is not None, found.name
    if not given.is_file():
        raise WeightsError(registry.absent(given))
    out = registry.stored(found.name)
    details = metadata(given) if given.suffix == ".safetensors" else {}
    if "variant" in details:
        network, _ = _as_converted(given, found)
        return write(Converted(network, read_checkpoint(given), details), out, overwrite=True)
    if found.source.sha256 is not None:
        digest, expected = hub.digest(given), found.source.sha256
        if digest != expected:
            raise WeightsError(
                f"{given} is not the published {found.name}: its sha256 is {digest[:12]}…, expected {expected[:12]}….\n"
                f"  Get {found.source.file} again from {found.source.address}."
            )
    return write(convert(given, found=found, trust_pickle=trust_pickle), out, overwrite=True)


def _fetched(found: Entry, trust_pickle: bool, overwrite: bool, quiet: bool) -> Path:
    source = found.source
    assert source is not None, found.name
    what = f"{source.file} of {source.repository}"

    def fitting(path: Path) -> None:
        check_fits(found.network or "", _shapes(path, what), what)

    def whole(path: Path) -> None:
        if found.member is None:
            check_kind(path)
        elif not zipfile.is_zipfile(path):
            raise WeightsError(f"{what}: the end of the archive is missing; it was discarded. Fetch it again.")

    def fetch(check: Callable[[Path], None]) -> Path:
        about = {"revision": source.revision, "sha256": source.sha256}
        try:
            return hub.fetch(source.repository, source.file, **about, check=check, again=overwrite, quiet=quiet)
        except WeightsError as error:
            other = f"Or bring the file from elsewhere: mmovseg models pull {found.name} --from {source.file}"
            raise WeightsError(f"{error}\n  {other}") from error

    if hub.offline():
        raise WeightsError(f"{found.name} cannot be fetched.\n{registry.how_to_get(found)}")
    if not found.converted:
        return fetch(fitting)
    raw = (None if overwrite else hub.in_cache(source.repository, source.file, source.revision)) or fetch(whole)
    try:
        path = write(convert(raw, found=found, trust_pickle=trust_pickle), registry.stored(found.name), overwrite=True)
    except WeightsError as error:
        raise WeightsError(f"{error}\n  It is kept at {raw}; --overwrite fetches it again.") from error
    logger.info("The published file stays at %s (%.1f GB); it is not needed to run.", raw, raw.stat().st_size / 1e9)
    return path


def _shapes(path: Path, what: str | Path) -> dict[str, Tensor]:
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
