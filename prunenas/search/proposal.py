"""From Optuna's parameters to a candidate: method, hyperparameters, ratios or densities."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from prunenas.architecture import Space
from prunenas.methods import Method
from prunenas.spec import Study
from prunenas.spec.objective import Objective
from prunenas.spec.space import Domain, ShareRange
from prunenas.spec.study import MethodEntry
from prunenas.trial import Candidate

TARGET = "flops_ratio"
"""The parameter that says what share of the dense network's FLOPs a trial is to meet."""


class Suggests(Protocol):
    """The part of ``optuna.Trial`` that proposes values."""

    @property
    def number(self) -> int:
        """The trial's number within its study, from 0."""

    @property
    def params(self) -> dict[str, Any]:
        """What was proposed so far."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Propose a number."""

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """Propose a whole number."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Propose one of several values."""


def propose(trial: Suggests, study: Study, space: Space) -> Candidate:
    """Ask for everything one trial of the study varies.

    Parameters are called ``ratio/GROUP`` (or ``ratio/stage 2``, ``ratio/network``),
    ``density/LAYER`` (or ``density/stage 2``, ``density/network``) and by the names of a method's
    fields; where a study has several methods, ``method`` is searched and the
    method's name stands before its parameters. Where a range of FLOPs is asked for,
    ``flops_ratio`` is what the candidate has to meet.
    """
    several = len(study.methods) > 1
    entries = {entry.name: entry for entry in study.methods}
    names = list(entries)
    chosen = trial.suggest_categorical("method", names) if several else names[0]
    entry = entries[chosen]
    prefix = f"{chosen}/" if several else ""
    searched = {
        field: _suggest(trial, prefix + field, domain, whole=entry.is_whole(field))
        for field, domain in entry.searched.items()
    }
    method = entry.method(searched)
    ratios, fixed = _shares(trial, prefix, entry, method, space)
    budget = _budget(trial, study.objective)
    seed = study.search.seed
    return Candidate(
        number=trial.number,
        study=study.name,
        method_name=chosen,
        method=method,
        parameters=dict(trial.params),
        ratios=ratios,
        flops=None if budget is None else int(budget * space.dense.flops + 1e-6),
        seeds={
            "study": seed,
            "data": study.data.seed,
            # One seed for all trainings: candidates are compared on the same random numbers.
            "training": seed,
            "method": seed + trial.number,
        },
        fixed=fixed,
        latency_ms=study.objective.latency_ms,
    )


def _budget(trial: Suggests, objective: Objective) -> float | None:
    """The share of the dense network's FLOPs this trial is to meet: fixed, or drawn from a range.

    On a logarithmic scale: as many trials halve the FLOPs from 1 to 0.5 as from 0.2 to 0.1.
    """
    if objective.range is None:
        return objective.budget
    low, high = objective.range
    return trial.suggest_float(TARGET, low, high, log=True)


def _shares(
    trial: Suggests, prefix: str, entry: MethodEntry, method: Method, space: Space
) -> tuple[Mapping[str, float] | None, frozenset[str]]:
    """The ratio of each group, or the density of each layer; and those that are not searched."""
    widths, densities = entry.space.widths, entry.space.densities
    if widths is not None:
        chosen = _knobs(trial, f"{prefix}ratio/", widths.knobs(space.groups), widths.ratio)
        fixed = frozenset(widths.fixed_ratios(space.groups))
        return widths.ratios(space.groups, chosen), fixed
    if densities is not None:
        layers = method.density_layers(space)
        chosen = _knobs(trial, f"{prefix}density/", densities.knobs(layers), densities.density)
        fixed = frozenset(densities.fixed_densities(layers))
        return densities.densities(layers, chosen), fixed
    return None, frozenset()


def _knobs(
    trial: Suggests, prefix: str, knobs: Iterable[str], domain: ShareRange
) -> dict[str, float]:
    return {
        knob: trial.suggest_float(
            prefix + knob, domain.low, domain.high, step=domain.step, log=domain.log
        )
        for knob in knobs
    }


def _suggest(trial: Suggests, name: str, domain: Domain, *, whole: bool) -> Any:
    if domain.choices is not None:
        return trial.suggest_categorical(name, domain.choices)
    assert domain.low is not None
    assert domain.high is not None
    if whole:
        step = 1 if domain.step is None else int(domain.step)
        return trial.suggest_int(name, int(domain.low), int(domain.high), step=step, log=domain.log)
    return trial.suggest_float(name, domain.low, domain.high, step=domain.step, log=domain.log)
