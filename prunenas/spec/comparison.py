"""A comparison as the user wrote it, validated: what `evidence` trains and judges."""

import copy
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    JsonValue,
    PrivateAttr,
    ValidationInfo,
    field_validator,
)

from prunenas.errors import SpecError
from prunenas.methods import METHODS
from prunenas.spec.document import Document, Mistake, read
from prunenas.spec.files import fill_in
from prunenas.spec.kinds import demand
from prunenas.spec.laws import Part
from prunenas.spec.mistakes import validate
from prunenas.spec.space import Section
from prunenas.spec.study import DataSection, ModelSection, method_name, some, study_name
from prunenas.training import Recipe

Arm = Literal[
    "dense",
    "fine_tuned",
    "scratch_e",
    "scratch_b",
    "uniform",
    "random",
    "ticket",
    "guided",
    "transferred",
]

_ALL: tuple[Arm, ...] = ("dense", "fine_tuned", "scratch_e", "scratch_b", "uniform", "random")


class ComparedMethod(Section):
    """One method of a comparison, at fixed hyperparameters."""

    name: Annotated[str, AfterValidator(method_name)] = Field(
        description="A method; `prunenas list methods` names them"
    )
    label: str | None = Field(
        default=None, min_length=1, description="What tables call it; its name without it"
    )
    hyperparameters: dict[str, JsonValue] = Field(
        default_factory=dict, alias="with", description="Hyperparameters of the method"
    )

    @property
    def title(self) -> str:
        """What tables call it."""
        return self.label or self.name


class FineTuning(Section):
    """How what a method leaves is trained on."""

    epochs: int | None = Field(
        default=None, ge=1, strict=True, description="A quarter of `train.epochs` without it"
    )
    lr: float | None = Field(
        default=None,
        gt=0,
        description="Constant learning rate; a hundredth of `train.lr` without it",
    )


class PatternOrigin(Section):
    """Where the patterns are found that the arm `transferred` takes over."""

    model: ModelSection = Field(description="The dense network that methods prune for it")
    data: DataSection | None = Field(
        default=None, description="What it is trained on; the comparison's data without it"
    )


