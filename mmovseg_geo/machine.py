"""Memory: of this machine, of the job or container that a process runs in, and of the process itself."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
"""Where Linux shows the control groups by which jobs and containers are limited."""
PROCESS = Path("/proc/self")
UNKNOWN = 4 * 2**30
"""Free memory where nobody tells."""
RECLAIMED = "inactive_file"
"""What a group holds of files that nobody used lately: the system gives it to whoever asks for memory."""


def total_bytes() -> int | None:
    """Memory of this machine, or of the job or container if that is less; None where nobody tells."""
    known = [_machine("MemTotal") or _physical(), *(most for most, _ in _limits())]
    return min((count for count in known if count is not None), default=None)


def available_bytes() -> int | None:
    """Memory that this process can still have, of the machine and of its job or container; None where nobody tells."""
    known = [_machine("MemAvailable"), *(max(most - used, 0) for most, used in _limits())]
    return min((count for count in known if count is not None), default=None)


def free_bytes() -> int:
    """The same, or where nobody tells what the machine has."""
    available = available_bytes()
    return available if available is not None else _physical() or UNKNOWN


def resident_bytes() -> int:
    """Memory that this process holds now, or has held at most where the system does not tell."""
    return _process("VmRSS") or most_resident_bytes()


def most_resident_bytes() -> int:
    """The most memory that this process has held."""
    highest = _process("VmHWM")
    if highest is not None:
        return highest
    try:
        import resource
    except ImportError:  # Windows has no such module.
        return 10**9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_of(work: Callable[[], object]) -> int:
    """Bytes that work takes at its peak, beyond what the process held before."""
    before = resident_bytes()
    with suppress(OSError):
        (PROCESS / "clear_refs").write_text("5", encoding="ascii")  # forget the highest mark
    work()
    return max(0, most_resident_bytes() - before)


def give_back_freed() -> None:
    """Let the C library return freed memory that it keeps for later, so that what is counted is what is used."""
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:  # another C library keeps less
            trim(0)


def _machine(name: str) -> int | None:
    return _kilobytes(Path("/proc/meminfo"), name)


def _process(name: str) -> int | None:
    return _kilobytes(PROCESS / "status", name)


def _kilobytes(path: Path, name: str) -> int | None:
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB", path.read_text(encoding="ascii", errors="replace"), re.MULTILINE)
    except OSError:
        return None
    return None if found is None else 1024 * int(found[1])


def _physical() -> int | None:
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _limits() -> Iterator[tuple[int, int]]:
    """What each group of this process may hold, and holds that nobody could take away; of version 2 and version 1."""
    for controllers, path in _groups():
        if not controllers:
            yield from _limits_along(GROUPS, path, "memory.max", "memory.current", RECLAIMED)
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", f"total_{RECLAIMED}")
            yield from _limits_along(GROUPS / "memory", path, *names)


def _groups() -> Iterator[tuple[str, str]]:
    """Controllers and path of the groups of this process; version 2 names no controllers."""
    try:
        lines = (PROCESS / "cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        yield controllers, path


def _limits_along(root: Path, path: str, most: str, used: str, reclaimed: str) -> Iterator[tuple[int, int]]:
    # A container may see the path that its host gave it, of which nothing is there but the root.
    group = root / path.strip("/")
    for folder in (group, *group.parents):
        limits = _number(folder / most), _number(folder / used)
        if limits[0] is not None and limits[1] is not None:
            yield limits[0], max(limits[1] - _statistic(folder / "memory.stat", reclaimed), 0)
        if folder == root:
            return


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):  # "max" is no limit
        return None


def _statistic(path: Path, name: str) -> int:
    try:
        found = re.search(rf"^{name} (\d+)", path.read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return 0
    return 0 if found is None else int(found[1])
