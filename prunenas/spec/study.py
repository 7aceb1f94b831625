"""A study as the user wrote it, validated: what `search` runs."""

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    Field,
    JsonValue,
    PrivateAttr,
    ValidationInfo,
    model_validator,
)

from prunenas.architecture import check_source
from prunenas.data import DATASETS
from prunenas.errors import SourceError, unknown
from prunenas.federated import Federation
from prunenas.methods import METHODS, Method
from prunenas.spec.objective import LatencySection, Objective, SearchSection
from prunenas.spec.space import Domain, SearchSpace, Section
from prunenas.training import Recipe


def study_name(name: str) -> str:
    """Refuse what can't name a study or a file."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", name):
        raise ValueError(
            "name must be up to 100 letters, digits, '_', '-' and '.', the first no '-' or '.', "
            f"but is {name!r}"
        )
    return name


def _source(name: str) -> str:
    try:
        check_source(name)
    except SourceError as error:
        raise ValueError(str(error)) from None
    return name


def _data_set(name: str) -> str:
    if name not in DATASETS:
        raise ValueError(unknown("data set", name, DATASETS))
    return name


def method_name(name: str) -> str:
    """Refuse what is no method."""
    if name not in METHODS:
        raise ValueError(unknown("method", name, METHODS))
    return name


def some(entries: tuple[Any, ...], info: ValidationInfo) -> tuple[Any, ...]:
    """Refuse an empty list."""
    # Not `min_length`: pydantic would count only entries without mistakes.
    if not entries:
        raise ValueError(f"{info.field_name} must have at least one entry, but the list is empty")
    return entries


class ModelSection(Section):
    """The dense network."""

    name: Annotated[str, AfterValidator(_source)] = Field(
        description="A model of prunenas (`vgg_mini`), `torchvision/NAME`, "
        "or `import.path:callable`, whose module is imported"
    )
    arguments: dict[str, JsonValue] = Field(
        default_factory=dict, description="Keyword arguments of the model's constructor"
    )


class DataSection(Section):
    """The data set: the arguments of `prunenas.data.load`."""

    name: Annotated[str, AfterValidator(_data_set)] = Field(
        description="A data set; `prunenas list data` names them"
    )
    root: str | None = Field(default=None, description="Folder of the files; `./data` without it")
    download: bool = Field(default=False, description="Download the files where they are missing")
    validation: float = Field(
        default=0.2, gt=0, lt=1, description="Share of the training images held out for validation"
    )
    seed: int = Field(default=0, ge=0, description="Seed of that split and of `train_limit`")
    channels: Literal[1, 3] | None = Field(
        default=None, description="1 or 3; 3 repeats grey images; the images' own without it"
    )
    train_limit: int | None = Field(
        default=None, ge=1, description="At most so many training images, of all classes alike"
    )
    workers: int = Field(default=2, ge=0, description="Processes that decode image folders")
    image_size: int = Field(
        default=224, ge=1, description="Height and width of an image folder's images, in pixels"
    )


class MethodEntry(Section):
    """One method of a study, and what is searched for it."""

    name: Annotated[str, AfterValidator(method_name)] = Field(
        description="A method; `prunenas list methods` names them"
    )
    space: SearchSpace = Field(
        default_factory=SearchSpace,
        description="What is searched: the name of a file in `search_spaces/`, the path of one "
        "(relative to the study), or a search space written here; nothing without it",
    )
    hyperparameters: dict[str, JsonValue] = Field(
        default_factory=dict,
        alias="with",
        description="Hyperparameters of the method that are not searched",
    )

    @property
    def kind(self) -> type[Method]:
        """The method's class."""
        return METHODS[self.name]

    @cached_property
    def searched(self) -> Mapping[str, Domain]:
        """The hyperparameters that are searched; the method's own range where none is given."""
        return {
            field: default_domain(self.kind, field) if domain.is_default else domain
            for field, domain in self.space.method.items()
        }

    def is_whole(self, field: str) -> bool:
        """Whether a hyperparameter counts something, so that only whole numbers fit."""
        return is_whole(self.kind, field)

    def method(self, searched: Mapping[str, Any]) -> Method:
        """Return the method with the values proposed for what is searched."""
        return self.kind(**{**self.hyperparameters, **searched})


