"""Files of classes (YAML, JSON, CSV, plain text) as records of name, id, synonyms and color."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from mmovseg_geo.errors import VocabularyError, did_you_mean
from mmovseg_geo.text_file import read_text, strict_yaml

KEYS = ("id", "name", "synonyms", "color")


def read_entries(path: Path) -> list[dict[str, Any]]:
    """Records of the classes in a file; its suffix decides the format.

    Raises:
        VocabularyError: the file cannot be read or does not list classes.
    """
    entries = _parsed(path)
    if not entries:
        raise VocabularyError(f"{path} lists no classes.")
    return [_checked(entry, path) for entry in entries]


def _parsed(path: Path) -> list[dict[str, Any]]:
    suffix, what = path.suffix.lower(), "the classes file"
    if suffix in (".yaml", ".yml"):
        return _records(strict_yaml(path, what, error=VocabularyError), path)
    text = read_text(path, what, error=VocabularyError)
    if suffix == ".json":
        try:
            return _records(json.loads(text), path)
        except json.JSONDecodeError as error:
            raise VocabularyError(f"{path} is not valid JSON: {error}.") from error
    if suffix == ".csv":
        return _table(text, path)
    lines = [line.strip() for line in text.splitlines()]
    words = [line.split(",") for line in lines if line and not line.startswith("#")]
    return [{"name": first, "synonyms": rest} for first, *rest in words]


def _records(loaded: Any, path: Path) -> list[dict[str, Any]]:
    """Each item is a record, a word, or a list of a name and its synonyms; or a mapping of id to one of these."""
    if isinstance(loaded, dict) and "classes" in loaded:
        loaded = loaded["classes"]
    if isinstance(loaded, dict):
        loaded = [{"id": number, **_record(item, path)} for number, item in loaded.items()]
    if not isinstance(loaded, list):
        raise VocabularyError(f"{path} should hold a list of classes, or a mapping with a list under `classes`.")
    return [_record(item, path) for item in loaded]


def _record(item: Any, path: Path) -> dict[str, Any]:
    if isinstance(item, dict):
        return item
    if isinstance(item, list) and item:
        return {"name": item[0], "synonyms": item[1:]}
    if isinstance(item, (str, int, float)):
        return {"name": str(item)}
    raise VocabularyError(f"{path}: {item!r} is not a class. Give a name, a list of words, or name/id/synonyms/color.")


def _table(text: str, path: Path) -> list[dict[str, Any]]:
    rows = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    header = [name.strip().lower() for name in rows.fieldnames or ()]
    if "name" not in header:
        raise VocabularyError(f"{path} has no column `name`; columns may be {', '.join(KEYS)}.")
    rows.fieldnames = header
    found: list[dict[str, Any]] = []
    for row in rows:
        if None in row:
            raise VocabularyError(f"{path}, line {rows.line_num}: more cells than columns. Part synonyms with `|`.")
        entry: dict[str, Any] = {key: (value or "").strip() for key, value in row.items()}
        entry["synonyms"] = [word for word in entry.get("synonyms", "").replace(";", "|").split("|") if word.strip()]
        found.append(entry)
    return found


def _checked(entry: dict[str, Any], path: Path) -> dict[str, Any]:
    unknown = [key for key in entry if key not in KEYS]
    if unknown:
        raise VocabularyError(f"{path}: unknown key {unknown[0]!r} of a class. {did_you_mean(unknown[0], KEYS)}")
    synonyms = entry.get("synonyms")
    if isinstance(synonyms, str):
        entry = {**entry, "synonyms": [word for word in synonyms.replace("|", ",").split(",") if word.strip()]}
    return entry
