"""Time models that lie in a file of their own, as `prunenas profile` writes them.

A federation's ``time`` may be the path of such a file, relative to the file it stands in: a mapping
with the fields of a time model. A federation is made of what the file says, wherever it lies.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from prunenas.errors import SpecError
from prunenas.federated import TimeModel, TimeSection
from prunenas.spec.document import Document, Mistake, read
from prunenas.spec.laws import Part
from prunenas.spec.mistakes import validate

SUFFIXES = (".yaml", ".yml")
"""What a path ends with; anything else is the name of a preset."""


def times_text(model: TimeModel, origin: Iterable[str]) -> str:
    """Return a time model as the file that a federation's ``time`` takes; it loses no digit.

    Args:
        model: Of the network that the federation trains.
        origin: Where it comes from, one line each.
    """
    lines = [
        "# Seconds of a round, and of each weight that a layer keeps in it: a federation's time."
    ]
    lines += [f"# {' '.join(line.split())}" for line in origin]
    body: str = yaml.safe_dump(model.to_dict(), sort_keys=False, allow_unicode=True)
    return "\n".join(lines) + "\n" + body


def load_times(path: str | os.PathLike[str]) -> TimeModel:
    """Read a time model.

    Raises:
        SpecError: With every mistake, each a line ``path:line: law, value, known choices``.
    """
    document = read(Path(path))
    section, mistakes = _read(document)
    if section is None:
        raise SpecError(dict.fromkeys(map(str, mistakes)))
    return TimeModel(section.constant, section.layers, section.seconds_per_byte)


def fill_in(federation: Part) -> list[Mistake]:
    """Put what a file says in the place of its path, in a ``federation`` section.

    A path whose file has mistakes is taken out, so that nothing is told twice.

    Args:
        federation: As written; its value is changed in place.

    Returns:
        The file's mistakes, each at its line there.
    """
    written = federation.get("time")
    if not isinstance(written.value, str) or not written.value.endswith(SUFFIXES):
        return []
    path = Path(os.path.normpath(Path(federation.document.path).parent / written.value))
    document = read(path)
    section, mistakes = _read(document)
    if document.broken and mistakes[0].line is None:  # told where the path is written
        mistakes = [written.mistake(str(mistakes[0]))]
    if section is None:
        del federation.value["time"]
    else:
        federation.value["time"] = document.value
    return mistakes


def _read(document: Document) -> tuple[TimeSection | None, list[Mistake]]:
    mistakes = list(document.mistakes)
    if document.broken:
        return None, mistakes
    found: Any
    found, findings = validate(TimeSection, document.value, "time model")
    mistakes += [
        document.mistake(place, text) for place, text in findings if place not in document.spoiled
    ]
    return (None if mistakes else found), mistakes