class Study(Section):
    """A study: one dense network, one data set, some methods, one objective.

    Made by `load_study`; `settings` holds everything that decides its results.
    """

    name: Annotated[str, AfterValidator(study_name)] = Field(
        description="The study's name: a run of the same name goes on with it"
    )
    model: ModelSection = Field(description="The dense network that pruning starts from")
    data: DataSection = Field(description="What networks are trained and judged on")
    methods: Annotated[tuple[MethodEntry, ...], AfterValidator(some)] = Field(
        description="One or more, each once; with several the method is searched too"
    )
    objective: Objective = Field(description="What is wanted")
    train: Recipe = Field(description="How networks are trained")
    search: SearchSection = Field(description="How candidates are proposed")
    latency: LatencySection | None = Field(
        default=None, description="Every architecture's latency is measured, and how"
    )

    federation: Federation | None = Field(
        default=None,
        description="Who trains together where training is federated: `prunefl`, "
        "`protocol: federated`, and every architecture's seconds in a round",
    )

    _text: str = PrivateAttr(default="")
    _path: Path | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _another_one(self) -> Self:
        if self.search.warm_start == self.name:
            raise ValueError(
                f"search.warm_start must name another study, but {self.name!r} is this one"
            )
        return self

    @model_validator(mode="after")
    def _to_the_last_epoch(self) -> Self:
        fidelity = self.search.fidelity
        if fidelity and fidelity[-1] != self.train.epochs:
            raise ValueError(
                f"search.fidelity must end with train.epochs, {self.train.epochs}, "
                f"but ends with {fidelity[-1]}"
            )
        return self

    @model_validator(mode="after")
    def _tickets_are_masks(self) -> Self:
        if self.train.initial != "fresh":
            for entry in self.methods:
                if entry.kind.granularity != "weight":
                    raise ValueError(
                        f"train.initial: {self.train.initial} is for methods that drop weights, "
                        f"but {entry.name} takes {entry.kind.granularity}s away"
                    )
        return self

    @model_validator(mode="after")
    def _latency_differs(self) -> Self:
        if self.objective.needs_latency:
            what = "minimize" if "latency_ms" in self.objective.costs else "latency_ms"
            for entry in self.methods:
                if entry.kind.granularity == "weight":
                    raise ValueError(
                        f"objective.{what} is for methods whose networks differ in latency, but "
                        f"{entry.name} drops weights: all take as long as the dense network"
                    )
        return self

    @model_validator(mode="after")
    def _federated_whole(self) -> Self:
        if self.train.protocol == "federated":
            if self.search.fidelity:
                raise ValueError(
                    "search.fidelity pauses trainings at epochs, but train.protocol is federated: "
                    "give a stopper instead"
                )
            if self.train.initial != "fresh":
                raise ValueError(
                    "train.initial must be fresh where train.protocol is federated, but is "
                    f"{self.train.initial}"
                )
        return self

    @model_validator(mode="after")
    def _federation_there(self) -> Self:
        if self.federation is None:
            if self.train.protocol == "federated":
                raise ValueError("train.protocol: federated needs a section `federation:`")
            if self.objective.needs_federation:
                raise ValueError(
                    "objective.minimize: round_seconds needs a section `federation:`, whose rounds "
                    "they are"
                )
        return self

    @model_validator(mode="after")
    def _sampler_fits(self) -> Self:
        if self.search.sampler == "budgeted" and self.unbudgeted is not None:
            raise ValueError(self.unbudgeted)
        return self

    @property
    def unbudgeted(self) -> str | None:
        """Why the sampler `budgeted` can't search this study, one line; None where it can."""
        first = self.methods[0]
        if self.objective.needs_latency:
            return (
                "search.sampler: budgeted needs costs that are known before training, but latency "
                "is measured. Take tpe"
            )
        if self.objective.needs_federation:
            return (
                "search.sampler: budgeted needs costs that follow from FLOPs, but a round's time "
                "depends on which layers keep weights. Take tpe"
            )
        if len(self.methods) > 1:
            return "search.sampler: budgeted learns of one method, but there are several. Take tpe"
        if not first.kind.takes_ratios and self.objective.flops_ratio is None:
            weights = first.kind.granularity == "weight"
            return (
                "search.sampler: budgeted needs FLOPs that are known before training, but "
                f"{first.name} {'drops weights' if weights else 'finds its own widths'}. "
                "Give objective.flops_ratio, or take tpe"
            )
        return None

    @property
    def protocol(self) -> LatencySection | None:
        """How latency is measured; None where it is not."""
        wanted = self.objective.needs_latency
        return LatencySection() if self.latency is None and wanted else self.latency

    @property
    def text(self) -> str:
        """The YAML file as it was read; empty for a study that has none."""
        return self._text

    @property
    def path(self) -> Path | None:
        """The YAML file."""
        return self._path

    def epochs_for(self, *, dense_flops: int, flops: int) -> int:
        """Return how many epochs an architecture is retrained for; see `Recipe.epochs_for`."""
        return self.train.epochs_for(
            dense_flops=dense_flops,
            flops=flops,
            evaluations=None if self.federation is None else self.federation.evaluations,
        )

    def settings(self) -> dict[str, Any]:
        """Return the whole study in JSON values, defaults and search spaces written out.

        ``Study.model_validate(study.settings())`` is a study of the same settings.
        """
        return self.model_dump(mode="json", by_alias=True)

    def came_from(self, text: str, path: Path) -> Self:
        """Remember the file this study was read from."""
        self._text, self._path = text, path
        return self


def default_domain(kind: type[Method], field: str) -> Domain:
    """Return the range that a method declares for one of its fields; empty where there is none."""
    extra = kind.model_fields[field].json_schema_extra
    search = extra.get("search", {}) if isinstance(extra, Mapping) else {}
    return Domain.model_validate(search)


def is_whole(kind: type[Method], field: str) -> bool:
    """Whether a method's field takes whole numbers only."""
    annotation = kind.model_fields[field].annotation
    options = {annotation, *get_args(annotation)}
    return int in options and float not in options
