"""Which scenes: a CSV table of optical and SAR files, or two folders whose files are paired by name."""

from __future__ import annotations

import csv
import glob
import io
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mmovseg_geo.errors import ConfigError, a_few
from mmovseg_geo.text_file import read_text

SUFFIXES = frozenset({".tif", ".tiff", ".vrt", ".jp2", ".png", ".jpg", ".jpeg", ".img", ".safe", ".zip", ".tar"})
"""Files of a folder that are taken for images, and products as they are delivered."""

_WORDS = "rgb optical opt visible sar radar s1 s2 sentinel1 sentinel2 vv vh hh hv vvvh grd rtc l1c l2a db"
SENSOR_WORDS = frozenset(_WORDS.split())
"""Parts of a file name that tell the sensor, not the place."""


@dataclass(frozen=True)
class ScenePair:
    """One line of a batch: an optical file, its SAR file (one of them may be None), the name of its output folder."""

    optical: str | None
    sar: str | None
    folder: str

    @property
    def first(self) -> str:
        """The file that gives the scene its name and its grid."""
        return self.optical or self.sar or ""


def read_manifest(path: Path) -> list[ScenePair]:
    """The scenes of a CSV with the columns `optical`, `sar` and perhaps `out`; its paths are relative to it.

    Raises:
        ConfigError: the table cannot be read, lacks a column, names a file that is not there, or a scene twice.
    """
    text = read_text(path, "the manifest")
    header = text.partition("\n")[0]
    rows = csv.DictReader(io.StringIO(text), delimiter=";" if ";" in header and "," not in header else ",")
    columns = [name.strip().lower() for name in rows.fieldnames or ()]
    missing = [name for name in ("optical", "sar") if name not in columns]
    if missing:
        found = ", ".join(columns) or "nothing"
        raise ConfigError(f"{path} has no column {' and no '.join(missing)}; its first line holds: {found}.")
    rows.fieldnames = columns
    pairs, outs = [], []
    for row in rows:
        cells = {key: (value or "").strip() for key, value in row.items() if key is not None and isinstance(value, str)}
        if not any(cells.values()):
            continue
        if None in row or not (cells.get("optical") or cells.get("sar")):
            what = "more cells than columns (quote paths with commas)" if None in row else "no image file"
            raise ConfigError(f"{path}, line {rows.line_num}: {what}.")
        files = [_beside(cells.get(name, ""), path.parent) or None for name in ("optical", "sar")]
        pairs.append((files[0], files[1]))
        outs.append(cells.get("out", ""))
    return _checked(pairs, outs, str(path))


def pair_files(opticals: str, sars: str | None) -> list[ScenePair]:
    """The scenes of two folders or globs, paired by name; with `sars` None every optical file is a scene.

    Files belong together whose names are equal, or equal without words such as rgb, sar, s1 and s2, or so together
    with the name of their folder.

    Raises:
        ConfigError: nothing is found, or files that have no or more than one partner.
    """
    left = _listed(opticals)
    if sars is None:
        return _checked([(str(path), None) for path in left], [], opticals)
    right = _listed(sars)
    both = set(left) & set(right)
    left, right = [path for path in left if path not in both], [path for path in right if path not in both]
    if both:
        raise ConfigError(f"{opticals} and {sars} both hold {a_few(sorted(both))}. Give each its own folder.")
    for key in (_stem, _place, _place_in_folder):
        pairs = _paired(left, right, key)
        if pairs:
            return _checked([(str(one), str(other)) for one, other in pairs], [], f"{opticals} and {sars}")
    raise ConfigError(_why_not(left, right))


def _stem(path: Path) -> str:
    return path.stem.casefold()


def _place(path: Path) -> str:
    """The stem without the words for a sensor."""
    return "_".join(word for word in re.split(r"[-_. ]+", _stem(path)) if word and word not in SENSOR_WORDS)


def _place_in_folder(path: Path) -> str:
    return f"{_place(path.resolve().parent)}/{_place(path)}"


def _paired(left: list[Path], right: list[Path], key: Callable[[Path], str]) -> list[tuple[Path, Path]]:
    """Pairs of equal key, or none unless every file has exactly one partner."""
    ours, theirs = {key(path): path for path in left}, {key(path): path for path in right}
    if len(ours) != len(left) or len(theirs) != len(right) or ours.keys() != theirs.keys() or "" in ours:
        return []
    return [(path, theirs[name]) for name, path in ours.items()]