class Comparison(Section):
    """A comparison: dense networks, methods and budgets, each trained in several ways.

    Made by `load_comparison`.
    """

    name: Annotated[str, AfterValidator(study_name)] = Field(
        description="The comparison's name, for titles and files"
    )
    models: Annotated[tuple[ModelSection, ...], AfterValidator(some)] = Field(
        description="One or more dense networks; each gets a table of its own"
    )
    data: DataSection = Field(description="What networks are trained and judged on")
    methods: Annotated[tuple[ComparedMethod, ...], AfterValidator(some)] = Field(
        description="One or more"
    )
    budgets: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], AfterValidator(some)] = (
        Field(description="Shares of the dense network's FLOPs that every architecture meets")
    )
    train: Recipe = Field(
        description="How dense networks are trained, and architectures from scratch; its protocol "
        "is that of the controls"
    )
    fine_tune: FineTuning = Field(
        default_factory=FineTuning, description="How what methods leave is trained on"
    )
    arms: tuple[Arm, ...] = Field(
        default=_ALL,
        description="In which ways: dense, fine_tuned, scratch_e, scratch_b, uniform and random "
        "(controls at the same FLOPs), ticket (a mask's original weights), guided (by the pattern "
        "of what the method finds with all seeds), transferred (by such a pattern of another "
        "network or other data)",
    )
    patterns: PatternOrigin | None = Field(
        default=None,
        description="Where transferred patterns are found; on the first of `models` without it",
    )
    seeds: int = Field(default=5, ge=2, strict=True, description="How many, from `seed` on")
    seed: int = Field(default=0, ge=0, strict=True, description="The first seed")
    margin: float = Field(
        default=0.005, gt=0, lt=1, description="Accuracies that lie closer than this are as good"
    )

    _text: str = PrivateAttr(default="")

    @field_validator("methods", "models", "budgets", "arms")
    @classmethod
    def _rows_differ(cls, entries: tuple[Any, ...], info: ValidationInfo) -> tuple[Any, ...]:
        names = [_named(entry) for entry in entries]
        twice = [name for index, name in enumerate(names) if name in names[:index]]
        if twice:
            what = "methods' labels" if info.field_name == "methods" else info.field_name
            raise ValueError(f"{what} must differ, but {twice[0]} stands there twice")
        return entries

    @field_validator("train")
    @classmethod
    def _from_fresh_weights(cls, train: Recipe) -> Recipe:
        if train.initial != "fresh":
            raise ValueError(
                f"train.initial must be fresh, but is {train.initial}: "
                "the arm `ticket` begins with original weights"
            )
        if train.protocol == "federated":
            raise ValueError(
                "protocol must be scratch_e or scratch_b, but is federated: a comparison "
                "has no federation (`strategies:` make a file one that compares on a federation)"
            )
        return train

    def fine_tuning(self) -> Recipe:
        """Return the recipe of fine-tuning: constant, at a low learning rate.

        Source of the defaults: Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017,
        section 4: 40 epochs for 160 of training, at the last of its learning rates.
        """
        return self.train.model_copy(
            update={
                "epochs": self.fine_tune.epochs or max(1, self.train.epochs // 4),
                "lr": self.fine_tune.lr or self.train.lr / 100,
                "schedule": "constant",
                "warmup_epochs": 0,
            }
        )

    @property
    def text(self) -> str:
        """The YAML file as it was read; empty for a comparison that has none."""
        return self._text

    def came_from(self, text: str) -> Self:
        """Remember the file this comparison was read from."""
        self._text = text
        return self


def _named(entry: Any) -> str:
    """What a row or a column of tables is called."""
    if isinstance(entry, ComparedMethod):
        return entry.title
    if isinstance(entry, ModelSection):
        return f"{entry.name} {entry.arguments}" if entry.arguments else entry.name
    return f"{entry:g}" if isinstance(entry, float) else str(entry)


def load_comparison(path: str | os.PathLike[str]) -> Comparison:
    """Read a comparison.

    Raises:
        SpecError: With every mistake, each a line ``path:line: law, value, known choices``.
    """
    document = read(Path(path))
    demand(document, "comparison")
    comparison, mistakes = read_comparison(document)
    if comparison is None:
        by_line = sorted(mistakes, key=lambda mistake: mistake.line or 0)
        raise SpecError(dict.fromkeys(map(str, by_line)))
    return comparison


def read_comparison(document: Document) -> tuple[Comparison | None, list[Mistake]]:
    """Return a document's comparison, or its mistakes."""
    mistakes = list(document.mistakes)
    if document.broken:
        return None, mistakes
    value = copy.deepcopy(document.value)
    whole = Part(document, (), value)
    listed = whole.get("methods").value
    entries = [
        Part(document, ("methods", index), entry)
        for index, entry in enumerate(listed if isinstance(listed, list) else [])
    ]
    for entry in entries:
        mistakes += fill_in(entry)
    comparison: Comparison | None
    comparison, findings = validate(Comparison, value, "comparison")
    mistakes += [
        document.mistake(place, text) for place, text in findings if place not in document.spoiled
    ]
    for entry in entries:
        mistakes += _hyperparameters(entry)
    mistakes += _transfers(whole)
    if comparison is None or mistakes:
        return None, mistakes
    return comparison.came_from(document.text), mistakes


def _transfers(whole: Part) -> Iterator[Mistake]:
    """Patterns that nobody asks for, and an arm that has none."""
    arms, models = whole.get("arms"), whole.get("models").value
    wanted = isinstance(arms.value, list) and "transferred" in arms.value
    if "patterns" in whole.mapping() and not wanted:
        yield whole.get("patterns").mistake(
            "`patterns` says where the arm `transferred` has its patterns from, but that is not "
            "among the arms"
        )
    elif wanted and "patterns" not in whole.mapping() and _one(models):
        yield arms.mistake(
            "the arm `transferred` takes patterns over from another network or other data: list "
            "two models, or say `patterns: {model: ..., data: ...}`"
        )


def _one(models: Any) -> bool:
    return isinstance(models, list) and len(models) == 1


def _hyperparameters(entry: Part) -> list[Mistake]:
    kind = METHODS.get(str(entry.get("name").value))
    given = entry.get("with")
    if kind is None:
        return []
    findings = validate(kind, dict(given.mapping()), str(entry.get("name").value))[1]
    name = entry.get("name").value
    return [given.get(*place).mistake(f"{name}: {text}") for place, text in findings]
