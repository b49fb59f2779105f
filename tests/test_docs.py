"""What the README promises exists, and what exists stands in the README."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mmovseg_cli.app import app

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))


def commands() -> list[str]:
    groups = [group.typer_instance.info.name for group in app.registered_groups]
    return [*(command.name or command.callback.__name__ for command in app.registered_commands), *groups]


@pytest.mark.parametrize("command", commands())
def test_every_command_is_in_the_readme(command):
    assert f"mmovseg {command}" in README


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_config_is_in_the_readme_and_opens_with_its_command(path):
    place = path.relative_to(ROOT)
    assert place.as_posix() in README or f"{place.parent.as_posix()}/*.yaml" in README
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert re.match(r"# mmovseg \w+ ", first), first


def test_commands_in_the_readme_exist():
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL))
    named = set(re.findall(r"\bmmovseg (\w+)", blocks))
    assert named
    assert named <= set(commands())


def test_links_in_the_readme_lead_somewhere():
    targets = re.findall(r"\]\((?!https?:|#)([^)]+)\)", README) + re.findall(r'src="(?!https?:)([^"]+)"', README)
    assert targets
    assert not [target for target in targets if not (ROOT / target.split("#")[0]).exists()]


def test_both_setup_commands_are_marked():
    assert "<!-- demo command -->" in README
    assert "<!-- test command -->" in README
