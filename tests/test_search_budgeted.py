"""The sampler ``budgeted``: what it proposes, and that it finds more than chance does."""

import dataclasses
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from search_replay import hypervolume
from tiny_studies import L1, SLIMMING, write_study

from prunenas.architecture import Space, trace
from prunenas.errors import SpecError
from prunenas.search.coordinates import Coordinates
from prunenas.search.proposal import propose
from prunenas.search.samplers import sampler
from prunenas.spec import Study, load_study
from prunenas.trial import Candidate, Record

Oracle = Callable[[Mapping[str, float]], float]


@pytest.fixture(scope="module")
def space() -> Space:
    return trace("vgg_mini", arguments={"in_channels": 1}, input_shape=(1, 28, 28))


def written(folder: Path, methods: str, objective: str = "minimize: flops") -> Study:
    path = write_study(
        folder,
        methods=methods,
        objective=f"{{maximize: accuracy, {objective}}}",
        sampler="budgeted",
        trials=40,
    )
    return load_study(path)


def record_of(candidate: Candidate, space: Space, oracle: Oracle, **changes: Any) -> Record:
    """What a trial leaves that is trained by asking the oracle."""
    nothing = {field.name: None for field in dataclasses.fields(Record)}
    if candidate.flops is None:
        architecture = space.architecture(candidate.ratios or 1.0)
    else:
        architecture = space.fit(
            candidate.ratios or 1.0, flops=candidate.flops, fixed=candidate.fixed, tolerance=None
        )
    ratios = {g.name: architecture.widths[g.name] / g.width for g in space.groups}
    known = {
        "number": candidate.number,
        "state": "complete",
        "ratios": ratios,
        "architecture": {},
        "accuracy": oracle(ratios),
        "flops": architecture.flops,
        "flops_ratio": architecture.flops / space.dense.flops,
        "parameters": dict(candidate.parameters),
    }
    return Record(**{**nothing, **known, **changes})


class Driven:
    """A study whose trainings an oracle answers."""

    def __init__(self, study: Study, space: Space, name: str = "budgeted", seed: int = 0) -> None:
        self.study, self.space, self.name, self.seed = study, space, name, seed
        two = ["maximize", "minimize"][: 1 if study.objective.minimize is None else 2]
        self.stored = optuna.create_study(directions=two)

    def ask(self) -> tuple[optuna.Trial, Candidate]:
        number = len(self.stored.get_trials(deepcopy=False))
        self.stored.sampler = sampler(self.name, self.seed, number, self.study, self.space)
        trial = self.stored.ask()
        return trial, propose(trial, self.study, self.space)

    def tell(self, trial: optuna.Trial, record: Record) -> Record:
        trial.set_user_attr("record", record.to_dict())
        values = (record.accuracy, record.flops)[: len(self.stored.directions)]
        ended = record.state == "complete"
        state = None if ended else optuna.trial.TrialState.FAIL
        self.stored.tell(trial, values if ended else None, state=state)
        return record

    def run(self, trials: int, oracle: Oracle) -> list[Record]:
        found = []
        for _ in range(trials):
            trial, candidate = self.ask()
            found.append(self.tell(trial, record_of(candidate, self.space, oracle)))
        return found


def toy(ratios: Mapping[str, float]) -> float:
    """Groups differ in weight, and one that is too narrow spoils the others."""
    weights = (0.3, 0.02, 0.15, 0.05)
    errors = [w * (1 / r**0.7 - 1) for w, r in zip(weights, ratios.values(), strict=False)]
    return 0.97 - min(0.9, 0.05 * sum(errors) + 0.1 * max(errors))


FINE = "  - {name: l1_norm, space: {widths: {per: group, ratio: {low: 0.1, high: 1.0}}}}"
FIXED = FINE.replace("high: 1.0}", "high: 0.9, log: true}, fixed: {features.0: 0.5}")
STAGES = FINE.replace("per: group", "per: stage").replace("high: 1.0", "high: 1.0, step: 0.05")
CHOICES = "  - {name: network_slimming, space: {method: {sparsity: {choices: [0.0001, 0.001]}}}}"
DRAWN = "  - {name: random, space: {method: {low: {low: 0.1, high: 0.3}, high: {}}}}"
STUDIES = [
    (L1, "minimize: flops"),
    (FIXED, "minimize: flops"),
    (STAGES, "minimize: flops"),
    (FINE.replace("per: group", "per: network"), "minimize: flops"),
    (L1, "minimize: flops, flops_ratio: [0.1, 0.6]"),
    (FIXED, "flops_ratio: 0.3"),
    (STAGES, "flops_ratio: 0.3"),
    (DRAWN, "flops_ratio: 0.4"),
    (CHOICES, "minimize: flops, flops_ratio: [0.1, 0.6]"),
]


