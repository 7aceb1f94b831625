"""Starts: what they propose, in whole studies and by themselves."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from tiny_studies import L1, NOWHERE, SLIMMING, Stop, figures, write_study

from prunenas.architecture import Space, trace
from prunenas.errors import SpecError, StudyError
from prunenas.search import StudyView, run_study
from prunenas.search.samplers import resolved, sampler
from prunenas.search.starts import starts_of
from prunenas.search.verdicts import CONSTRAINTS, verdict, violation
from prunenas.spec import Study, load_study
from prunenas.trial import Record

STORAGE = "sqlite:///studies.db"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(path: Path, storage: str = STORAGE, **options: object) -> StudyView:
    usual = {"storage": storage, "device": "cpu", "tracking": NOWHERE}
    return run_study(load_study(path), **{**usual, **options})


@pytest.fixture(scope="module")
def space() -> Space:
    return trace("vgg_mini", arguments={"in_channels": 1}, input_shape=(1, 28, 28))


FINE = "  - {name: l1_norm, space: {widths: {per: group, ratio: {low: 0.1, high: 1.0}}}}"


def written(folder: Path, search: str, **options: object) -> Study:
    path = write_study(folder, **options)
    text = path.read_text().replace("search: {", "search: {" + search + ", ")
    path.write_text(text)
    return load_study(path)


def test_uniform_starts_hit_their_flops(tmp_path: Path, space: Space) -> None:
    study = written(tmp_path, "starts: [uniform, uniform 0.6]", methods=FINE, trials=10)
    found = starts_of(study, space)
    names = ["uniform 0.5", "uniform 0.25", "uniform 0.75", "uniform 0.125", "uniform 0.6"]
    assert [start.name for start in found] == names
    for start in found:
        ratios = {name.removeprefix("ratio/"): r for name, r in start.parameters.items()}
        assert len(set(ratios.values())) == 1
        reached = space.flops(space.widths(ratios)) / space.dense.flops
        assert reached == pytest.approx(float(start.name.split()[1]), rel=0.2)


def test_true_takes_at_most_half_of_the_trials_and_false_none(tmp_path: Path, space: Space) -> None:
    both = f"{FINE}\n{SLIMMING}"
    for trials, expected in [(1, 0), (4, 2), (20, 5)]:
        study = written(tmp_path, "starts: true", methods=both, trials=trials)
        assert len(starts_of(study, space)) == expected
    names = [start.name for start in starts_of(study, space)]
    assert names[-1] == "defaults of network_slimming"
    last = starts_of(study, space)[-1].parameters
    assert last == {"method": "network_slimming", "network_slimming/keep": 0.5}
    assert not starts_of(written(tmp_path, "starts: false", trials=9), space)


def test_starts_lie_in_the_search_space(tmp_path: Path, space: Space) -> None:
    study = written(tmp_path, "starts: [uniform]", methods=L1, trials=9)
    for start in starts_of(study, space):
        assert set(start.parameters.values()) <= {0.25, 0.5, 0.75, 1.0}
    study = written(tmp_path, "starts: [uniform 0.01]", methods=L1, trials=9)
    with pytest.raises(SpecError, match=r"starts\[0\].*no such start: 'uniform 0.01'"):
        starts_of(study, space)


def test_a_papers_architecture_starts_where_the_space_has_it(tmp_path: Path) -> None:
    def found(model: str, methods: str) -> dict[str, Mapping[str, Any]]:
        path = write_study(tmp_path, methods=methods, trials=12)
        path.write_text(path.read_text().replace("{name: vgg_mini}", model))
        study = load_study(path)
        return {start.name: start.parameters for start in starts_of(study, space)}

    arguments = {"num_classes": 10, "in_channels": 3, "input_size": 32, "hidden": 512}
    space = trace("vgg16", arguments=arguments, input_shape=(3, 32, 32))
    there = found("{name: vgg16, arguments: {hidden: 512}}", FINE)["vgg16-a"]
    narrow = {name for name, ratio in there.items() if ratio < 1}
    assert len(narrow) == 7  # the first layer and the last six, at one half
    assert {there[name] for name in narrow} == {0.5}
    assert "vgg16-a" in found("{name: vgg16, arguments: {hidden: 512}}", L1)
    assert "vgg16-a" not in found("{name: vgg16}", FINE)  # another head
    odd = FINE.replace("high: 1.0", "high: 0.9")
    assert "vgg16-a" not in found("{name: vgg16, arguments: {hidden: 512}}", odd)


def test_starts_run_first_marked_and_once(tmp_path: Path) -> None:
    path = write_study(tmp_path, methods=f"{FINE}\n{SLIMMING}", trials=6, epochs=1)
    whole = run(path, "sqlite:///whole.db", home=tmp_path / "whole")
    assert [record.start for record in whole.records[:3]] == [
        "uniform 0.5",
        "uniform 0.25",
        "uniform 0.75",
    ]
    assert [record.start for record in whole.records[3:]] == [None] * 3
    for trial in (0, 1, 3):
        with pytest.raises(KeyboardInterrupt):
            run(path, watch=Stop(trial, 1))
    assert figures(run(path)) == figures(whole)
    stored = optuna.load_study(study_name="tiny", storage=STORAGE).trials
    assert [trial.user_attrs.get("start") for trial in stored] == [r.start for r in whole.records]


def test_the_front_of_an_earlier_study_is_tried_first(tmp_path: Path) -> None:
    first = run(write_study(tmp_path, methods=FINE, trials=4, epochs=1))
    path = write_study(tmp_path, methods=L1, trials=4, epochs=1)
    text = path.read_text().replace("name: tiny", "name: second")
    path.write_text(text.replace("search: {", "search: {starts: false, warm_start: tiny, "))
    second = run(path)
    expected = min(2, len(first.front))
    named = [record.start for record in second.records]
    assert all(name and "of tiny" in name for name in named[:expected])
    assert named[expected:] == [None] * (4 - expected)
    path.write_text(path.read_text().replace("name: second", "name: third").replace("tiny", "tin"))
    with pytest.raises(StudyError, match="unknown study 'tin'"):
        run(path)


@pytest.mark.parametrize(
    ("search", "methods", "objective", "expected"),
    [
        ("sampler: nsga2, trials: 3", FINE, "minimize: flops", "nsga2"),
        ("trials: 5", FINE, "minimize: flops", "budgeted"),
        ("trials: 200, stopper: pareto", FINE, "minimize: flops", "budgeted"),
        ("trials: 1000", FINE, "flops_ratio: 0.5", "budgeted"),
        (
            "trials: 50",
            "  - {name: network_slimming, space: {method: {sparsity: {}}}}",
            "minimize: flops, flops_ratio: [0.2, 0.5]",
            "budgeted",
        ),
        ("trials: 1001", FINE, "minimize: flops", "nsga2"),
        ("trials: 1001", FINE, "flops_ratio: 0.5", "tpe"),
        ("trials: 10", SLIMMING, "minimize: flops", "qmc"),
        ("trials: 11", SLIMMING, "minimize: flops", "gp"),
        ("trials: 200", SLIMMING, "minimize: flops", "gp"),
        ("trials: 11, stopper: pareto", SLIMMING, "minimize: flops", "tpe"),
        ("trials: 201", SLIMMING, "minimize: flops", "tpe"),
        ("trials: 501", SLIMMING, "minimize: flops", "nsga2"),
        ("trials: 5", f"{FINE}\n{SLIMMING}", "minimize: flops", "tpe"),
        ("trials: 50", f"{FINE}\n{SLIMMING}", "minimize: flops", "tpe"),
    ],
)
def test_auto_chooses_by_its_rule(
    tmp_path: Path, space: Space, search: str, methods: str, objective: str, expected: str
) -> None:
    text = (
        "name: x\nmodel: {name: vgg_mini}\ndata: {name: digits}\nmethods:\n" + methods + "\n"
        f"objective: {{maximize: accuracy, {objective}}}\ntrain: {{epochs: 1}}\n"
        f"search: {{{search}}}\n"
    )
    (tmp_path / "x.yaml").write_text(text)
    assert resolved(load_study(tmp_path / "x.yaml"), space) == expected


def test_a_range_of_flops_spreads_the_trials_over_it(tmp_path: Path) -> None:
    path = write_study(
        tmp_path,
        methods=f"{FINE}\n  - {{name: network_slimming}}",
        objective="{maximize: accuracy, minimize: flops, flops_ratio: [0.1, 0.8]}",
        sampler="qmc",
        trials=12,
        epochs=1,
    )
    view = run(path)
    assert view.directions == ("maximize", "minimize")
    assert view.counts == {"complete": 12}
    for record in view.records:
        asked = record.parameters["flops_ratio"]
        assert 0.1 <= asked <= 0.8
        assert record.flops_ratio is not None
        assert 0.9 * asked <= record.flops_ratio <= asked
    reached = sorted(record.parameters["flops_ratio"] for record in view.records)
    assert reached[1] < 0.2
    assert reached[-3] > 0.4


def test_targets_that_no_network_meets_are_told_and_not_trained(tmp_path: Path) -> None:
    path = write_study(
        tmp_path,
        methods=FINE,
        objective="{maximize: accuracy, minimize: flops, flops_ratio: [0.00001, 0.5]}",
        sampler="gp",
        trials=14,
        epochs=1,
    )
    view = run(path)
    assert view.counts["infeasible"] + view.counts["complete"] == 14
    stored = optuna.load_study(study_name="tiny", storage=STORAGE)
    for record, trial in zip(view.records, stored.trials, strict=True):
        assert (record.state == "infeasible") == (trial.constraints["0"] > 0)
        assert record.curve or record.state == "infeasible"
    best = {trial.number for trial in stored.best_trials}
    assert all(view.records[number].state == "complete" for number in best)


def infeasible_at_last(name: str, trials: int, asked_by: Study, space: Space) -> int:
    """Infeasible ones of a study's last 12 trials; it is told as the ledger tells it."""
    study = optuna.create_study(directions=["maximize", "minimize"])
    dense, least = 1_000_000, 3_000
    records: list[Record] = []
    nothing = {field.name: None for field in dataclasses.fields(Record)}
    for number in range(trials):
        study.sampler = sampler(name, 0, number, asked_by, space)
        trial = study.ask()
        asked = trial.suggest_float("flops_ratio", 1e-5, 0.5, log=True)
        waste = sum(abs(trial.suggest_float(f"ratio/{i}", 0.1, 1) - 0.6) for i in range(3))
        values = {**nothing, "number": number, "state": "infeasible"}
        if asked * dense >= least:
            accuracy = 0.9 + 0.1 * math.log10(asked) - 0.1 * waste
            values |= {"state": "complete", "accuracy": accuracy, "flops": int(asked * dense)}
        record = Record(**values)
        broken = violation(record, int(asked * dense), least, dense)
        trial.storage.set_trial_system_attr(trial._trial_id, CONSTRAINTS, [broken])
        told = verdict(record, records, ("flops",), least)
        study.tell(trial, told.values, state=told.state)
        records.append(record)
    return sum(record.state == "infeasible" for record in records[-12:])


