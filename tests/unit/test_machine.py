"""Memory of the machine, of its groups and of this process."""

from __future__ import annotations

import mmap
import sys

import numpy as np
import pytest

from mmovseg_geo import machine

GB = 2**30


@pytest.fixture
def grouped(tmp_path, monkeypatch):
    """Files as Linux shows them for a process of the groups that are told, on a machine with 64 GB."""
    monkeypatch.setattr(machine, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(machine, "PROCESS", tmp_path)
    monkeypatch.setattr(machine, "_machine", lambda name: 64 * GB)

    def write(cgroup: str, **files: str) -> None:
        (tmp_path / "cgroup").write_text(cgroup)
        for name, text in files.items():
            path = tmp_path / "groups" / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name(path.name.replace("_dot_", ".")).write_text(text)

    return write


def test_a_machine_without_groups_is_free_as_a_whole(grouped):
    grouped("0::/\n")
    assert machine.total_bytes() == machine.free_bytes() == 64 * GB


def test_a_container_limits_and_what_it_holds_of_files_is_free(grouped):
    held = {"memory_dot_max": f"{8 * GB}\n", "memory_dot_current": f"{5 * GB}\n"}
    grouped("0::/\n", **held, memory_dot_stat=f"anon 1\ninactive_file {2 * GB}\nactive_file 7\n")
    assert machine.total_bytes() == 8 * GB
    assert machine.free_bytes() == 5 * GB


def test_a_group_without_limit_is_none(grouped):
    grouped("0::/\n", memory_dot_max="max\n", memory_dot_current="1\n")
    assert machine.total_bytes() == machine.available_bytes() == 64 * GB


def test_the_tightest_group_on_the_way_up_decides(grouped):
    grouped(
        "0::/job/step/task\n",
        job__memory_dot_max=f"{4 * GB}",
        job__memory_dot_current=f"{3 * GB}",
        job__step__task__memory_dot_max=f"{6 * GB}",
        job__step__task__memory_dot_current=f"{1 * GB}",
    )
    assert machine.total_bytes() == 4 * GB
    assert machine.free_bytes() == 1 * GB


@pytest.mark.parametrize("place", ["memory__", "memory__job__"])
def test_groups_of_version_1_are_known_where_a_container_shows_them_and_where_a_host_does(grouped, place):
    names = {f"{place}memory_dot_limit_in_bytes": f"{2 * GB}", f"{place}memory_dot_usage_in_bytes": f"{1 * GB}"}
    grouped(
        "5:cpu,cpuacct:/job\n4:memory:/job\n",
        **names,
        **{f"{place}memory_dot_stat": f"total_inactive_file {GB // 2}\n"},
    )
    assert machine.total_bytes() == 2 * GB
    assert machine.free_bytes() == 3 * GB // 2


def test_more_held_than_allowed_is_nothing_free(grouped):
    grouped("0::/\n", memory_dot_max=f"{GB}", memory_dot_current=f"{2 * GB}")
    assert machine.free_bytes() == 0


def test_memory_of_the_process_is_known():
    before = machine.resident_bytes()
    assert 10 * 10**6 < before <= machine.most_resident_bytes() < 10**12
    assert machine.free_bytes() > 0

    def hold() -> None:
        # Pages of the system itself: an array may be laid into memory that the process holds already.
        with mmap.mmap(-1, 100 * 10**6) as pages:
            for start in range(0, len(pages), 4096):
                pages[start] = 1

    assert 90 * 10**6 < machine.peak_of(hold) < 200 * 10**6


@pytest.mark.skipif(sys.platform != "linux", reason="others give freed memory back when they like")
def test_freed_memory_is_given_back():
    kept = [np.ones(100_000, np.uint8) for _ in range(2000)]
    held = machine.resident_bytes()
    del kept
    machine.give_back_freed()
    assert machine.resident_bytes() < held - 100 * 10**6


def test_where_no_system_tells_the_machine_itself_is_free(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "PROCESS", tmp_path)
    monkeypatch.setattr(machine, "_machine", lambda name: None)
    monkeypatch.setattr(machine, "_physical", lambda: 16 * GB)
    assert machine.available_bytes() is None
    assert machine.free_bytes() == machine.total_bytes() == 16 * GB
