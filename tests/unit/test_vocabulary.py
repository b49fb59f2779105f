"""The classes of a map: from words and from files, their ids, colors and background."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmovseg_geo.errors import VocabularyError
from mmovseg_geo.vocabulary import LARGEST_ID, LONGEST_NAME, Vocabulary

WORD = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters=",|"), min_size=1, max_size=12
)


@st.composite
def vocabularies(draw) -> Vocabulary:
    words = draw(st.lists(WORD, min_size=1, max_size=8, unique_by=str.casefold))
    groups, start = [], 0
    while start < len(words):
        size = draw(st.integers(1, 3))
        groups.append(words[start : start + size])
        start += size
    try:
        return Vocabulary.of(groups, background=draw(st.booleans()))
    except VocabularyError:
        # The words happen to be those of a background.
        return Vocabulary.of("water")


@pytest.fixture
def file(tmp_path):
    """Reads classes from a file of a name and a text."""

    def read(name: str, text: str, **settings) -> Vocabulary:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return Vocabulary.from_file(tmp_path / name, **settings)

    return read


def rows(vocabulary: Vocabulary) -> list[tuple]:
    return [(entry.id, entry.name, entry.synonyms) for entry in vocabulary.classes]


def test_commas_part_classes_and_bars_give_synonyms():
    assert rows(Vocabulary.of(" water , building|house| roof")) == [
        (1, "water", ()),
        (2, "building", ("house", "roof")),
    ]


def test_a_nested_list_is_one_class():
    assert rows(Vocabulary.of(["water", ["building", "house"]])) == rows(Vocabulary.of("water,building|house"))


def test_a_background_has_id_0_and_is_not_scored():
    vocabulary = Vocabulary.of("water,forest", background=True)
    assert vocabulary.background.id == 0
    assert [entry.id for entry in vocabulary.scored] == [1, 2]


@pytest.mark.parametrize("word", ["background", "Unlabeled", "unlabelled", "other"])
def test_a_background_may_be_named_among_the_classes(word):
    vocabulary = Vocabulary.of(f"water,{word},forest")
    assert vocabulary.background.name == word
    assert [(entry.id, entry.name) for entry in vocabulary.scored] == [(1, "water"), (2, "forest")]


def test_a_background_is_not_added_twice():
    assert len(Vocabulary.of("water,other", background=True)) == 2


def test_labels_are_bytes_until_254():
    small = Vocabulary.from_entries([{"name": "a", "id": 254}])
    large = Vocabulary.from_entries([{"name": "a", "id": 254}, {"name": "b", "id": 256}])
    assert (small.dtype, small.ignore) == ("uint8", 255)
    assert (large.dtype, large.ignore) == ("uint16", 65535)


def test_255_classes_need_two_bytes():
    assert Vocabulary.of([f"thing {number}" for number in range(300)]).dtype == "uint16"


def test_no_class_has_the_value_of_missing_pixels():
    vocabulary = Vocabulary.of([f"thing {number}" for number in range(300)])
    assert vocabulary.ignore not in [entry.id for entry in vocabulary.classes]
    with pytest.raises(VocabularyError, match="255"):
        Vocabulary.from_entries([{"name": "a", "id": 255}])


@pytest.mark.parametrize("number", [-1, LARGEST_ID + 1])
def test_ids_that_no_raster_holds_are_refused(number):
    with pytest.raises(VocabularyError, match="16-bit"):
        Vocabulary.from_entries([{"name": "a", "id": number}])


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        ("", "No classes"),
        ([], "No classes"),
        ("a,,b", "empty"),
        ("a,b|", "empty"),
        ("water,?!", "neither letter nor digit"),
        ([[]], "No classes"),
        ([["a"], []], "empty"),
        ("a,A", "twice"),
        ("a|b,b", "twice"),
        ("a|a", "twice"),
        ("x" * (LONGEST_NAME + 1), "101 characters"),
        ("background", "no class to look for"),
        ("water,other,background", "give one"),
    ],
)
def test_words_that_cannot_be_meant_are_explained(classes, says):
    with pytest.raises(VocabularyError, match=says):
        Vocabulary.of(classes)


def test_ids_that_are_not_given_fill_the_gaps():
    entries = [{"name": "a"}, {"name": "b", "id": 1}, {"name": "c"}]
    assert [entry.id for entry in Vocabulary.from_entries(entries).classes] == [2, 1, 3]


def test_one_id_for_two_classes_is_refused():
    with pytest.raises(VocabularyError, match="share the id 4"):
        Vocabulary.from_entries([{"name": "a", "id": 4}, {"name": "b", "id": "4"}])


def test_an_id_that_is_no_number_is_refused():
    with pytest.raises(VocabularyError, match="not a whole number"):
        Vocabulary.from_entries([{"name": "a", "id": "one"}])


@given(vocabularies())
def test_json_gives_the_same_vocabulary_back(vocabulary):
    assert Vocabulary.from_json(vocabulary.to_json()) == vocabulary


@given(vocabularies())
def test_colors_of_classes_differ(vocabulary):
    colors = [entry.color for entry in vocabulary.classes]
    assert len(set(colors)) == len(colors)


def test_the_json_is_that_of_map_tags():
    (entry,) = json.loads(Vocabulary.of("river|stream").to_json())
    assert entry == {"id": 1, "name": "river", "synonyms": ["stream"], "color": entry["color"]}


FILES = {
    "classes.yaml": "- {id: 3, name: water, synonyms: [lake], color: '#00f'}\n- [forest, trees]\n- road\n",
    "mapping.yml": "classes:\n  3: {name: water, synonyms: lake, color: '#0000ff'}\n  1: [forest, trees]\n  2: road\n",
    "classes.json": '[{"id": 3, "name": "water", "synonyms": "lake", "color": "0,0,255"}, ["forest", "trees"], "road"]',
    "classes.csv": "Name, Id, Synonyms, Color\nwater, 3, lake, #0000FF\nforest,, trees,\nroad\n",
}


@pytest.mark.parametrize("name", FILES)
def test_files_carry_ids_synonyms_and_colors(file, name):
    vocabulary = file(name, FILES[name])
    assert rows(vocabulary) == [(3, "water", ("lake",)), (1, "forest", ("trees",)), (2, "road", ())]
    assert vocabulary.classes[0].color == "#0000ff"


def test_a_text_file_has_one_class_a_line(file):
    assert rows(file("classes.txt", "# land\nwater, lake, sea\n\nforest\n")) == [
        (1, "water", ("lake", "sea")),
        (2, "forest", ()),
    ]


def test_a_spreadsheet_may_part_synonyms_with_bars_or_semicolons(file):
    assert file("c.csv", "name,synonyms\nwater,lake|sea;pond\n").classes[0].synonyms == ("lake", "sea", "pond")


def test_a_file_gets_a_background_on_request(file):
    assert file("c.txt", "water\n", background=True).background.id == 0


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("c.yaml", "", "list of classes|lists no classes"),
        ("c.yaml", "a: [1", "not valid YAML"),
        ("c.yaml", "1: water\n1: forest", "c.yaml, line 1 on: 1 is given twice"),
        ("c.json", "[", "not valid JSON"),
        ("c.json", '{"classes": 5}', "list of classes"),
        ("c.json", "[[]]", "is not a class"),
        ("c.yaml", "- {name: water, colour: red}", r"unknown key 'colour' of a class. Did you mean color\?"),
        ("c.yaml", "- {name: water, color: reddish}", "reddish"),
        ("c.yaml", "- {id: 1}", "empty"),
        ("c.csv", "title\nwater\n", "no column `name`"),
        ("c.csv", "name\nwater,lake\n", "more cells"),
        ("c.txt", "# nothing\n", "lists no classes"),
    ],
)
def test_a_wrong_file_is_explained(file, name, text, says):
    with pytest.raises(VocabularyError, match=says):
        file(name, text)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(VocabularyError, match=r"nowhere\.txt"):
        Vocabulary.from_file(tmp_path / "nowhere.txt")
