"""The laws between parts: methods and their spaces, and budgets.

Each is checked wherever its own parts can be read, so that one mistake doesn't hide another.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prunenas.errors import unknown
from prunenas.methods import METHODS, Method
from prunenas.spec.document import Document, Mistake, Place
from prunenas.spec.mistakes import validate
from prunenas.spec.objective import Objective
from prunenas.spec.space import Domain
from prunenas.spec.study import default_domain, is_whole


@dataclass(frozen=True)
class Part:
    """A piece of a document as plain values, and where it sits.

    Attributes:
        document: The file.
        base: The piece's place in it.
        value: What it says; anything at all, as users write it.
    """

    document: Document
    base: Place
    value: Any

    def get(self, *keys: str | int) -> "Part":
        """Return a part of this part; its value is ``None`` where there is none."""
        value = self.value
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return Part(self.document, (*self.base, *keys), value)

    def mapping(self) -> Mapping[str, Any]:
        """Return the value if it is a mapping, else an empty one."""
        return self.value if isinstance(self.value, Mapping) else {}

    def mistake(self, text: str) -> Mistake:
        """Return ``text`` as a mistake at this part's line."""
        return self.document.mistake(self.base, text)


@dataclass(frozen=True)
class Entry:
    """One entry of a study's ``methods``, and the space that it names or holds.

    ``space`` is ``None`` where a space is named and can't be read.
    """

    part: Part
    space: Part | None

    @property
    def name(self) -> Any:
        """The method's name as written."""
        return self.part.get("name").value


def broken_laws(entries: list[Entry], objective: Part) -> Iterator[Mistake]:
    """Yield every broken law between the parts of a study."""
    wanted: Objective | None = validate(Objective, objective.value, "objective")[0]
    lines: dict[str, int] = {}
    for entry in entries:
        if not isinstance(entry.name, str) or entry.name not in METHODS:
            continue
        name = entry.part.get("name")
        if entry.name in lines:
            text = f"a method may be listed once, but {entry.name!r} is also in line"
            yield name.mistake(f"{text} {lines[entry.name]}")
        lines.setdefault(entry.name, name.document.line(name.base))
        yield from _entry(entry, METHODS[entry.name])
        if wanted is not None:
            yield from _goal(entry, METHODS[entry.name], wanted)


def _entry(entry: Entry, kind: type[Method]) -> Iterator[Mistake]:
    given = entry.part.get("with")
    searched = entry.space.get("method").mapping() if entry.space else {}
    for field in given.mapping():
        if field not in kind.model_fields:
            yield given.get(field).mistake(_stranger(kind, entry.name, field))
    known = {key: value for key, value in given.mapping().items() if key in kind.model_fields}
    for place, text in validate(kind, known, entry.name)[1]:
        if place and place[0] in searched and place[0] not in known:
            continue  # a field without default that is searched is not missing
        yield given.get(*place).mistake(f"{entry.name}: {text}")
    if entry.space is None:
        return
    yield from _shares(entry, kind)
    if "whole" in given.mapping() and entry.space.get("widths").value is not None:
        yield given.get("whole").mistake(
            f"widths are searched for {entry.name}, so its space says what stays whole: "
            "`fixed: {GROUP: 1.0}` instead"
        )
    for field in searched:
        domain = entry.space.get("method", field)
        if field in given.mapping():
            there = given.get(field)
            yield domain.mistake(
                f"a hyperparameter is either searched or fixed, but {field} is searched here and "
                f"fixed at {there.document.path}:{there.document.line(there.base)}"
            )
        yield from misfits(kind, entry.name, field, domain)


