"""Hyperparameters that lie in a file of their own: survival maps, read and written.

A field of a method whose declaration says ``file`` may be given as the path of a YAML file,
relative to the study: a mapping with the field's name as its one key. A study is made of what the
file says, wherever it lies.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from prunenas.errors import unknown
from prunenas.methods import METHODS, Method
from prunenas.spec.document import Document, Mistake, read
from prunenas.spec.laws import Part, says
from prunenas.spec.mistakes import plain, validate

Map = Sequence[Sequence[float]]


def fill_in(entry: Part) -> list[Mistake]:
    """Put what files say in the place of their paths, in one entry of a study's ``methods``.

    A path whose file has mistakes is taken out, so that nothing is told twice.

    Args:
        entry: As written; its value is changed in place.

    Returns:
        The files' mistakes, each at its line there.
    """
    name, given = entry.get("name").value, entry.get("with")
    if not isinstance(name, str) or name not in METHODS:
        return []
    mistakes: list[Mistake] = []
    for field, value in list(given.mapping().items()):
        if isinstance(value, str) and says(METHODS[name], field, "file"):
            path = Path(os.path.normpath(Path(entry.document.path).parent / value))
            document = read(path)
            found = _mistakes(document, METHODS[name], field)
            if document.broken and found[0].line is None:  # told where the path is written
                found = [given.get(field).mistake(str(found[0]))]
            if found:
                del given.value[field]
            else:
                given.value[field] = document.value[field]
            mistakes += found
    return mistakes


def is_value(document: Document) -> bool:
    """Return whether a file holds a hyperparameter, and no study or search space."""
    value = document.value if isinstance(document.value, dict) else {}
    return bool(value) and not value.keys() - _owners().keys()


def value_mistakes(document: Document) -> list[Mistake]:
    """Return what is wrong with a file that `is_value`."""
    owners = _owners()
    return [
        mistake for field in document.value for mistake in _mistakes(document, owners[field], field)
    ]


def _owners() -> dict[str, type[Method]]:
    """A method for each field that may lie in a file."""
    return {
        field: kind
        for kind in METHODS.values()
        for field in kind.model_fields
        if says(kind, field, "file")
    }


def maps_text(maps: Mapping[int, Map], origin: Iterable[str]) -> str:
    """Return survival maps as the file that ``guided_sparse`` takes.

    Args:
        maps: For each stage, rows of shares in [0, 1].
        origin: Where they come from, one line each.
    """
    lines = ["# The share of kernels that keep each place, by stage: maps of guided_sparse."]
    lines += [f"# {' '.join(line.split())}" for line in origin]
    lines.append("maps:")
    for stage in sorted(maps):
        rows = ", ".join(f"[{', '.join(f'{share:.6f}' for share in row)}]" for row in maps[stage])
        lines.append(f"  - [{rows}]  # stage {stage}")
    return "\n".join(lines) + "\n"


def _mistakes(document: Document, kind: type[Method], field: str) -> list[Mistake]:
    mistakes = list(document.mistakes)
    if mistakes:
        return mistakes
    value: Any = document.value
    if not isinstance(value, dict):
        text = f"a file of {field} must be a mapping with the key {field}, but is {plain(value)}"
        return [document.mistake((), text)]
    mistakes += [
        document.mistake((key,), unknown(f"key of a file of {field}", key, [field]))
        for key in value
        if key != field
    ]
    if field not in value:
        return mistakes or [document.mistake((), f"{field} must be given")]
    for place, text in validate(kind, {field: value[field]}, field)[1]:
        if place[:1] in ((), (field,)):
            mistakes.append(document.mistake(place or (field,), text))
    return mistakes
