"""What a study wants, and how its candidates are proposed."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from prunenas import architectures
from prunenas.errors import unknown
from prunenas.spec.mistakes import plain
from prunenas.spec.space import Section

Sampler = Literal["auto", "budgeted", "tpe", "gp", "nsga2", "random", "qmc"]
Stopper = Literal["none", "pareto", "median", "asha"]

_SHARE = "objective.flops_ratio"
_PLACE = "search.starts"
_FIDELITY = "search.fidelity"


def _shares(value: Any) -> Any:
    """One number or a pair, each in (0, 1]; floats."""
    if value is None:
        return None
    both = isinstance(value, Sequence) and not isinstance(value, str)
    numbers = list(value) if both else [value]
    if both and len(numbers) != 2:
        raise ValueError(
            f"{_SHARE} must be a number or [lowest, highest], but the list has {len(numbers)} "
            f"entr{'y' if len(numbers) == 1 else 'ies'}"
        )
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise ValueError(
                f"{_SHARE} must be a number or [lowest, highest], but is {plain(number)}"
            )
        if not number > 0:
            raise ValueError(f"`{_SHARE} > 0` must hold, but it is {plain(number)}")
        if not number <= 1:
            raise ValueError(f"`{_SHARE} <= 1` must hold, but it is {plain(number)}")
    if not both:
        return float(numbers[0])
    low, high = numbers
    if not low < high:
        raise ValueError(f"{_SHARE} must ascend from lowest to highest, but is [{low:g}, {high:g}]")
    return (float(low), float(high))


def _starts(value: Any) -> Any:
    """``true``, ``false``, or a list of texts, each the name of a start."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ValueError(f"{_PLACE} must be true, false or a list, but is {plain(value)}")
    known = ["uniform", "uniform 0.5", "defaults", "papers", *architectures.names()]
    for start in value:
        if not isinstance(start, str):
            raise ValueError(f"an entry of {_PLACE} must be text, but is {plain(start)}")
        word, blank, share = start.partition(" ")
        if not (_is_share(share) if word == "uniform" and blank else start in known):
            raise ValueError(unknown("start", start, known))
    return tuple(value)


def _rungs(value: Any) -> Any:
    """Whole numbers, ascending from at least 1; at least two, or none."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError(f"{_FIDELITY} must be a list of epochs, but is {plain(value)}")
    for epochs in value:
        if isinstance(epochs, bool) or not isinstance(epochs, int):
            raise ValueError(f"{_FIDELITY} must hold whole numbers, but has {plain(epochs)}")
        if epochs < 1:
            raise ValueError(f"`{_FIDELITY} >= 1` must hold, but it has {epochs}")
    if len(value) == 1:
        raise ValueError(f"{_FIDELITY} must have two entries or more, but has one: {value[0]}")
    if any(one >= other for one, other in pairwise(value)):
        raise ValueError(f"{_FIDELITY} must ascend, but is {list(value)}")
    return tuple(value)


def _is_share(text: str) -> bool:
    try:
        return 0 < float(text) <= 1
    except ValueError:
        return False


def _other_study(name: str | None) -> str | None:
    if name is not None and not name:
        raise ValueError("search.warm_start must be a study's name, but is ''")
    return name


def _seeds(number: int) -> int:
    if number == 1:
        raise ValueError(
            "search.repeats must be 0 (none) or 2 and more, as one seed gives no standard error, "
            "but is 1"
        )
    return number


class Objective(Section):
    """What is wanted: a trade of accuracy against FLOPs, or accuracy at a fixed budget."""

    maximize: Literal["accuracy"] = Field(
        description="`accuracy`: share in [0, 1], validation split"
    )
    minimize: Literal["flops"] | None = Field(
        default=None, description="`flops`: the study searches the whole front"
    )
    flops_ratio: Annotated[float | tuple[float, float] | None, BeforeValidator(_shares)] = Field(
        default=None,
        description="A number: a budget, the share of the dense network's FLOPs every architecture "
        "meets. With `minimize: flops`, [lowest, highest]: the front between them",
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if self.range is not None and self.minimize is None:
            low, high = self.range
            raise ValueError(
                f"a range of FLOPs (flops_ratio: [{low:g}, {high:g}]) goes with `minimize: flops`; "
                "a budget is one number"
            )
        if self.range is None and (self.minimize is None) == (self.budget is None):
            have = "neither is" if self.minimize is None else "both are"
            raise ValueError(f"either `minimize: flops` or flops_ratio must be given, but {have}")
        return self

    @property
    def budget(self) -> float | None:
        """The one share of the dense network's FLOPs that every candidate meets."""
        return None if isinstance(self.flops_ratio, tuple) else self.flops_ratio

    @property
    def range(self) -> tuple[float, float] | None:
        """The shares of the dense network's FLOPs between which the front is searched."""
        return self.flops_ratio if isinstance(self.flops_ratio, tuple) else None


class SearchSection(Section):
    """How the candidates are proposed."""

    sampler: Sampler = Field(
        default="auto",
        description="budgeted: FLOPs are known, accuracy is learnt; tpe: tree-structured Parzen "
        "estimator; gp: Gaussian process; nsga2: evolution; random; qmc: evenly spread; auto: "
        "chosen by methods, objective and trials",
    )
    trials: int = Field(ge=1, description="How many candidates are tried, all runs together")
    seed: int = Field(
        default=0, ge=0, lt=2**31, description="Seed of the sampler, and of all trials' seeds"
    )
    stopper: Stopper = Field(
        default="none",
        description="Ends trainings early that come to nothing. pareto: dominated by trials that "
        "cost no more; asha: not among the best half; median: below the median; none",
    )
    fidelity: Annotated[tuple[int, ...], BeforeValidator(_rungs)] = Field(
        default=(),
        description="Epochs at whose ends trials pause, and the most promising go on, such as "
        "[2, 5, 15]; the last is train.epochs. Nothing pauses without it",
    )
    starts: Annotated[bool | tuple[str, ...], BeforeValidator(_starts)] = Field(
        default=True,
        description="Proposals tried first: true, false, or a list of `uniform`, `uniform 0.5`, "
        "`defaults`, `papers` and names of the papers' architectures",
    )
    warm_start: Annotated[str | None, AfterValidator(_other_study)] = Field(
        default=None, description="A study of the same storage whose front is tried first"
    )
    repeats: Annotated[int, AfterValidator(_seeds)] = Field(
        default=0,
        ge=0,
        description="Fresh seeds that each candidate for the best is trained with once all trials "
        "are done; 0: none",
    )

    @property
    def rungs(self) -> tuple[float, ...]:
        """Ends of the rungs as shares of a whole training, ascending to 1."""
        return tuple(epochs / self.fidelity[-1] for epochs in self.fidelity) or (1.0,)

    @model_validator(mode="after")
    def _one_way_to_stop(self) -> Self:
        if self.fidelity and self.stopper != "none":
            raise ValueError(
                "fidelity and a stopper both end trainings early: give one of them, "
                f"but fidelity is {list(self.fidelity)} and the stopper is {self.stopper!r}"
            )
        return self
