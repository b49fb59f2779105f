"""Files that people write."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmovseg_geo.errors import ConfigError, SceneError
from mmovseg_geo.text_file import read_text, strict_yaml


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffwater".encode())
    assert read_text(path) == "water"
    assert strict_yaml(path) == "water"


def test_what_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    with pytest.raises(
        ConfigError, match=r"^Cannot read the settings .*a\.yaml: No such file .*\. Check its spelling\.$"
    ):
        strict_yaml(path, "the settings")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SceneError, match=r"^Cannot read the list .*a\.yaml: it is not UTF-8 text\. Save it anew\.$"):
        read_text(path, "the list", error=SceneError, advice=" Save it anew.")


def test_a_misspelled_name_gets_the_nearest_of_its_folder(tmp_path: Path) -> None:
    for name in ("loveda.yaml", "isaid.yaml"):
        (tmp_path / name).touch()
    with pytest.raises(ConfigError, match=r"lovada\.yaml: No such file or directory\. Did you mean loveda\.yaml\?$"):
        read_text(tmp_path / "lovada.yaml")
    with pytest.raises(ConfigError, match=r"There is no folder .*sets that could be read\.$"):
        read_text(tmp_path / "sets" / "loveda.yaml")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\nb: 2\na: 3\n", r"a\.yaml, line 1 on: 'a' is given twice"),
        ("a:\n  - {b: 1, b: 1}\n", r"line 2 on: 'b' is given twice"),
        ("a: [1\n", r"a\.yaml is not valid YAML: while parsing a flow sequence"),
    ],
)
def test_yaml_that_is_wrong_is_one_line_that_names_the_file(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=says) as caught:
        strict_yaml(path)
    assert "\n" not in str(caught.value)


def test_what_is_taken_over_from_elsewhere_may_be_given_again(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("base: &base {size: 1, overlap: 2}\nown: {<<: *base, size: 3}\n", encoding="utf-8")
    assert strict_yaml(path)["own"] == {"size": 3, "overlap": 2}
