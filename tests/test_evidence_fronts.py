"""A study's trials proposed again, and its front as a comparison, of a real tiny study."""

import json
from pathlib import Path

import pytest
import tracked
from tiny_studies import L1, SLIMMING, write_study

from prunenas.architecture import Architecture
from prunenas.cache import Cache
from prunenas.cli import main
from prunenas.data import load
from prunenas.errors import StudyError
from prunenas.evidence.fronts import front_comparison
from prunenas.methods import METHODS, Dense
from prunenas.search import StudyView, open_study, run_study
from prunenas.search.rehearsal import proposed
from prunenas.search.workshop import trace_study
from prunenas.spec import Study, load_study

STORE = "sqlite:///studies.db"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fronts")


@pytest.fixture(autouse=True)
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


@pytest.fixture
def view(folder: Path) -> StudyView:
    if not (folder / "studies.db").exists():
        (folder / "mlflow.db").write_bytes(tracked.fresh_database())
        methods = f"{L1}\n{SLIMMING}"
        path = write_study(folder, methods=methods, epochs=1, trials=5, sampler="random")
        run_study(load_study(path), storage=STORE, device="cpu", tracking=None)
    return open_study(STORE, "tiny")


def dense(view: StudyView) -> Dense:
    study = Study.model_validate(view.settings)
    data = load(**study.data.model_dump())
    space = trace_study(study, data)
    return Dense(space, data, study.train, Cache(), seed=study.search.seed)


def test_a_trial_proposed_again_derives_the_same_architecture(view: StudyView) -> None:
    study, whole = Study.model_validate(view.settings), dense(view)
    assert {record.method for record in view.records} == {"l1_norm", "network_slimming"}
    for record in view.records:
        candidate = proposed(record, study, whole.space)
        assert (candidate.number, candidate.method_name) == (record.number, record.method)
        found = candidate.method.derive(
            whole, ratios=candidate.ratios, flops=candidate.flops, seed=candidate.seeds["method"]
        ).architecture
        assert found.digest == record.digest


def test_a_trial_of_other_parameters_is_refused(view: StudyView) -> None:
    settings = json.loads(json.dumps(view.settings))
    for entry in settings["methods"]:
        if entry["name"] == "l1_norm":
            entry["space"]["widths"]["per"] = "network"
    record = next(record for record in view.records if record.method == "l1_norm")
    with pytest.raises(StudyError, match="was proposed for other settings"):
        proposed(record, Study.model_validate(settings), dense(view).space)


def test_a_front_is_compared_at_the_costs_that_it_had(view: StudyView) -> None:
    comparison, contenders = front_comparison(view, view.records, seeds=3, arms=("scratch_e",))
    study, whole = Study.model_validate(view.settings), dense(view)
    assert comparison.seed == study.search.seed + 1  # none that the search has seen
    assert (comparison.seeds, comparison.train) == (3, study.train)
    by_label = {each.label: each for each in contenders}
    for record in view.records:
        contender = by_label[f"trial {record.number}, {record.method}"]
        budget = int(contender.flops_ratio * whole.space.dense_flops)
        assert budget == record.flops
        method = METHODS[contender.method].model_validate(contender.hyperparameters)
        found = method.derive(whole, ratios=contender.ratios, flops=budget).architecture
        assert found.flops <= budget
        if record.method == "l1_norm":  # given ratios lead to the very widths
            assert found == Architecture.from_dict(record.architecture or {})
    costs = [each.flops_ratio for each in contenders]
    assert costs == sorted(costs, reverse=True)


def test_only_complete_trials_are_compared(view: StudyView) -> None:
    with pytest.raises(StudyError, match="no front to compare yet"):
        front_comparison(view, [], seeds=2, arms=("dense",))


@pytest.mark.slow
def test_the_command_compares_a_trial_of_a_study(
    view: StudyView, capsys: pytest.CaptureFixture[str]
) -> None:
    number = next(record.number for record in view.records if record.method == "l1_norm")
    options = ["--trial", str(number), "--seeds", "2", "--storage", STORE, "--device", "cpu"]
    assert main(["compare", "tiny", *options, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    (network,) = told["networks"]
    (row,) = network["rows"]
    assert row["method"] == f"trial {number}, l1_norm"
    record = next(record for record in view.records if record.number == number)
    assert row["figures"]["scratch_e"]["flops"] == record.flops
    assert row["figures"]["fine_tuned"]["n"] == row["figures"]["uniform"]["n"] == 2


def test_a_studys_file_stands_for_the_study(
    view: StudyView, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "other_name.yaml"
    path.write_text(view.text)
    options = ["--seeds", "2", "--storage", STORE, "--device", "cpu", "--plan", "--json"]
    assert main(["compare", str(path), *options]) == 0
    by_file = capsys.readouterr().out
    assert main(["compare", "tiny", *options]) == 0
    assert by_file == capsys.readouterr().out
    # Dense, uniform and random at each budget, and three ways for each of the front.
    budgets = len({record.flops for record in view.final_front})
    (planned,) = json.loads(by_file)
    assert planned["networks"] == 2 * (1 + 2 * budgets + 3 * len(view.final_front))


def test_mistakes_of_the_command_are_one_line(
    view: StudyView, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("pair.yaml").write_text("budgets: [0.5]\n")
    for arguments, told in (
        (["tiny", "--trial", "77"], "has no trial 77"),
        (["nobody"], "unknown study 'nobody'"),
        (["pair.yaml", "--trial", "1"], "trials are of a study, not of a comparison"),
        (["nowhere.yaml"], "nowhere.yaml"),
        (["tiny", "--seeds", "1"], "'--seeds'"),
        (["tiny", "--markdown", "studies.db"], "--replace overwrites it"),
    ):
        capsys.readouterr()
        assert main(["compare", *arguments, "--storage", STORE]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        (line,) = err.splitlines()
        assert line.startswith("error: ")
        assert told in line