def _why_not(left: list[Path], right: list[Path]) -> str:
    groups: dict[str, tuple[list[Path], list[Path]]] = defaultdict(lambda: ([], []))
    for side, files in enumerate((left, right)):
        for path in files:
            groups[_place(path)][side].append(path)
    alone = [str(path) for ours, theirs in groups.values() if not ours or not theirs for path in (*ours, *theirs)]
    unclear = [
        str(path) for ours, theirs in groups.values() if len(ours) > 1 or len(theirs) > 1 for path in ours + theirs
    ]
    reasons = [f"no partner for {a_few(alone)}"] if alone else []
    reasons += [f"more than one partner for {a_few(unclear)}"] if unclear else []
    return (
        f"Cannot pair the files by name: {'; '.join(reasons)}. Rename them, or list the pairs in a CSV (optical,sar)."
    )


def _listed(place: str) -> list[Path]:
    folder = Path(place)
    if folder.is_dir() and folder.suffix.lower() not in SUFFIXES:
        found = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    else:
        matches = map(Path, glob.glob(place, recursive=True))
        found = [path for path in matches if path.is_file() or path.suffix.lower() in SUFFIXES]
    if not found:
        kind = "a folder without images" if folder.is_dir() else "no folder, and no file matches it"
        raise ConfigError(
            f"{place} is {kind}. Give a CSV, a folder of images, or a quoted pattern: 'scenes/*_rgb.tif'."
        )
    return sorted(found)


def _beside(text: str, folder: Path) -> str:
    """Paths (two may be parted by a comma) relative to a folder; addresses stay as they are."""
    parts = [part.strip() for part in text.split(",")] if text else []
    return ",".join(part if is_address(part) else str(folder / part) for part in parts)


def is_address(text: str) -> bool:
    """Whether a path is an address, or one that only GDAL knows."""
    return "://" in text or text.startswith("/vsi")


def _checked(pairs: Sequence[tuple[str | None, str | None]], outs: Sequence[str], origin: str) -> list[ScenePair]:
    if not pairs:
        raise ConfigError(f"{origin} lists no scenes.")
    files = [path for pair in pairs for given in pair if given for path in given.split(",")]
    absent = [path for path in dict.fromkeys(files) if not is_address(path) and not Path(path).exists()]
    if absent:
        raise ConfigError(f"{origin} names {_count(absent, 'file')} that cannot be found: {a_few(absent)}.")
    same = [optical for optical, sar in pairs if optical == sar]
    if same:
        raise ConfigError(f"{origin} gives {same[0]} as the optical and the SAR file of one scene.")
    names = [(optical or sar or "").split(",")[0] for optical, sar in pairs]
    twice = [name for name, pair in zip(names, pairs, strict=True) if pairs.count(pair) > 1]
    if twice:
        raise ConfigError(f"{origin} lists a scene twice: {a_few(dict.fromkeys(twice))}.")
    folders = _folders(names, outs or [""] * len(pairs), origin)
    return [ScenePair(optical, sar, folder) for (optical, sar), folder in zip(pairs, folders, strict=True)]


def _folders(files: Sequence[str], outs: Sequence[str], origin: str) -> list[str]:
    """A folder for each scene: the stem of its file; equal stems take the name of the file's folder in front."""
    stems = [PurePosixPath(optical.replace("\\", "/").partition("?")[0]).stem for optical in files]
    often = Counter(stem.casefold() for stem in stems)
    names = []
    for optical, stem, out in zip(files, stems, outs, strict=True):
        parent = PurePosixPath(optical).parent.name if is_address(optical) else Path(optical).resolve().parent.name
        names.append(out or (f"{parent}_{stem}" if often[stem.casefold()] > 1 else stem))
    equal = [name for name, count in Counter(name.casefold() for name in names).items() if count > 1]
    if equal:
        who = [optical for optical, name in zip(files, names, strict=True) if name.casefold() in equal]
        raise ConfigError(
            f"{origin}: {a_few(who)} would share the output folder {equal[0]}. Name folders in a column `out` of a CSV."
        )
    return names


def _count(items: Sequence[str], noun: str) -> str:
    return f"{len(items)} {noun}{'' if len(items) == 1 else 's'}"
