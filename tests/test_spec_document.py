"""YAML files as values with lines."""

from pathlib import Path

import pytest

from prunenas.spec.document import Document, read


def document(folder: Path, text: str) -> Document:
    path = folder / "file.yaml"
    path.write_text(text)
    return read(path)


def test_lines_are_those_of_keys_also_where_a_key_occurs_twice(tmp_path: Path) -> None:
    found = document(
        tmp_path,
        "data: {name: a}\n"
        "# a comment\n"
        "model:\n"
        "  name: b\n"
        "methods:\n"
        "  - name: c\n"
        "    space: d\n"
        "  - {name: e,\n"
        "     space: f}\n",
    )
    lines = {
        ("data", "name"): 1,
        ("model",): 3,
        ("model", "name"): 4,
        ("methods", 0): 6,
        ("methods", 0, "space"): 7,
        ("methods", 1, "name"): 8,
        ("methods", 1, "space"): 9,
    }
    assert {place: found.line(place) for place in lines} == lines
    assert found.mistakes == ()


def test_a_missing_key_has_the_line_of_what_it_is_missing_from(tmp_path: Path) -> None:
    found = document(tmp_path, "name: x\n\nmodel: {}\n")
    assert found.line(("model", "name")) == 3
    assert found.line(("search", "trials")) == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),  # YAML 1.1, and so PyYAML alone, reads text
        ("5.", 5.0),
        ("-.5E+2", -50.0),
        ("010", 10),  # YAML 1.1: 8
        ("1:30", "1:30"),  # YAML 1.1: 90
        ("+3", 3),
        ("no", "no"),  # YAML 1.1: false
        ("True", True),
        ("false", False),
        ("~", None),
        ("", None),
        ("2024-01-01", "2024-01-01"),  # YAML 1.1: a date
        ("'1'", "1"),
        ("1e", "1e"),
        (".", "."),
        ("[1, [a, {b: 2.5}]]", [1, ["a", {"b": 2.5}]]),
    ],
)
def test_values_are_those_of_yaml_1_2(tmp_path: Path, text: str, value: object) -> None:
    found = document(tmp_path, f"key: {text}\n").value["key"]
    assert found == value
    assert type(found) is type(value)


def test_keys_are_text_as_layers_of_a_sequential_are(tmp_path: Path) -> None:
    found = document(tmp_path, "{0: a, 1.0: b, true: c, ~: d}")
    assert found.value == {"0": "a", "1.0": "b", "true": "c", "~": "d"}


def test_anchors_are_followed(tmp_path: Path) -> None:
    found = document(tmp_path, "a: &x {low: 0.1}\nb: *x\n")
    assert found.value == {"a": {"low": 0.1}, "b": {"low": 0.1}}
    assert found.mistakes == ()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: 2\na: 3\n", "3: a key may be given once, but 'a' is also in line 1"),
        ("a:\n  - b: 1\n    b: 2\n", "3: a key may be given once, but 'b' is also in line 2"),
        ("a: 1\nb: .nan\n", "2: a number must be finite, but is .nan"),
        ("a: -.Inf\n", "1: a number must be finite, but is -.Inf"),
        ("a: 1e999\n", "1: a number must be finite, but is 1e999"),
        ("a:\n  ? [1]\n  : b\n", "2: a key must be one word, not a list or a mapping"),
        ("a: &x\n  - *x\n", "1: an alias must not point at what it is part of"),
        ("a: !!python/name:os.system\n", "1: tags don't belong here, but "
         "tag:yaml.org,2002:python/name:os.system is used"),
    ],
)  # fmt: skip
def test_what_is_no_plain_value_is_a_mistake(tmp_path: Path, text: str, line: str) -> None:
    found = document(tmp_path, text)
    assert [str(mistake) for mistake in found.mistakes] == [f"{tmp_path}/file.yaml:{line}"]
    assert not found.broken


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name: x\nmodel: {name: a\ndata: [\n", "3: broken YAML: expected ',' or '}', but got ':'"),
        ("a: b: c\n", "1: broken YAML: mapping values are not allowed here"),
        ("a:\n\t- b\n", "2: broken YAML: found character '\\t' that cannot start any token"),
        ("a: 1\n---\nb: 2\n", "2: broken YAML: but found another document"),
        ("a: *nowhere\n", "1: broken YAML: found undefined alias 'nowhere'"),
        ("a: 1\nb: '\x01'\n", "2: broken YAML: special characters are not allowed"),
    ],
)
def test_a_broken_file_is_one_mistake_at_its_line(tmp_path: Path, text: str, line: str) -> None:
    found = document(tmp_path, text)
    assert [str(mistake) for mistake in found.mistakes] == [f"{tmp_path}/file.yaml:{line}"]
    assert found.broken


def test_a_file_that_is_no_text_is_a_mistake(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes(b"name: \xff\xfe\n")
    (mistake,) = read(path).mistakes
    assert str(mistake) == f"{path}:1: studies and search spaces are UTF-8 text, this file is not"


def test_a_missing_file_is_told_with_the_files_there_are(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").touch()
    (tmp_path / "a.yml").touch()
    (tmp_path / "c.txt").touch()
    (mistake,) = read(tmp_path / "x.yaml").mistakes
    assert str(mistake) == f"{tmp_path}/x.yaml: no such file. In {tmp_path}: a.yml, b.yaml"
    (mistake,) = read(tmp_path).mistakes
    assert str(mistake) == f"{tmp_path}: can't be read: Is a directory"