def _shares(entry: Entry, kind: type[Method]) -> Iterator[Mistake]:
    """Widths or densities that the method doesn't take, or that take a hyperparameter's place."""
    assert entry.space is not None
    widths, densities = entry.space.get("widths"), entry.space.get("densities")
    if widths.value is not None and densities.value is not None:
        return  # told with the space's own mistakes
    fields = f"Known: {', '.join(sorted(kind.model_fields))}"
    if widths.value is not None and not kind.takes_ratios:
        instead = (
            "densities or its hyperparameters" if kind.takes_densities else "its hyperparameters"
        )
        yield widths.mistake(
            f"widths are for methods that follow given ratios, but {entry.name} sets its own; "
            f"search {instead} instead. {fields}"
        )
    if densities.value is None:
        return
    if not kind.takes_densities:
        takers = [name for name, each in METHODS.items() if each.takes_densities]
        instead = "widths" if kind.takes_ratios else "its hyperparameters"
        yield densities.mistake(
            f"densities are for {' and '.join(takers)}, but {entry.name} takes none; "
            f"search {instead} instead. {fields}"
        )
        return
    for part in (entry.space.get("method"), entry.part.get("with")):
        for field in part.mapping():
            if says(kind, field, "replaced_by_densities"):
                yield part.get(field).mistake(
                    f"densities take the place of {entry.name}'s {field}: leave one of them out"
                )
    for field in entry.space.get("method").mapping():
        if says(kind, field, "decides_densities"):
            yield entry.space.get("method", field).mistake(
                f"{entry.name}'s {field} says which layers have densities, so that it can't be "
                f"searched along with them: say `with: {{{field}: ...}}`"
            )


def misfits(kind: type[Method], name: str, field: str, domain: Part) -> Iterator[Mistake]:
    """Yield what keeps a range from fitting a method's field."""
    if field not in kind.model_fields:
        yield domain.mistake(_stranger(kind, name, field))
        return
    read: Domain | None = validate(Domain, domain.value, field)[0]
    if read is None:
        return  # told with the space's own mistakes
    if read.is_default and default_domain(kind, field).is_default:
        yield domain.mistake(f"{name} declares no range for {field}: give low and high, or choices")
    values = [(domain.get(key), domain.mapping().get(key)) for key in ("low", "high")]
    values += [(domain.get("choices", i), choice) for i, choice in enumerate(read.choices or ())]
    for part, value in values:
        if value is not None:
            for text in _refusals(kind, field, value):
                yield part.mistake(f"{name}: {text}")
    step = domain.get("step")
    if is_whole(kind, field) and step.value is not None and not isinstance(step.value, int):
        yield step.mistake(f"{name}: {field} needs whole steps, but they are {step.value:g}")


def _stranger(kind: type[Method], name: str, field: str) -> str:
    return unknown(f"{name} hyperparameter", field, kind.model_fields)


def _refusals(kind: type[Method], field: str, value: Any) -> Iterator[str]:
    for place, text in validate(kind, {field: value}, field)[1]:
        if place[:1] == (field,):
            yield text


def _goal(entry: Entry, kind: type[Method], objective: Objective) -> Iterator[Mistake]:
    if entry.space is None:
        return
    widths = entry.space.get("widths")
    if objective.flops_ratio is None:
        if kind.takes_ratios and widths.value is None:
            yield entry.part.mistake(
                f"{entry.name} follows given ratios, so it needs a space with widths: without one "
                "every candidate is the dense network"
            )
        return
    if kind.takes_ratios and widths.get("per").value == "network":
        yield widths.get("per").mistake(
            "a budget (flops_ratio) already decides the ratio of the whole network: "
            "leave the space out, or search per group or stage"
        )
    densities = entry.space.get("densities")
    if kind.takes_densities and densities.get("per").value == "network":
        yield densities.get("per").mistake(
            "a budget (flops_ratio) already decides the density of the whole network: "
            "leave the space out, or search per layer or stage"
        )
    for part in (entry.space.get("method"), entry.part.get("with")):
        for field in part.mapping():
            told = densities.value is not None and says(kind, field, "replaced_by_densities")
            if says(kind, field, "replaced_by_budget") and not told:
                yield part.get(field).mistake(
                    f"a budget (flops_ratio) takes the place of {entry.name}'s {field}: "
                    "leave it out"
                )


def says(kind: type[Method], field: str, what: str) -> bool:
    """Whether a method's field says something of itself beside its range, such as
    ``replaced_by_budget``."""
    extra = kind.model_fields[field].json_schema_extra if field in kind.model_fields else None
    return isinstance(extra, Mapping) and bool(extra.get(what))
