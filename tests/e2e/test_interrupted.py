"""A run that is stopped or finds no room leaves nothing half done behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SLOW_MODEL = """
import time
from pathlib import Path
from mmovseg_geo.models.threshold import threshold


def build(vocabulary, **settings):
    segmenter = threshold(vocabulary, **settings)

    class Slow:
        def __getattr__(self, name):
            return getattr(segmenter, name)

        def __call__(self, batch):
            Path("working").touch()
            time.sleep(60)

    return Slow()
"""

COMMAND = [sys.executable, "-c", "from mmovseg_cli.app import main; main()"]


def _listen_to_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def started(here: Path, *arguments: object) -> subprocess.Popen[str]:
    """The command line in a process of its own, once its model is at work."""
    (here / "slow_model.py").write_text(SLOW_MODEL)
    paths = os.pathsep.join(filter(None, (str(here), os.environ.get("PYTHONPATH"))))
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments), "--classes", "dark,bright", "--model", "slow_model:build"],
        cwd=here,
        env={**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job ignores Ctrl-C, and so would what it starts.
        preexec_fn=_listen_to_interrupts,
    )
    deadline = time.monotonic() + 50
    while not (here / "working").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (here / "working").exists(), process.communicate()
    return process


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_exits_130_and_leaves_nothing(here, scene, sent):
    process = started(here, "segment", *scene, "-o", "maps/deep")
    process.send_signal(sent)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == ""
    assert "Interrupted" in err
    assert "Traceback" not in err
    assert {path.name for path in here.iterdir()} == {"s1.tif", "s2.tif", "slow_model.py", "working"}


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
def test_an_interrupted_batch_keeps_what_was_finished(here, scene, run):
    assert run("batch", "s2.tif", "s1.tif", "-o", "maps", "--classes", "dark,bright").exit_code == 0
    kept = sorted(here.rglob("*"))
    (here / "list.csv").write_text("optical,sar,out\ns2.tif,s1.tif,other\n")
    process = started(here, "batch", "list.csv", "-o", "maps")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    added = {here / name for name in ("list.csv", "slow_model.py", "working")}
    assert set(here.rglob("*")) == {*kept, *added}


@pytest.mark.skipif(os.name == "nt", reason="file size limits are POSIX")
def test_without_room_to_write_the_run_fails_and_leaves_nothing(here, scene):
    """A limit on the size of files stands for a full disk. What finished strips leave is told in `test_resume`."""
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50));{COMMAND[2]}"
    before = sorted(here.rglob("*"))
    result = subprocess.run(
        [*COMMAND[:2], limited, "segment", *map(str, scene), "--classes", "dark,bright", "--model", "threshold"],
        cwd=here,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "✗" in result.stderr
    assert "Traceback" not in result.stderr
    assert sorted(here.rglob("*")) == before
