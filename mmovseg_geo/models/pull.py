"""A name's weights brought to this machine. What opens them takes seconds to import, and waits until they are here."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Callable
from pathlib import Path

from mmovseg_geo.errors import ConfigError, OutputError, WeightsError
from mmovseg_geo.models import hub, registry
from mmovseg_geo.models.registry import Entry

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
        from mmovseg_geo.models.weights import bundled_weights

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
    from mmovseg_geo.models.convert import Converted, convert, write
    from mmovseg_geo.models.pickled import read_checkpoint
    from mmovseg_geo.models.verify import as_converted
    from mmovseg_geo.models.weights import metadata

    out = registry.stored(found.name)
    details = metadata(given) if given.suffix == ".safetensors" else {}
    if "variant" in details:
        network, _ = as_converted(given, found)
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
        from mmovseg_geo.models.convert import check_fits
        from mmovseg_geo.models.verify import shapes

        check_fits(found.network or "", shapes(path, what), what)

    def whole(path: Path) -> None:
        if found.member is None:
            from mmovseg_geo.models.pickled import check_kind

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
    from mmovseg_geo.models.convert import convert, write

    try:
        path = write(convert(raw, found=found, trust_pickle=trust_pickle), registry.stored(found.name), overwrite=True)
    except WeightsError as error:
        raise WeightsError(f"{error}\n  It is kept at {raw}; --overwrite fetches it again.") from error
    logger.info("The published file stays at %s (%.1f GB); it is not needed to run.", raw, raw.stat().st_size / 1e9)
    return path
