"""What a study wants, and how its candidates are proposed."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from prunenas import architectures
from prunenas.errors import unknown
from prunenas.spec.mistakes import plain
from prunenas.spec.space import Section

Sampler = Literal["auto", "budgeted", "tpe", "gp", "nsga2", "random", "qmc"]
Stopper = Literal["none", "pareto", "median", "asha"]
Cost = Literal["flops", "latency_ms", "round_seconds"]
COSTS: tuple[Cost, ...] = get_args(Cost)

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


def _minimized(value: Any) -> Any:
    """One cost, or several: in the order of ``COSTS``, and one as itself."""
    if value is None:
        return None
    several = isinstance(value, Sequence) and not isinstance(value, str)
    costs = list(value) if several else [value]
    for cost in costs:
        if not isinstance(cost, str):
            raise ValueError(f"objective.minimize must be a cost or a list, but is {plain(cost)}")
        if cost not in COSTS:
            raise ValueError(unknown("minimize", cost, COSTS))
    if not costs:
        raise ValueError("objective.minimize must name a cost, but the list is empty")
    if twice := [cost for index, cost in enumerate(costs) if cost in costs[:index]]:
        raise ValueError(f"a cost may be minimized once, but {twice[0]} is listed twice")
    return costs[0] if len(costs) == 1 else tuple(cost for cost in COSTS if cost in costs)


def costs_of(minimize: Any) -> tuple[Cost, ...]:
    """What ``objective.minimize`` names, as it stands in a study's settings.

    >>> costs_of("flops"), costs_of(["flops", "latency_ms"]), costs_of(None)
    (('flops',), ('flops', 'latency_ms'), ())
    """
    named = (minimize,) if isinstance(minimize, str) else tuple(minimize or ())
    return tuple(cost for cost in COSTS if cost in named)


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


def _device(name: str) -> str:
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise ValueError(f"latency.device must be cpu, cuda or cuda:NUMBER, but is {name!r}")
    return name


def _seeds(number: int) -> int:
    if number == 1:
        raise ValueError(
            "search.repeats must be 0 (none) or 2 and more, as one seed gives no standard error, "
            "but is 1"
        )
    return number


class Objective(Section):
    """What is wanted: a trade of accuracy against costs, or accuracy at a budget."""

    maximize: Literal["accuracy"] = Field(
        description="`accuracy`: share in [0, 1], validation split"
    )
    minimize: Annotated[Cost | tuple[Cost, ...] | None, BeforeValidator(_minimized)] = Field(
        default=None,
        description="`flops`, `latency_ms`, `round_seconds` (of the study's federation) or a list "
        "of them: the study searches the whole front",
    )
    flops_ratio: Annotated[float | tuple[float, float] | None, BeforeValidator(_shares)] = Field(
        default=None,
        description="A number: a budget, the share of the dense network's FLOPs every architecture "
        "meets. With `minimize: flops`, [lowest, highest]: the front between them",
    )
    latency_ms: float | None = Field(
        default=None,
        gt=0,
        description="At most so many milliseconds for a batch: what is slower is never trained",
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if self.range is not None and "flops" not in self.costs:
            low, high = self.range
            raise ValueError(
                f"a range of FLOPs (flops_ratio: [{low:g}, {high:g}]) goes with `minimize: flops`; "
                "a budget is one number"
            )
        if self.budget is not None and "flops" in self.costs:
            raise ValueError("either `minimize: flops` or flops_ratio must be given, but both are")
        if not self.costs and self.budget is None and self.latency_ms is None:
            raise ValueError(
                "one of minimize, flops_ratio and latency_ms must be given, but none is"
            )
        return self

    @property
    def costs(self) -> tuple[Cost, ...]:
        """What is minimized beside accuracy, FLOPs first; empty where there is one objective."""
        return costs_of(self.minimize)

    @property
    def needs_federation(self) -> bool:
        """Whether the time of a federation's round decides anything."""
        return "round_seconds" in self.costs

    @property
    def needs_latency(self) -> bool:
        """Whether latency decides anything."""
        return "latency_ms" in self.costs or self.latency_ms is not None

    @property
    def budget(self) -> float | None:
        """The one share of the dense network's FLOPs that every candidate meets."""
        return None if isinstance(self.flops_ratio, tuple) else self.flops_ratio

    @property
    def range(self) -> tuple[float, float] | None:
        """The shares of the dense network's FLOPs between which the front is searched."""
        return self.flops_ratio if isinstance(self.flops_ratio, tuple) else None


class LatencySection(Section):
    """How latency is measured: the fields of `prunenas.latency.Protocol`."""

    runtime: Literal["torch", "onnxruntime"] = Field(
        default="torch", description="torch, in inference mode; or onnxruntime, on the CPU"
    )
    device: Annotated[str, AfterValidator(_device)] = Field(
        default="cpu", description="cpu, cuda, or one GPU of several: cuda:1"
    )
    threads: int = Field(default=1, ge=1, description="Of the CPU")
    batch: int = Field(default=1, ge=1, description="Inputs at a time")
    warmup: int = Field(default=10, ge=0, description="Passes before any is counted")
    rounds: int = Field(default=50, ge=4, description="Passes that are counted")

    @model_validator(mode="after")
    def _on_the_cpu(self) -> Self:
        if self.runtime == "onnxruntime" and self.device != "cpu":
            raise ValueError(f"onnxruntime measures on the cpu, but the device is {self.device!r}")
        return self


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