@pytest.mark.parametrize(("methods", "objective"), STUDIES)
def test_proposals_lie_in_the_space_and_repeat(
    tmp_path: Path, space: Space, methods: str, objective: str
) -> None:
    study = written(tmp_path, methods, objective)
    driven = Driven(study, space)
    records = driven.run(8, toy)
    axes = Coordinates(study, space).axes
    for trial in driven.stored.trials:
        assert trial.params.keys() == {axis.name for axis in axes}
        for axis in axes:  # what is asked is what was foreseen, so that nothing is left to chance
            assert trial.distributions[axis.name] == axis.distribution
            inner = axis.distribution.to_internal_repr(trial.params[axis.name])
            assert axis.distribution._contains(inner)
    again = Driven(study, space).run(8, toy)
    assert [r.parameters for r in again] == [r.parameters for r in records]
    other = Driven(study, space, seed=1).run(8, toy)
    assert [r.parameters for r in other] != [r.parameters for r in records]


def volume(records: list[Record]) -> float:
    shares = np.array([record.flops_ratio for record in records], dtype=float)
    return hypervolume(shares, np.array([record.accuracy for record in records], dtype=float))


def test_it_finds_a_known_front_and_chance_does_not(tmp_path: Path, space: Space) -> None:
    study = written(tmp_path, L1)
    names = [group.name for group in space.groups]
    every = []
    for ratios in product((0.25, 0.5, 0.75, 1.0), repeat=len(names)):
        named = dict(zip(names, ratios, strict=True))
        candidate = Candidate(0, "", "", None, {}, named, None, {})
        every.append(record_of(candidate, space, toy))
    best = volume(every)

    def regret(name: str) -> float:
        seeds = range(3)
        return best - float(
            np.mean([volume(Driven(study, space, name, s).run(24, toy)) for s in seeds])
        )

    assert regret("budgeted") < 0.4 * regret("random")


def test_a_budget_is_met_and_only_accuracy_is_learnt(tmp_path: Path, space: Space) -> None:
    study = written(tmp_path, FINE, "flops_ratio: 0.3")
    best = {}
    for name in ("budgeted", "random"):
        runs = [Driven(study, space, name, seed).run(20, toy) for seed in range(3)]
        for record in [record for run in runs for record in run]:
            assert record.flops_ratio is not None
            assert 0.295 < record.flops_ratio <= 0.3
        best[name] = np.mean([max(r.accuracy or 0 for r in run) for run in runs])
    assert best["budgeted"] > best["random"]


def test_targets_lie_in_the_range_and_above_the_narrowest(tmp_path: Path, space: Space) -> None:
    study = written(tmp_path, FINE, "minimize: flops, flops_ratio: [0.00001, 0.5]")
    records = Driven(study, space).run(12, toy)
    asked = [record.parameters["flops_ratio"] for record in records]
    assert min(asked) >= space.flops(space.widths(1e-9)) / space.dense.flops
    assert max(asked) <= 0.5
    # A method may have a floor of its own: what was infeasible is not asked for again.
    driven = Driven(study, space)
    for _ in range(8):
        trial, candidate = driven.ask()
        least = trial.params["flops_ratio"] < 0.05
        changes = {"state": "infeasible", "architecture": None} if least else {}
        driven.tell(trial, record_of(candidate, space, toy, **changes))
    targets = [trial.params["flops_ratio"] for trial in driven.stored.trials]
    refused = [target for target in targets if target < 0.05]
    assert refused == sorted(set(refused))


def test_trials_under_way_are_not_proposed_again(tmp_path: Path, space: Space) -> None:
    for objective in ("minimize: flops", "flops_ratio: 0.3"):
        driven = Driven(written(tmp_path, L1, objective), space)
        driven.run(6, toy)
        asked = [driven.ask() for _ in range(6)]
        widths = [tuple(record_of(c, space, toy).ratios.values()) for _, c in asked]
        assert len(set(widths)) == 6
    # One that has just begun, with nothing asked of it yet, says nothing.
    driven.stored.ask()
    driven.ask()


