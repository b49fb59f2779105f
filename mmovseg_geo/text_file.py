"""Text and YAML that people write, read so that an error names the file and what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmovseg_geo.errors import ConfigError, MmovsegError, did_you_mean


def read_text(path: Path, what: str = "the file", *, error: type[MmovsegError] = ConfigError, advice: str = "") -> str:
    """The text of a UTF-8 file, without the byte order mark that some editors put first.

    Args:
        what: what the file is, as in "Cannot read the settings a.yaml".
        advice: what to do where it cannot be read, beside looking for files of almost the same name.

    Raises:
        error: it is not there, may not be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as found:
        reason = found.strerror if isinstance(found, OSError) else "it is not UTF-8 text"
        spelling = f" {_spelling(path)}" if isinstance(found, FileNotFoundError) else ""
        raise error(f"Cannot read {what} {path}: {reason}.{spelling}{advice}") from found


def _spelling(path: Path) -> str:
    """Advice on a path that does not exist."""
    try:
        names = [beside.name for beside in path.parent.iterdir()]
    except OSError:
        return f"There is no folder {path.parent} that could be read."
    return did_you_mean(path.name, names, otherwise="Check its spelling.")


def strict_yaml(path: Path, what: str = "the file", *, error: type[MmovsegError] = ConfigError) -> Any:
    """What a YAML file holds.

    Raises:
        error: it cannot be read, is not valid YAML, or gives a key twice (YAML forbids it, its reader does not).
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            # The parent unfolds `<<` (merge), whose keys may be given again, so this comes first.
            own = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
            keys = [self.construct_object(key, deep=True) for key in own]
            twice = [key for key in keys if keys.count(key) > 1]
            if twice:
                raise error(f"{path}, line {node.start_mark.line + 1} on: {twice[0]!r} is given twice. Keep one.")
            made: dict[Any, Any] = super().construct_mapping(node, deep=True)
            return made

    try:
        return yaml.load(read_text(path, what, error=error), Loader)
    except yaml.YAMLError as found:
        raise error(f"{path} is not valid YAML: {' '.join(str(found).split())}.") from found
