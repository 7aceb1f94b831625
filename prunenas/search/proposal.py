"""From Optuna's parameters to a candidate: method, hyperparameters and ratios."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from prunenas.architecture import ChannelGroup, Space
from prunenas.spec import Study
from prunenas.spec.objective import Objective
from prunenas.spec.space import Domain
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

    Parameters are called ``ratio/GROUP`` (or ``ratio/stage 2``, ``ratio/network``) and by the
    names of a method's fields; where a study has several methods, ``method`` is searched and the
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
    ratios = _ratios(trial, prefix, entry, space.groups)
    budget = _budget(trial, study.objective)
    seed = study.search.seed
    widths = entry.space.widths
    fixed = frozenset(widths.fixed_ratios(space.groups)) if widths is not None else frozenset()
    return Candidate(
        number=trial.number,
        study=study.name,
        method_name=chosen,
        method=entry.method(searched),
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
    )


def _budget(trial: Suggests, objective: Objective) -> float | None:
    """The share of the dense network's FLOPs this trial is to meet: fixed, or drawn from a range.

    On a logarithmic scale: as many trials halve the FLOPs from 1 to 0.5 as from 0.2 to 0.1.
    """
    if objective.range is None:
        return objective.budget
    low, high = objective.range
    return trial.suggest_float(TARGET, low, high, log=True)


def _ratios(
    trial: Suggests, prefix: str, entry: MethodEntry, groups: Sequence[ChannelGroup]
) -> Mapping[str, float] | None:
    widths = entry.space.widths
    if widths is None:
        return None
    domain = widths.ratio
    settings = {
        knob: trial.suggest_float(
            f"{prefix}ratio/{knob}", domain.low, domain.high, step=domain.step, log=domain.log
        )
        for knob in widths.knobs(groups)
    }
    return widths.ratios(groups, settings)


def _suggest(trial: Suggests, name: str, domain: Domain, *, whole: bool) -> Any:
    if domain.choices is not None:
        return trial.suggest_categorical(name, domain.choices)
    assert domain.low is not None
    assert domain.high is not None
    if whole:
        step = 1 if domain.step is None else int(domain.step)
        return trial.suggest_int(name, int(domain.low), int(domain.high), step=step, log=domain.log)
    return trial.suggest_float(name, domain.low, domain.high, step=domain.step, log=domain.log)
