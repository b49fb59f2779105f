"""The only room that talks to a hub: files into its cache, whole or not at all.

huggingface_hub asks, authenticates and keeps the cache that other programs share. We add what it left in its second
version: a download that was interrupted goes on where it stopped, and no file gets its name before its sha256 is right.
Honored at every call: `HF_HOME`, `HF_HUB_CACHE`, `HF_ASSETS_CACHE`, `HF_ENDPOINT`, `HF_HUB_OFFLINE`, `HF_TOKEN`.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256 as new_sha256
from pathlib import Path
from typing import Any, BinaryIO

from mmovseg_geo.errors import WeightsError

logger = logging.getLogger(__name__)

PUBLIC = "https://huggingface.co"
_SHA256 = re.compile("[0-9a-f]{64}")
_BLOCK = 1 << 22
_TRIES, _PAUSE_S = 4, 1.0
"""Tries that bring nothing before a download is given up, and the time between them."""

Check = Callable[[Path], None]
"""Raises where a file is not what was expected."""


def endpoint() -> str:
    """The hub that is asked: `HF_ENDPOINT`, which may be a mirror."""
    return (os.environ.get("HF_ENDPOINT") or PUBLIC).rstrip("/")


def offline() -> bool:
    """Whether the user forbids the network."""
    asked = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return asked.upper() in {"1", "ON", "YES", "TRUE"}


def cache_folder() -> Path:
    """Files as the hub has them."""
    return _folder(("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"), "hub")


def assets() -> Path:
    """Files that programs make of them."""
    return _folder(("HF_ASSETS_CACHE", "HUGGINGFACE_ASSETS_CACHE"), "assets")


def in_cache(repository: str, file: str, revision: str | None = None) -> Path | None:
    """A file of the hub that is on this machine already, whoever fetched it."""
    if not _storage(repository).is_dir():
        return None  # without the import, which costs more than all the rest
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, file, cache_dir=cache_folder(), revision=revision)
    return Path(found) if isinstance(found, str) else None


def fetch(
    repository: str,
    file: str,
    *,
    revision: str | None = None,
    sha256: str | None = None,
    check: Check | None = None,
    again: bool = False,
    quiet: bool = False,
) -> Path:
    """Bring a file into the cache; what an earlier call left unfinished is continued.

    Args:
        sha256: what the file must have; where the hub names one too, both are checked.
        check: looks at the complete file before it gets its name.
        again: fetch it even if it is there.
        quiet: draw no progress bar.

    Raises:
        WeightsError: offline, refused, unreachable, incomplete, altered, or refused by `check`; the cache holds no file
            that was not there before.
    """
    if offline():
        raise WeightsError(f"HF_HUB_OFFLINE is set, and {file} of {repository} is not in {cache_folder()}.")
    with _explained(repository, file, revision):
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
        from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

        url = hf_hub_url(repository, file, revision=revision, endpoint=endpoint())
        about = get_hf_file_metadata(url, endpoint=endpoint())
        if not about.commit_hash or not about.etag:
            raise WeightsError(
                f"{endpoint()} does not answer as a hub does: no {'commit' if about.etag else 'ETag'} for {file}.\n"
                "  Check HF_ENDPOINT, and whether a proxy or a sign-in page answers instead."
            )
        blob = _storage(repository) / "blobs" / about.etag
        lock = cache_folder() / ".locks" / _storage(repository).name / f"{about.etag}.mmovseg.lock"
        for folder in (blob.parent, lock.parent):
            folder.mkdir(parents=True, exist_ok=True)
        expected = {digest for digest in (sha256, about.etag) if digest and _SHA256.fullmatch(digest)}
        with WeakFileLock(lock):
            if again or not blob.is_file():
                _download(url, blob, about.size, expected, check, quiet)
                if pointer := in_cache(repository, file, revision):
                    pointer.unlink()  # where there are no links it is a copy of the old file
        options: dict[str, Any] = {"revision": revision, "cache_dir": cache_folder(), "endpoint": endpoint()}
        return Path(hf_hub_download(repository, file, **options))


def digest(path: Path) -> str:
    """The sha256 of a file, read in blocks."""
    found = new_sha256()
    with path.open("rb") as opened:
        while block := opened.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


def promised(path: Path) -> str | None:
    """The sha256 that the hub named for a file of its cache; None for small files, which it names otherwise."""
    name = path.resolve().name
    return name if _SHA256.fullmatch(name) else None


def _download(url: str, blob: Path, size: int | None, expected: set[str], check: Check | None, quiet: bool) -> None:
    """Write the blob, beside its place until it is whole and right."""
    partial = blob.with_name(f"{blob.name}.incomplete")
    if partial.is_file() and (size is None or partial.stat().st_size > size):
        partial.unlink()
    with partial.open("ab") as target:
        _receive(url, target, size, quiet)
    try:
        found = digest(partial) if expected else ""
        if expected - {found}:
            raise WeightsError(
                f"{url} has the sha256 {found[:12]}…, expected {min(expected - {found})[:12]}…; it was discarded.\n"
                "  It was damaged on the way, or replaced by its publishers. Try again; if it stays so, do not use it."
            )
        if check is not None:
            check(partial)
    except WeightsError:
        partial.unlink()
        raise
    partial.replace(blob)


def _receive(url: str, target: BinaryIO, size: int | None, quiet: bool) -> None:
    """Append to the target what it lacks; a connection that breaks is opened again as long as that brings anything."""
    from huggingface_hub import constants, errors, get_session
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, tqdm  # type: ignore[attr-defined]

    begun, idle = target.tell(), 0
    name = url.rpartition("/")[2]
    look: dict[str, Any] = {"desc": name, "unit": "B", "unit_scale": True, "disable": quiet or None}
    with tqdm(total=size, initial=begun, **look) as bar:  # type: ignore[no-untyped-call]
        while begun != size and idle < _TRIES:
            headers = (
                build_hf_headers() | {"Accept-Encoding": "identity"} | ({"Range": f"bytes={begun}-"} if begun else {})
            )
            options: dict[str, Any] = {"timeout": constants.HF_HUB_DOWNLOAD_TIMEOUT, "follow_redirects": True}
            before = begun
            try:
                with get_session().stream("GET", url, headers=headers, **options) as response:
                    hf_raise_for_status(response)
                    if begun and response.status_code != 206:  # a server that knows no ranges begins again
                        target.truncate(0)
                        begun = before = 0
                        bar.reset()
                    for block in response.iter_bytes():
                        target.write(block)
                        begun += len(block)
                        bar.update(len(block))
                if size is None:
                    return
            except errors.HfHubHTTPError:
                raise
            except errors.HTTPError as error:  # type: ignore[attr-defined]  # of the HTTP library, which differs by version
                if begun == before and idle + 1 == _TRIES:
                    raise
                logger.info("The connection broke at %d bytes (%s); going on.", begun, error)
            idle = 0 if begun > before else idle + 1
            if idle:
                time.sleep(_PAUSE_S)
    if begun != size:
        raise OSError(f"{begun} of {size} bytes came.")


@contextmanager
def _explained(repository: str, file: str, revision: str | None) -> Iterator[None]:
    """Errors of the hub and of the way to it, as messages that say what to do."""
    from huggingface_hub import errors

    what = f"{file} of {repository}"
    try:
        yield
    except errors.OfflineModeIsEnabled as error:
        # It keeps what the variable was when it was imported, whatever became of it since.
        raise WeightsError(
            f"{what} was not fetched: HF_HUB_OFFLINE was set when this program began. Start it again without."
        ) from error
    except errors.GatedRepoError as error:
        raise WeightsError(
            f"{what} is for those who accepted its terms (the hub answered {_status(error)}).\n"
            f"  Accept them at {endpoint()}/{repository}, then set HF_TOKEN or run `hf auth login`."
        ) from error
    except errors.HfHubHTTPError as error:
        raise WeightsError(_answer(what, _status(error), revision)) from error
    except errors.HTTPError as error:  # type: ignore[attr-defined]  # of the HTTP library, which differs by version
        raise WeightsError(
            f"{endpoint()} cannot be reached, or breaks off: {type(error).__name__}: {str(error).rstrip('.')}.\n"
            "  Check the network, proxies and HF_ENDPOINT. The same command again goes on where this one stopped."
        ) from error
    except OSError as error:
        if error.errno is not None:
            raise  # a disk that is full, a folder that cannot be written
        raise WeightsError(
            f"The download of {what} is incomplete: {str(error).splitlines()[0]}\n"
            "  The same command again goes on where this one stopped."
        ) from error


def _answer(what: str, status: int, revision: str | None) -> str:
    asked = f"{endpoint()} answered {status} for {what}" + (f" at {revision}" if revision else "")
    if status in (401, 403):
        return (
            f"{asked}: it does not exist, or is not for everyone.\n"
            "  If you have access, set HF_TOKEN or run `hf auth login`; an old token is refused too."
        )
    if status == 404:
        return f"{asked}: not there.\n  It may have been moved or withdrawn; a mirror (HF_ENDPOINT) may lack it."
    return f"{asked}: the hub has trouble, or asks to wait.\n  Try again later, or name a mirror with HF_ENDPOINT."


def _status(error: Any) -> int:
    return int(error.response.status_code)


def _storage(repository: str) -> Path:
    """The folder of a repository, in the layout that the hub documents for its cache."""
    return cache_folder() / f"models--{repository.replace('/', '--')}"


def _folder(variables: tuple[str, ...], name: str) -> Path:
    """The folder that one of the variables gives, else the one of that name beside the others: in `HF_HOME`."""
    for variable in variables:
        if given := os.environ.get(variable):
            return _path(given)
    if given := os.environ.get("HF_HOME"):
        return _path(given) / name
    return _path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface" / name


def _path(given: str) -> Path:
    return Path(os.path.expandvars(given)).expanduser()