@pytest.mark.parametrize(("name", "trials"), [("tpe", 80), ("nsga2", 80), ("gp", 24)])
def test_samplers_learn_what_is_infeasible(
    name: str, trials: int, tmp_path: Path, space: Space
) -> None:
    study = written(tmp_path, "starts: false", methods=FINE)
    assert infeasible_at_last("random", trials, study, space) >= 5
    assert infeasible_at_last(name, trials, study, space) <= 2


def test_a_stopper_ends_trials_and_a_resumed_study_is_the_same(tmp_path: Path) -> None:
    path = write_study(tmp_path, methods=FINE, trials=8, epochs=8)
    path.write_text(path.read_text().replace("search: {", "search: {stopper: asha, "))
    whole = run(path, "sqlite:///whole.db", home=tmp_path / "whole")
    assert whole.counts["stopped"] > 0
    for record in whole.records:
        if record.state == "stopped":
            assert record.epochs in (1, 2, 4)
            assert record.reason == f"stopped after epoch {record.epochs} of 8"
            assert record.accuracy == record.curve[-1]["validation_accuracy"]
            assert record not in whole.front
    for moment in [(0, 3), (3, 1), (6, 1)]:
        with pytest.raises(KeyboardInterrupt):
            run(path, watch=Stop(*moment))
    assert figures(run(path)) == figures(whole)
    states = [
        trial.state.name for trial in optuna.load_study(study_name="tiny", storage=STORAGE).trials
    ]
    assert states.count("PRUNED") == whole.counts["stopped"]


def test_pareto_measures_the_spread_of_seeds_once(tmp_path: Path) -> None:
    path = write_study(tmp_path, methods=FINE, trials=3, epochs=4)
    path.write_text(path.read_text().replace("search: {", "search: {stopper: pareto, "))
    run(path)
    kept = optuna.load_study(study_name="tiny", storage=STORAGE).user_attrs["spread"]
    assert kept["epochs"] == 4
    assert [len(curve) for curve in kept["curves"]] == [2, 2, 2]
    assert len({tuple(curve) for curve in kept["curves"]}) == 3
