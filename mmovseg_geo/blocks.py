"""Finished strips of a map on disk: each file is whole, or does not count."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmovseg_geo.errors import OutputError

SUFFIX = ".strip"
LEVEL = 1
"""Of the compression: labels of neighbors are alike, so that more effort saves little."""


@dataclass(frozen=True, eq=False)
class Strip:
    """All columns of some rows: class values (H, W) and confidence (H, W) 0..100, from `row` of the map on."""

    row: int
    labels: NDArray[Any]
    confidence: NDArray[np.uint8]

    @property
    def bottom(self) -> int:
        """The row below."""
        return self.row + len(self.labels)

    @classmethod
    def joined(cls, parts: list[Strip]) -> Strip:
        """Strips that follow each other as one."""
        if len(parts) == 1:
            return parts[0]
        labels, confidence = ([getattr(part, name) for part in parts] for name in ("labels", "confidence"))
        return cls(parts[0].row, np.concatenate(labels), np.concatenate(confidence))


class Blocks:
    """The finished strips of one map, a file each, in a folder.

    A file appears under its name when it is written whole, and carries a checksum: one that a crash, a full disk or a
    bad one left torn is not there. Processes on many machines may put strips into one folder.

    >>> blocks = Blocks(tempfile.mkdtemp())
    >>> blocks.put(Strip(64, np.ones((2, 3), np.uint8), np.ones((2, 3), np.uint8)))
    >>> blocks.get(64).bottom, blocks.get(0)
    (66, None)
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def put(self, strip: Strip) -> None:
        """Keep a strip.

        Raises:
            OutputError: the disk is full, or the folder cannot be written.
        """
        told, parts = _packed(strip)
        path = self.folder / f"{strip.row:08d}-{len(strip.labels)}{SUFFIX}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, unfinished = tempfile.mkstemp(prefix=".", dir=self.folder)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.writelines((_digest(told, parts), b" ", told, b"\n", *parts))
                os.replace(unfinished, path)
            except BaseException:
                Path(unfinished).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise OutputError(
                f"A finished strip cannot be written to {self.folder} ({error.strerror or error}). Check that the "
                "folder can be written and has space."
            ) from error

    def get(self, row: int) -> Strip | None:
        """The strip that begins at a row; None, and no file any more, where it is absent or torn."""
        for path in self.folder.glob(f"{row:08d}-*{SUFFIX}"):
            strip = _unpacked(path.read_bytes())
            if strip is not None and strip.row == row:
                return strip
            path.unlink(missing_ok=True)
        return None

    def rows(self) -> list[tuple[int, int]]:
        """First row and the row below of every strip, from top to bottom, as their files' names tell them."""
        if not self.folder.is_dir():
            return []
        names = (path.stem.split("-") for path in self.folder.glob(f"*{SUFFIX}"))
        return sorted((int(row), int(row) + int(height)) for row, height in names)

    def gap(self, row: int, height: int) -> int:
        """Where the rows from `row` on that no strip holds end, in a map of `height` rows."""
        return min((first for first, _ in self.rows() if first > row), default=height)

    def clear(self) -> None:
        """Remove every strip."""
        for path in self.folder.glob(f"*{SUFFIX}"):
            path.unlink(missing_ok=True)

    def missing(self, height: int) -> Iterator[tuple[int, int]]:
        """The spans of rows of a map of `height` rows that no strip holds."""
        row = 0
        for first, below in [*self.rows(), (height, height)]:
            if first > row:
                yield row, first
            row = max(row, below)


def _packed(strip: Strip) -> tuple[bytes, list[bytes]]:
    labels = np.ascontiguousarray(strip.labels, strip.labels.dtype.newbyteorder("<"))
    parts = [zlib.compress(np.ascontiguousarray(part).data, LEVEL) for part in (labels, strip.confidence)]
    told = {"row": strip.row, "shape": labels.shape, "dtype": labels.dtype.str, "bytes": [len(part) for part in parts]}
    return json.dumps(told).encode(), parts


def _unpacked(content: bytes) -> Strip | None:
    head, _, rest = content.partition(b"\n")
    digest, _, told = head.partition(b" ")
    if digest != _digest(told, [rest]):
        return None
    facts = json.loads(told)
    labels, confidence = rest[: facts["bytes"][0]], rest[facts["bytes"][0] :]
    return Strip(
        facts["row"],
        np.frombuffer(zlib.decompress(labels), facts["dtype"]).reshape(facts["shape"]),
        np.frombuffer(zlib.decompress(confidence), np.uint8).reshape(facts["shape"]),
    )


def _digest(told: bytes, parts: list[bytes]) -> bytes:
    digest = hashlib.sha256(told)
    for part in parts:
        digest.update(part)
    return digest.hexdigest().encode()
