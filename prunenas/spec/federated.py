"""A federated comparison as the user wrote it, validated: strategies on the same federation."""

import copy
import os
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    JsonValue,
    PrivateAttr,
    model_validator,
)

from prunenas.errors import SpecError, unknown
from prunenas.federated import STRATEGIES, Federation, Strategy
from prunenas.spec.document import Document, Mistake, parse, read
from prunenas.spec.kinds import demand
from prunenas.spec.laws import Part
from prunenas.spec.mistakes import validate
from prunenas.spec.space import Section
from prunenas.spec.study import DataSection, ModelSection, some, study_name
from prunenas.spec.times import fill_in

FINDER = "prunefl"
"""The strategy that finds its own density, which others take over."""

CONTROL = "conventional"
"""The strategy whose accuracy others have to reach."""


def _strategy_name(name: str) -> str:
    if name not in STRATEGIES:
        raise ValueError(unknown("strategy", name, STRATEGIES))
    return name


def _entry(value: Any) -> Any:
    """``snip`` for ``{name: snip}``."""
    return {"name": value} if isinstance(value, str) else value


class ComparedStrategy(Section):
    """One strategy of a federated comparison, at fixed hyperparameters."""

    name: Annotated[str, AfterValidator(_strategy_name)] = Field(
        description="prunefl, conventional, snip, iterative_magnitude or random"
    )
    label: str | None = Field(
        default=None, min_length=1, description="What tables call it; its name without it"
    )
    rounds: int | None = Field(
        default=None, ge=1, strict=True, description="Instead of the federation's"
    )
    hyperparameters: dict[str, JsonValue] = Field(
        default_factory=dict, alias="with", description="Hyperparameters of the strategy"
    )

    @property
    def title(self) -> str:
        """What tables call it."""
        return self.label or self.name

    @property
    def follows(self) -> bool:
        """Whether it takes over the density that `FINDER` finds with the same seed."""
        return STRATEGIES[self.name].needs_density and "density" not in self.hyperparameters

    def strategy(self, density: float | None = None) -> Strategy:
        """Return the strategy.

        Args:
            density: What `FINDER` found, for one that `follows`.
        """
        found = {"density": density} if self.follows else {}
        return STRATEGIES[self.name](**self.hyperparameters, **found)


class FederatedComparison(Section):
    """A federation, and the strategies that are tried on it with several seeds.

    Made by `load_federated`.
    """

    name: Annotated[str, AfterValidator(study_name)] = Field(
        description="The comparison's name, for titles and files"
    )
    model: ModelSection = Field(description="The dense network that the clients train")
    data: DataSection = Field(
        description="What is spread over them; validation and test images are the server's"
    )
    federation: Federation = Field(description="Who trains, on which part of the data, and how")
    strategies: Annotated[
        tuple[Annotated[ComparedStrategy, BeforeValidator(_entry)], ...], AfterValidator(some)
    ] = Field(
        description="What decides the masks, one or more; a name, or a mapping. Those that need a "
        "density take over that of prunefl with the same seed"
    )
    seeds: int = Field(default=3, ge=1, strict=True, description="How many, from `seed` on")
    seed: int = Field(default=0, ge=0, strict=True, description="The first seed")

    _text: str = PrivateAttr(default="")

    @model_validator(mode="after")
    def _rows_differ(self) -> Self:
        titles = [entry.title for entry in self.strategies]
        if twice := [title for index, title in enumerate(titles) if title in titles[:index]]:
            raise ValueError(
                f"strategies must have different labels, but {twice[0]} stands there twice"
            )
        return self

    @model_validator(mode="after")
    def _densities_known(self) -> Self:
        finders = [entry for entry in self.strategies if entry.name == FINDER]
        for entry in self.strategies:
            if entry.follows and len(finders) != 1:
                raise ValueError(
                    f"strategies: {entry.title} must be told a density (`with: {{density: 0.1}}`), "
                    f"or take over that of one {FINDER}, but there are {len(finders)} of them"
                )
        return self

    @property
    def text(self) -> str:
        """The YAML file as it was read; empty for a comparison that has none."""
        return self._text

    def came_from(self, text: str) -> Self:
        """Remember the file this comparison was read from."""
        self._text = text
        return self


def load_federated(path: str | os.PathLike[str]) -> FederatedComparison:
    """Read a federated comparison.

    Raises:
        SpecError: With every mistake, each a line ``path:line: law, value, known choices``.
    """
    document = read(Path(path))
    demand(document, "federated comparison")
    return _whole(document)


def federated_of(text: str, name: str) -> FederatedComparison:
    """Read a federated comparison's text; ``name`` is what messages call the file.

    Raises:
        SpecError: With every mistake, each a line ``name:line: law, value, known choices``.
    """
    return _whole(parse(text, Path(name)))


def _whole(document: Document) -> FederatedComparison:
    comparison, mistakes = read_federated(document)
    if comparison is None:
        by_line = sorted(mistakes, key=lambda mistake: mistake.line or 0)
        raise SpecError(dict.fromkeys(map(str, by_line)))
    return comparison


def read_federated(document: Document) -> tuple[FederatedComparison | None, list[Mistake]]:
    """Return a document's federated comparison, or its mistakes."""
    mistakes = list(document.mistakes)
    if document.broken:
        return None, mistakes
    value = copy.deepcopy(document.value)
    whole = Part(document, (), value)
    mistakes += fill_in(whole.get("federation"))
    comparison: FederatedComparison | None
    comparison, findings = validate(FederatedComparison, value, "federated comparison")
    mistakes += [
        document.mistake(place, text) for place, text in findings if place not in document.spoiled
    ]
    listed = whole.get("strategies").value
    for index in range(len(listed) if isinstance(listed, list) else 0):
        mistakes += _hyperparameters(Part(document, ("strategies", index), listed[index]))
    if comparison is None or mistakes:
        return None, mistakes
    return comparison.came_from(document.text), mistakes


def _hyperparameters(entry: Part) -> list[Mistake]:
    """What is wrong with one strategy's ``with``."""
    if not isinstance(entry.value, dict):
        return []
    name, given = str(entry.get("name").value), entry.get("with")
    kind = STRATEGIES.get(name)
    if kind is None or not isinstance(given.value, dict | None):
        return []
    values = dict(given.mapping())
    if kind.needs_density:
        values.setdefault("density", 1.0)
    findings = validate(kind, values, name)[1]
    return [given.get(*place).mistake(f"{name}: {text}") for place, text in findings]
