"""What a command says, where, and how loud."""

from __future__ import annotations

import io
import json
import logging
import re
import warnings
from contextlib import redirect_stderr
from pathlib import Path

import pytest
from mmovseg_cli.talk import Talk

LOG = logging.getLogger("mmovseg_geo.somewhere")


COLOR = re.compile(r"\x1b\[(3|9)\d")


def plain(text: str) -> str:
    """What is read of a text with escape codes, runs of spaces as one."""
    return re.sub(r" +", " ", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def shown(monkeypatch):
    """What a terminal shows of the progress of a command that reports (done, total)."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")

    def seen(talk: Talk, *reports: tuple[int, int]) -> str:
        with redirect_stderr(Terminal()) as terminal, talk.progress() as progress:
            for report in reports:
                progress(*report)
        return terminal.getvalue()

    return seen


def test_results_are_lines_on_stdout(capsys):
    Talk().result(["a.tif", "b.tif"], {"outputs": {}})
    assert capsys.readouterr() == ("a.tif\nb.tif\n", "")


def test_json_is_one_object_with_a_schema_version(capsys):
    Talk(as_json=True).result(["a.tif"], {"outputs": {"labels": Path("a.tif")}, "name": "Köln"})
    out = capsys.readouterr().out
    assert json.loads(out) == {"schema_version": 1, "outputs": {"labels": "a.tif"}, "name": "Köln"}
    assert "Köln" in out


def test_a_terminal_sees_tiles_rate_and_time_left(shown):
    text = plain(shown(Talk(), (3, 12), (6, 12)))
    assert "6/12 tiles" in text
    assert "left" in text


def test_progress_starts_again_with_the_next_scene(shown):
    assert "1/4 tiles" in plain(shown(Talk(), (12, 12), (1, 4)))


def test_no_color_is_honored(shown, monkeypatch):
    assert COLOR.search(shown(Talk(), (3, 12)))
    monkeypatch.setenv("NO_COLOR", "1")
    assert not COLOR.search(shown(Talk(), (3, 12)))


def test_a_pipe_sees_no_progress():
    with Talk().progress() as progress:
        assert progress is None


def test_quiet_means_no_progress(shown):
    assert shown(Talk(quiet=True)) == ""


@pytest.mark.parametrize(
    ("talk", "said"),
    [
        (Talk(), "found\n! odd\n"),
        (Talk(quiet=True), ""),
        (Talk(verbose=True), "detail\nfound\n! odd\n"),
    ],
)
def test_the_log_of_the_library_is_as_loud_as_asked_for(capsys, talk, said):
    with talk.listening():
        LOG.debug("detail")
        LOG.info("found")
        LOG.warning("odd")
        LOG.warning("odd")
    assert capsys.readouterr().err == said


def test_warnings_of_gdal_are_named_so(capsys):
    with Talk().listening():
        logging.getLogger("rasterio._env").warning("CPLE_NotSupported in 'X' is unexpected")
    assert capsys.readouterr().err == "! GDAL: 'X' is unexpected\n"


def test_warnings_of_other_libraries_are_for_the_curious(capsys):
    with Talk().listening():
        warnings.warn("inner workings", UserWarning, stacklevel=1)
    assert capsys.readouterr().err == ""


def test_loggers_are_left_as_they_were():
    logger = logging.getLogger("mmovseg_geo")
    before = (list(logger.handlers), logger.level, logger.propagate)
    with Talk(verbose=True).listening():
        assert not logger.propagate
    assert (list(logger.handlers), logger.level, logger.propagate) == before
