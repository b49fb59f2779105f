"""Stages at work at the same time."""

from __future__ import annotations

import threading

import pytest

from mmovseg_geo.stages import ahead, behind, timed


def workers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("mmovseg")]


@pytest.mark.parametrize("depth", [1, 3, 100])
def test_items_come_in_their_order(depth):
    assert list(ahead(range(50), depth)) == list(range(50))
    found = []
    behind(found.extend, range(50), depth)
    assert found == list(range(50))
    assert not workers()


def test_what_comes_next_is_made_while_the_caller_works():
    second = threading.Event()

    def items():
        yield 1
        second.set()
        yield 2

    made = ahead(items())
    assert next(made) == 1
    assert second.wait(20)
    assert list(made) == [2]


def test_only_so_many_items_wait():
    made = []

    def items():
        for number in range(100):
            made.append(number)
            yield number

    taken = ahead(items(), depth=2)
    for _ in range(10):
        next(taken)
        # Beside those taken, two wait and one is being put.
        assert len(made) <= 10 + 3
    taken.close()
    assert len(made) <= 10 + 3


def test_what_the_making_raises_comes_after_what_was_made():
    def items():
        yield 1
        raise KeyError("lost")

    made = ahead(items(), depth=5)
    assert next(made) == 1
    with pytest.raises(KeyError, match="lost"):
        next(made)
    assert not workers()


def test_a_caller_that_stops_ends_the_making():
    ended = []

    def items():
        try:
            while True:
                yield 1
        finally:
            ended.append(threading.current_thread().name)

    made = ahead(items(), name="endless")
    next(made)
    made.close()
    assert ended == ["mmovseg-endless"]
    assert not workers()


def test_a_consumer_that_fails_stops_the_making():
    made = []

    def items():
        for number in range(10_000):
            made.append(number)
            yield number

    def consume(taken):
        for number in taken:
            if number == 3:
                raise ValueError("no room")

    with pytest.raises(ValueError, match="no room"):
        behind(consume, items())
    assert len(made) < 10_000
    assert not workers()


def test_a_making_that_fails_ends_the_consumer():
    ended = []

    def items():
        yield 1
        raise KeyboardInterrupt

    def consume(taken):
        try:
            for _ in taken:
                pass
            ended.append("as if all had come")
        finally:
            ended.append("closed")

    with pytest.raises(KeyboardInterrupt):
        behind(consume, items())
    assert ended == ["closed"]
    assert not workers()


def test_a_consumer_need_not_take_everything():
    found = []
    behind(lambda items: found.append(next(items)), iter(range(10)))
    assert found == [0]


def test_times_of_one_name_are_added():
    timings = {}
    for _ in range(2):
        with timed(timings, "read"):
            pass
    first = timings["read"]
    with timed(timings, "read"):
        pass
    assert timings["read"] > first
