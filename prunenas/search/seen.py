"""An Optuna study of which a sampler may not see everything."""

import copy
from collections.abc import Collection, Container, Iterator
from contextlib import contextmanager

import optuna
from optuna.trial import FrozenTrial, TrialState


class Seen(optuna.Study):
    """A study in which some trials can be made to seem to run still.

    A deterministic study proposes from results that are known whatever the number of workers;
    what happens to be known beyond that is hidden from its sampler.
    """

    _hidden: frozenset[int] = frozenset()

    @contextmanager
    def without(self, trials: Collection[int]) -> Iterator[None]:
        """Within the block, these trials have parameters but no outcome."""
        self._hidden = frozenset(trials)
        try:
            yield
        finally:
            self._hidden = frozenset()

    # Every sampler of Optuna reads trials by this method of the study it is handed, as does
    # get_trials; Optuna's own Hyperband hides trials the same way.
    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        if not self._hidden:
            return super()._get_trials(deepcopy, states, use_cache)
        trials = [
            _unfinished(trial) if trial.number in self._hidden else trial
            for trial in super()._get_trials(deepcopy, None, use_cache)
        ]
        return [trial for trial in trials if states is None or trial.state in states]


def _unfinished(trial: FrozenTrial) -> FrozenTrial:
    if not trial.state.is_finished():
        return trial
    hidden = copy.copy(trial)
    hidden.state = TrialState.RUNNING
    hidden._values = None
    hidden.datetime_complete = None
    hidden.intermediate_values = {}
    hidden._user_attrs = {k: v for k, v in trial.user_attrs.items() if k != "record"}
    return hidden
