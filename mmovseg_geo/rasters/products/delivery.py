"""What lies in a delivered folder, zip or tar: the names of its files, their bytes, and how GDAL opens them."""

from __future__ import annotations

import os
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from mmovseg_geo.errors import SceneError

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
MOST_FILES = 20_000
"""A folder with more is no product."""
LARGEST_TEXT = 200 * 2**20
"""Bytes of metadata that are read at most; the largest annotation of Sentinel-1 has some ten million."""


@dataclass(frozen=True)
class Delivery:
    """A folder or archive and the paths in it, relative to it, with forward slashes, sorted."""

    path: str
    names: tuple[str, ...]

    def gdal(self, name: str) -> str:
        """The path by which GDAL opens a file in it; a file that lies nowhere in particular is its own."""
        if not self.path:
            return name
        if os.path.isdir(self.path):
            return os.path.join(self.path, *name.split("/"))
        kind = "/vsizip/" if self.path.lower().endswith(".zip") else "/vsitar/"
        return f"{kind}{self.path.replace(os.sep, '/')}/{name}"

    def text(self, name: str) -> bytes:
        """The content of a small file.

        Raises:
            SceneError: it cannot be read.
        """
        with self._readable(name):
            if os.path.isdir(self.path):
                with open(self.gdal(name), "rb") as file:
                    return file.read(LARGEST_TEXT)
            if self.path.lower().endswith(".zip"):
                with zipfile.ZipFile(self.path) as archive, archive.open(name) as entry:
                    return entry.read(LARGEST_TEXT)
            with tarfile.open(self.path) as bundle:
                member = bundle.extractfile(name)
                return member.read(LARGEST_TEXT) if member is not None else b""

    def xml(self, name: str) -> ElementTree.Element:
        """The root of an XML file, its tags without namespaces.

        Raises:
            SceneError: it cannot be read, or is no XML.
        """
        try:
            root = ElementTree.fromstring(self.text(name))
        except ElementTree.ParseError as error:
            raise SceneError(
                f"{self.shown(name)}: not an XML file that can be read ({error}). Download the product again."
            ) from error
        for element in root.iter():
            if isinstance(element.tag, str):
                element.tag = element.tag.rpartition("}")[2]
        return root

    def shown(self, name: str) -> str:
        """A file in it, for messages."""
        return f"{self.path}/{name}"

    def listing(self, suffixes: tuple[str, ...]) -> list[str]:
        """The names with one of these suffixes, in small letters."""
        return [name for name in self.names if name.lower().endswith(suffixes)]

    @contextmanager
    def _readable(self, name: str) -> Iterator[None]:
        try:
            yield
        except (OSError, KeyError, zipfile.BadZipFile, tarfile.TarError, RuntimeError, NotImplementedError) as error:
            raise SceneError(
                f"{self.shown(name)}: cannot be read ({error}). Check that the download is complete."
            ) from error


def delivery(path: str) -> Delivery:
    """What a folder or archive holds.

    Raises:
        SceneError: an archive that cannot be read, or a folder of very many files.
    """
    if os.path.isdir(path):
        return Delivery(path, tuple(sorted(_walked(path))))
    try:
        if path.lower().endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
        else:
            with tarfile.open(path) as bundle:
                names = [member.name for member in bundle.getmembers() if member.isfile()]
    except (OSError, zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise SceneError(
            f"{path}: not an archive that can be read ({error}). Check that the download is complete."
        ) from error
    return Delivery(path, tuple(sorted(names)))


def is_archive(path: str) -> bool:
    """Whether a path names an archive that may hold a product."""
    return path.lower().endswith(ARCHIVES) and os.path.isfile(path)


def around(path: str, marks: tuple[str, ...], levels: int = 5) -> str | None:
    """The nearest folder above a file that holds a file of one of the names `marks`; None where none does."""
    folder = Path(path).absolute().parent
    for _ in range(levels):
        if any((folder / mark).is_file() for mark in marks):
            return str(folder)
        folder = folder.parent
    return None


def beside(path: str, start: str) -> Delivery:
    """The files in a file's folder whose names begin so."""
    folder = Path(path).absolute().parent
    names = [one.name for one in folder.iterdir() if one.name.startswith(start)] if folder.is_dir() else []
    return Delivery(str(folder), tuple(sorted(names)))


def _walked(folder: str) -> list[str]:
    found: list[str] = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            found.append(os.path.relpath(os.path.join(place, name), folder).replace(os.sep, "/"))
        if len(found) > MOST_FILES:
            raise SceneError(
                f"{folder} is a folder of more than {MOST_FILES} files, a delivered product or a raster file was "
                "expected. Name the product or GeoTIFF inside it."
            )
    return found
