"""From files to studies and search spaces, with all mistakes at once."""

import copy
import os
from collections.abc import Iterable
from pathlib import Path

from prunenas.errors import SpecError, unknown
from prunenas.methods import METHODS
from prunenas.spec.comparison import read_comparison
from prunenas.spec.document import Document, Mistake, read
from prunenas.spec.federated import read_federated
from prunenas.spec.federation_file import fill_in_time
from prunenas.spec.files import fill_in, is_value, value_mistakes
from prunenas.spec.kinds import FOLDER, demand, kind_of
from prunenas.spec.laws import Entry, Part, broken_laws, misfits
from prunenas.spec.mistakes import Finding, plain, validate
from prunenas.spec.space import SearchSpace
from prunenas.spec.study import Study


def load_study(path: str | os.PathLike[str]) -> Study:
    """Read a study and the search spaces it names.

    Raises:
        SpecError: With every mistake of the study and of its search spaces, each a line
            ``path:line: law, value, known choices``, in the order of the files.

    >>> load_study("studies/quickstart.yaml").search.trials
    16
    """
    document = read(Path(path))
    demand(document, "study")
    study, mistakes = _study(document)
    if study is None:
        raise SpecError(_ordered(document, mistakes))
    return study


def load_space(path: str | os.PathLike[str]) -> SearchSpace:
    """Read a search space.

    Raises:
        SpecError: With every mistake of the file, each a line ``path:line: ...``.
    """
    document = read(Path(path))
    space, mistakes = _space(document)
    mistakes += _ownerless(document)
    if space is None or mistakes:
        raise SpecError(_ordered(document, mistakes))
    return space


def check(*paths: str | os.PathLike[str]) -> None:
    """Read studies and search spaces, and run nothing.

    A file with ``widths``, ``densities`` or ``method`` at its top, or in a folder
    ``search_spaces``, is read as a search space, one with ``maps`` as survival maps, one with
    ``budgets`` as a comparison, with ``strategies`` as a federated one, any other as a study.

    Raises:
        SpecError: With every mistake of all files, each a line ``path:line: ...``, each once.
    """
    lines: dict[str, None] = {}
    for path in paths:
        document = read(Path(path))
        kind = kind_of(document)
        if kind == "search space":
            found = _space(document)[1] + _ownerless(document)
        elif is_value(document):
            found = value_mistakes(document)
        elif kind == "comparison":
            found = read_comparison(document)[1]
        elif kind == "federated comparison":
            found = read_federated(document)[1]
        else:
            found = _study(document)[1]
        lines |= dict.fromkeys(_ordered(document, found))
    if lines:
        raise SpecError(lines)


