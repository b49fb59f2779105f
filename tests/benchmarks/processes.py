"""What another process takes: seconds and memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

_MEASURED = """
import json, os, sys, time
started = time.perf_counter()
quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
_, status, usage = os.wait4(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=quiet), 0)
wall = time.perf_counter() - started
figures = {"wall_s": wall, "processor_s": usage.ru_utime + usage.ru_stime, "peak_mb": usage.ru_maxrss / 1024}
print(json.dumps({"status": os.waitstatus_to_exitcode(status), "figures": figures}))
"""


def measured(command: Sequence[str]) -> dict[str, float]:
    """Seconds, seconds of processors and peak resident megabytes of a command.

    A small process starts it: the system counts what the one that starts another holds at that time to the other.
    """
    told = subprocess.run([sys.executable, "-c", _MEASURED, *command], stdout=subprocess.PIPE, check=True, text=True)
    result = json.loads(told.stdout)
    if result["status"]:
        raise SystemExit(f"{' '.join(command)} failed")
    return result["figures"]
