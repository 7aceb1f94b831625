"""A YAML file as plain values, with the line of every key: the ground the laws stand on."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Place = tuple[str | int, ...]
"""Where a value sits in a file: keys and list indices from the top. A tuple, not a dotted string,
because names of channel groups have dots themselves."""


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core schema: PyYAML's own (1.1) reads ``1e-4`` as text and ``no`` as false."""

    # PyYAML looks this name up on the class; an empty one of our own drops YAML 1.1's rules.
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first
    )


@dataclass(frozen=True)
class Mistake:
    """One broken law at one line of one file."""

    path: str
    line: int | None
    text: str

    def __str__(self) -> str:
        where = self.path if self.line is None else f"{self.path}:{self.line}"
        return f"{where}: {self.text}"


@dataclass(frozen=True)
class Document:
    """A YAML file, read.

    Attributes:
        path: The file as the user named it; begins every mistake.
        text: The file's text.
        value: What it says, in JSON's values (all keys are strings, all numbers finite).
        lines: The line, counted from 1, of every key and list entry.
        mistakes: What is wrong with the YAML itself: keys given twice, tags, endless numbers.
        spoiled: Places of scalars that are mistakes themselves; their value reads ``None``.
        broken: Whether there is nothing to read in it; the mistake says why.
    """

    path: str
    text: str
    value: Any
    lines: dict[Place, int]
    mistakes: tuple[Mistake, ...] = ()
    spoiled: frozenset[Place] = frozenset()
    broken: bool = False

    def line(self, place: Place) -> int:
        """Return the line of ``place``, or of the nearest thing around it that has one.

        Parts that the file doesn't have (a missing key, a name that a validator put in) are
        passed over.
        """
        known: Place = ()
        for part in place:
            if (*known, part) in self.lines:
                known = (*known, part)
        return self.lines[known]

    def mistake(self, place: Place, text: str) -> Mistake:
        """Return ``text`` as a mistake at the line of ``place``."""
        return Mistake(self.path, self.line(place), text)


def read(path: Path) -> Document:
    """Read a YAML file; whatever is wrong with it is among the document's mistakes."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return _broken(path, 1, "studies and search spaces are UTF-8 text, this file is not")
    except OSError as error:
        return _broken(path, None, _unreadable(path, error))
    return parse(text, path)


def parse(text: str, path: Path) -> Document:
    """Read a YAML file's text, whether or not the file is there; ``path`` is for messages."""
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        return _broken(path, mark.line + 1 if mark else 1, f"broken YAML: {error.problem}")
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        return _broken(path, line, f"broken YAML: {error.reason}")
    walk = _Walk(str(path))
    value = None if node is None else walk.value(node, ())
    mistakes, spoiled = tuple(walk.mistakes), frozenset(walk.spoiled)
    return Document(str(path), text, value, walk.lines, mistakes, spoiled)


def _broken(path: Path, line: int | None, problem: str) -> Document:
    mistake = Mistake(str(path), line, " ".join(problem.split()))
    return Document(str(path), "", None, {(): 1}, (mistake,), broken=True)


def _unreadable(path: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        folder = path.parent
        there = sorted(p.name for p in _yaml_files(folder))
        return f"no such file. In {folder}: {', '.join(there) or 'no YAML file'}"
    return f"can't be read: {error.strerror or error}"


def _yaml_files(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (p for p in folder.iterdir() if p.suffix in (".yaml", ".yml"))


class _Walk:
    """One pass from YAML nodes to values, noting lines and mistakes on the way."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.lines: dict[Place, int] = {(): 1}
        self.mistakes: list[Mistake] = []
        self.spoiled: set[Place] = set()
        self._open: set[int] = set()  # nodes being walked: an alias may point at its own parent

    def value(self, node: yaml.Node, place: Place) -> Any:
        self.lines.setdefault(place, node.start_mark.line + 1)
        if id(node) in self._open:
            return self._spoil(node, place, "an alias must not point at what it is part of")
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, place)
            if isinstance(node, yaml.SequenceNode):
                return [self.value(child, (*place, i)) for i, child in enumerate(node.value)]
            return self._scalar(node, place)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, child in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._say(key, "a key must be one word, not a list or a mapping")
                continue
            name = str(key.value)  # as written: layers of nn.Sequential are called 0, 1, 2
            if name in result:
                first = self.lines[(*place, name)]
                self._say(key, f"a key may be given once, but {name!r} is also in line {first}")
                continue
            self.lines[(*place, name)] = key.start_mark.line + 1
            result[name] = self.value(child, (*place, name))
        return result

    def _scalar(self, node: yaml.Node, place: Place) -> Any:
        text = str(node.value)
        match node.tag.removeprefix("tag:yaml.org,2002:"):
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int":
                return int(text)
            case "float":
                number = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
                if not math.isfinite(number):
                    return self._spoil(node, place, f"a number must be finite, but is {text}")
                return number
            case "str":
                return text
            case _:
                tag = node.tag
                return self._spoil(node, place, f"tags don't belong here, but {tag} is used")

    def _spoil(self, node: yaml.Node, place: Place, text: str) -> None:
        self.spoiled.add(place)
        self._say(node, text)

    def _say(self, node: yaml.Node, text: str) -> None:
        self.mistakes.append(Mistake(self.path, node.start_mark.line + 1, text))