def is_study(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a study's rather than a comparison's or a search space's.

    Raises:
        SpecError: It can't be read.
    """
    return kind_of(read(Path(path))) == "study"


def is_federated_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a federated comparison's.

    Raises:
        SpecError: It can't be read.
    """
    return kind_of(read(Path(path))) == "federated comparison"


def known_spaces(study: str | os.PathLike[str] | None = None) -> dict[str, Path]:
    """Return the search spaces that a study can name, by name.

    Args:
        study: The study's file; without it only ``./search_spaces`` counts.

    Returns:
        Files of ``search_spaces/`` in the study's folder, beside that folder, and in the current
        folder; of equal names the first in this order.
    """
    folders = [Path(FOLDER)]
    if study is not None:
        home = Path(study).parent
        folders = [home / FOLDER, Path(os.path.normpath(home / ".." / FOLDER)), *folders]
    found: dict[str, Path] = {}
    for folder in folders:
        if folder.is_dir():
            for path in sorted(folder.iterdir()):
                if path.suffix in (".yaml", ".yml"):
                    found.setdefault(path.stem, path)
    return found


def _study(document: Document) -> tuple[Study | None, list[Mistake]]:
    mistakes = list(document.mistakes)
    if document.broken:
        return None, mistakes
    value = copy.deepcopy(document.value)
    whole = Part(document, (), value)
    entries = []
    written = whole.get("methods").value
    for index, entry in enumerate(written if isinstance(written, list) else []):
        part = Part(document, ("methods", index), entry)
        space, found = _space_of(part)
        mistakes += found
        mistakes += fill_in(part)
        entries.append(Entry(part, space))
        if isinstance(entry, dict) and "space" in entry:
            # In its place stands what the file says; one with mistakes has been told already.
            entry["space"] = {} if found or space is None else space.value
    mistakes += fill_in_time(whole.get("federation"))
    study: Study | None
    study, findings = validate(Study, value, "study")
    mistakes += _unspoiled(document, findings)
    mistakes += broken_laws(entries, whole.get("objective"))
    if study is None or mistakes:
        return None, mistakes
    for entry, method in zip(entries, study.methods, strict=True):
        if entry.space is not None:
            method.space.came_from(entry.space.document, entry.space.base)
    return study.came_from(document.text, Path(document.path)), mistakes


def _space_of(entry: Part) -> tuple[Part | None, list[Mistake]]:
    """The space that a method's entry names or holds, and the mistakes of a file it names."""
    space = entry.get("space")
    if isinstance(space.value, dict) or "space" not in entry.mapping():
        return space, []
    if not isinstance(space.value, str):
        text = f"space must be a name, a path or a mapping, but is {plain(space.value)}"
        return None, [space.mistake(text)]
    path = _find(space.value, Path(space.document.path))
    if path is None:
        known = known_spaces(space.document.path)
        text = unknown("search space", space.value, known)
        return None, [space.mistake(text if known else f"{text}no file in {FOLDER}/")]
    document = read(path)
    _, mistakes = _space(document)
    if document.broken and mistakes[0].line is None:  # a path to nowhere: told where it is written
        return None, [space.mistake(str(mistakes[0]))]
    readable = isinstance(document.value, dict)
    return (Part(document, (), document.value) if readable else None), mistakes


def _find(name: str, study: Path) -> Path | None:
    if "/" in name or name.endswith((".yaml", ".yml")):
        return Path(os.path.normpath(study.parent / name))
    return known_spaces(study).get(name)


def _space(document: Document) -> tuple[SearchSpace | None, list[Mistake]]:
    mistakes = list(document.mistakes)
    if document.broken:
        return None, mistakes
    space: SearchSpace | None
    space, findings = validate(SearchSpace, document.value, "search space")
    mistakes += _unspoiled(document, findings)
    return (space.came_from(document, ()) if space is not None else None), mistakes


def _unspoiled(document: Document, findings: Iterable[Finding]) -> list[Mistake]:
    """Findings as mistakes, but for values that are told as mistakes of the YAML itself."""
    return [
        document.mistake(place, text) for place, text in findings if place not in document.spoiled
    ]


def _ownerless(document: Document) -> list[Mistake]:
    """Hyperparameters of a space that no method has, or whose ranges fit none that has them."""
    mistakes = []
    methods = Part(document, (), document.value).get("method")
    every = {field for kind in METHODS.values() for field in kind.model_fields}
    for field in methods.mapping():
        domain = methods.get(field)
        owners = {name: kind for name, kind in METHODS.items() if field in kind.model_fields}
        found = [list(misfits(kind, name, field, domain)) for name, kind in owners.items()]
        if not owners:
            mistakes.append(domain.mistake(unknown("hyperparameter", field, every)))
        elif all(found):
            mistakes += found[0]
    return mistakes


def _ordered(document: Document, mistakes: Iterable[Mistake]) -> list[str]:
    """Each mistake once: this document's first, and in the order of the lines."""
    files: dict[str, list[Mistake]] = {document.path: []}
    for mistake in mistakes:
        files.setdefault(mistake.path, []).append(mistake)
    by_line = (sorted(found, key=lambda mistake: mistake.line or 0) for found in files.values())
    return list(dict.fromkeys(str(mistake) for found in by_line for mistake in found))
