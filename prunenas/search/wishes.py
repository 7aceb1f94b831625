"""Proposals by wish: the point of a study's search space nearest to given values."""

from collections.abc import Callable, Sequence
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from prunenas.architecture import Space
from prunenas.search.proposal import TARGET, propose
from prunenas.spec import Study
from prunenas.spec.study import MethodEntry
from prunenas.trial import Candidate

Wish = Callable[[str], Any]
"""What is wished for a parameter, by its name without the method's; None: the middle."""


def nearest(
    study: Study,
    space: Space,
    entry: MethodEntry,
    wish: Wish,
    share: float | None,
) -> Candidate | None:
    """The candidate nearest to what is wished; None where its FLOPs lie outside the range asked.

    Args:
        study: What is searched.
        space: The channel groups of its dense network.
        entry: The method that proposes it.
        wish: For each parameter.
        share: Of the dense network's FLOPs, where the study searches a range of them.
    """
    bounds = study.objective.range
    if bounds is not None and (share is None or not bounds[0] <= share <= bounds[1]):
        return None
    return propose(_Wishing(entry.name, wish, share), study, space)


def distributions(study: Study, space: Space) -> dict[str, BaseDistribution]:
    """What each trial of a study with one method is asked, by the parameter's name, in order."""
    asked = _Wishing(study.methods[0].name, lambda name: None, None)
    propose(asked, study, space)
    return asked.distributions


class _Wishing:
    """Proposes the value nearest to a wish: what ``proposal.propose`` asks instead of Optuna."""

    number = 0

    def __init__(self, method: str, wish: Wish, share: float | None) -> None:
        self._method, self._wish, self._share = method, wish, share
        self.params: dict[str, Any] = {}
        self.distributions: dict[str, BaseDistribution] = {}

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        self.distributions[name] = FloatDistribution(low, high, step=step, log=log)
        wished = self._wished(name)
        value = min(high, max(low, float((low + high) / 2 if wished is None else wished)))
        if step is not None:
            value = min(high, round(low + round((value - low) / step) * step, 12))
        self.params[name] = value
        return value

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        value = int(self.suggest_float(name, low, high, step=step))
        self.distributions[name] = IntDistribution(low, high, step=step, log=log)
        self.params[name] = value
        return value

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        self.distributions[name] = CategoricalDistribution(choices)
        wished = self._method if name == "method" else self._wished(name)
        self.params[name] = wished if wished in choices else choices[0]
        return self.params[name]

    def _wished(self, name: str) -> Any:
        return self._share if name == TARGET else self._wish(name.removeprefix(f"{self._method}/"))