def test_a_trial_that_was_interrupted_goes_on_with_its_proposal(
    tmp_path: Path, space: Space
) -> None:
    study = written(tmp_path, L1)
    whole = Driven(study, space).run(7, toy)
    driven = Driven(study, space)
    driven.run(6, toy)
    driven.stored.sampler = sampler("budgeted", 0, 6, study, space)
    left = driven.stored.ask()
    left.suggest_float("ratio/features.0", 0.25, 1.0, step=0.25)  # and here the power goes
    driven.stored.sampler = sampler("budgeted", 0, 6, study, space)
    again = propose(optuna.Trial(driven.stored, left._trial_id), study, space)
    assert again.parameters == whole[6].parameters


def test_what_failed_or_was_stopped_is_left(tmp_path: Path, space: Space) -> None:
    driven = Driven(written(tmp_path, L1), space)
    driven.run(5, toy)
    kept: set[tuple[float, ...]] = set()
    for index in range(8):
        trial, candidate = driven.ask()
        state = ("failed", "stopped")[index % 2]
        accuracy = None if state == "failed" else 0.5
        record = record_of(candidate, space, toy, state=state, accuracy=accuracy)
        widths = tuple(record.ratios.values())
        assert widths not in kept
        kept.add(widths)
        driven.tell(trial, record)
    without = Driven(driven.study, space)
    for index in range(6):  # a failure before an architecture was derived teaches nothing
        trial, candidate = without.ask()
        nothing = {"state": "failed", "accuracy": None, "architecture": None, "ratios": {}}
        without.tell(trial, record_of(candidate, space, toy, **(nothing if index > 2 else {})))


class Filtered(optuna.Study):
    """Shows the first trials only."""

    shown = 0

    def _get_trials(self, *args: Any, **kwargs: Any) -> list[Any]:
        return super()._get_trials(*args, **kwargs)[: self.shown]


def test_it_knows_what_the_study_shows_it(tmp_path: Path, space: Space) -> None:
    study = written(tmp_path, L1)
    driven = Driven(study, space)
    driven.run(12, toy)
    hiding = Filtered(driven.stored.study_name, driven.stored._storage)
    hiding.shown = 7
    short = Driven(study, space)
    short.run(7, toy)
    trial, _ = short.ask()
    found = []
    for shown in (hiding, short.stored):
        own = sampler("budgeted", 0, 7, study, space)
        frozen = short.stored.trials[7]
        asked = own.infer_relative_search_space(shown, frozen)
        found.append(own.sample_relative(shown, frozen, asked))
    assert found[0] == found[1] == trial.params


def test_points_come_to_what_projection_makes_of_them(tmp_path: Path, space: Space) -> None:
    for methods, objective in STUDIES[:7]:
        study = written(tmp_path, methods, objective)
        where = Coordinates(study, space)
        driven = Driven(study, space, "random")
        records = driven.run(5, toy)
        points = [where.of(trial.params) for trial in driven.stored.trials]
        features, shares = where.reached(np.array(points))
        for record, point, feature, share in zip(records, points, features, shares, strict=True):
            assert point is not None
            # Single channels that use up a budget are not foreseen: of the narrowest group, one.
            near = 1e-9 if not where.projected else 0.25
            assert feature == pytest.approx(where.learnt(point, record.ratios), abs=near)
            assert share == pytest.approx(record.flops_ratio, rel=1e-9 if near < 0.1 else 0.05)
            assert where.nearest(point[None])[0][~where.ratios] == pytest.approx(
                point[~where.ratios]
            )


def test_many_networks_are_sized_as_one_is(space: Space) -> None:
    ratios = np.random.default_rng(0).uniform(0.01, 1.2, (20, len(space.groups)))
    widths, flops = space.sized(ratios)
    for row, sizes, count in zip(np.minimum(ratios, 1), widths, flops, strict=True):
        named = {group.name: float(r) for group, r in zip(space.groups, row, strict=True)}
        assert list(space.widths(named).values()) == sizes.tolist()
        assert space.flops(space.widths(named)) == count


def test_studies_it_can_not_search_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="budgeted learns of one method"):
        written(tmp_path, f"{L1}\n{SLIMMING}")
    with pytest.raises(SpecError, match="network_slimming finds its own widths"):
        written(tmp_path, SLIMMING)
