"""What a YAML file is: a study, a search space, a comparison, or a federated one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from prunenas.errors import SpecError
from prunenas.spec.document import Document, Mistake
from prunenas.spec.space import SearchSpace

Kind = Literal["study", "search space", "comparison", "federated comparison"]

FOLDER = "search_spaces"

# Keys at the top that a file of one kind has and those of other kinds haven't.
_OWN: Mapping[Kind, frozenset[str]] = {
    "comparison": frozenset({"budgets"}),
    "federated comparison": frozenset({"strategies"}),
    "study": frozenset({"objective", "search"}),
}
_USED: Mapping[Kind, str] = {
    "comparison": "`prunenas compare` runs it",
    "federated comparison": "`prunenas federate` and `prunenas compare` run it",
    "study": "`prunenas run` runs it",
    "search space": "a study's methods name it, as their `space`",
}


def kind_of(document: Document) -> Kind | None:
    """Return what a file is, by its folder and its keys; None where they don't tell."""
    keys = _keys(document)
    if Path(document.path).resolve().parent.name == FOLDER:
        return "search space"
    if keys & SearchSpace.model_fields.keys() and "methods" not in keys:
        return "search space"
    return next((kind for kind, own in _OWN.items() if keys & own), None)


def demand(document: Document, wanted: Kind) -> None:
    """Refuse a file that is plainly of another kind than the one wanted.

    Raises:
        SpecError: With this one mistake; what else is wrong with it doesn't matter then.
    """
    found = kind_of(document)
    plain = not document.broken and not _keys(document) & _OWN.get(wanted, frozenset())
    if plain and found is not None and found != wanted:
        text = f"must be a {wanted}, but is a {found}; {_USED[found]}"
        raise SpecError([str(Mistake(document.path, None, text))])


def _keys(document: Document) -> frozenset[str]:
    return frozenset(document.value if isinstance(document.value, dict) else ())
