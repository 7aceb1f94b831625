"""The README's main job for real: a study, its front, an export, MLflow's pages."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tracked
from browser import browser, needs_browser
from mlflow_pages import walk
from quickstart import Quickstart
from server import mlflow_server
from shell import prunenas

from prunenas import Architecture, build, count_flops
from prunenas.pictures import method_fronts_picture
from prunenas.search import StudyView, open_study
from prunenas.spec import load_study
from prunenas.tracking import read_config

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def view(quickstart: Quickstart) -> StudyView:
    assert quickstart.code == 0, quickstart.messages
    return open_study(f"sqlite:///{quickstart.folder}/.prunenas/studies.db", "quickstart")


@pytest.fixture(scope="module")
def exported(quickstart: Quickstart, view: StudyView) -> Path:
    """The folder of the architecture that the README exports."""
    done = prunenas(
        quickstart.folder,
        *("export", "quickstart", "exports", "--flops-ratio", "0.3", "--weights"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("exports/best_0.3: trial ")
    return quickstart.folder / "exports" / "best_0.3"


def told(folder: Path, *arguments: str) -> Any:
    done = prunenas(folder, *arguments, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_each_event_was_a_line_and_nothing_else_was_said(
    quickstart: Quickstart, view: StudyView
) -> None:
    assert quickstart.messages == "export one: prunenas export quickstart exports\n"
    text = "\n".join(quickstart.lines)
    assert "\x1b" not in text
    ended = re.findall(r"^trial (\d+): (complete|infeasible|failed)", text, re.MULTILINE)
    assert ended == [(str(record.number), record.state) for record in view.records]
    assert "quickstart: finished, " in text


def test_all_trials_are_complete_and_a_front_was_found(
    quickstart: Quickstart, view: StudyView
) -> None:
    trials = load_study(quickstart.folder / "studies" / "quickstart.yaml").search.trials
    assert view.counts == {"complete": trials}
    assert {record.method for record in view.records} == {"l1_norm", "network_slimming"}
    front = [(record.accuracy or 0.0, record.flops_ratio or 1.0) for record in view.front]
    assert len(front) >= 3
    assert max(accuracy for accuracy, _ in front) >= 0.95
    assert any(accuracy >= 0.9 and ratio <= 0.3 for accuracy, ratio in front), front


def test_fvcore_counts_what_every_trial_says(view: StudyView) -> None:
    for record in view.records:
        architecture = Architecture.from_dict(record.architecture or {})
        assert record.flops == count_flops(build(architecture), architecture.input_shape)
        assert record.flops_ratio == architecture.flops / view.dense_flops


def test_a_second_run_adds_nothing(quickstart: Quickstart, view: StudyView) -> None:
    tracking = f"sqlite:///{quickstart.folder}/mlflow.db"
    parent, children = tracked.study_runs(tracking)
    assert [run.data.tags["prunenas.trial"] for run in children] == [
        str(record.number) for record in view.records
    ]
    done = prunenas(quickstart.folder, "run", "studies/quickstart.yaml")
    assert (done.returncode, done.stderr) == (0, quickstart.messages)
    assert not re.search(r"^trial \d+:|epoch", done.stdout, re.MULTILINE)
    again = open_study(view.storage, "quickstart")
    assert again == view
    later, others = tracked.study_runs(tracking)
    assert later.info.run_id == parent.info.run_id
    assert [run.to_dictionary() for run in others] == [run.to_dictionary() for run in children]


def test_best_and_status_say_what_the_storage_holds(
    quickstart: Quickstart, view: StudyView
) -> None:
    best = told(quickstart.folder, "best", "quickstart")
    assert best["front"] == [record.to_dict() for record in view.front]
    assert best["finished"] is True
    assert told(quickstart.folder, "status") == [told(quickstart.folder, "status", "quickstart")]
    shown = prunenas(quickstart.folder, "best", "quickstart").stdout
    for record in view.front:
        assert f"{record.accuracy:.4f}" in shown
    assert "quickstart · by method" in shown
    assert {each["method"] for each in best["methods"]} == {"l1_norm", "network_slimming"}
    (picture,) = quickstart.folder.glob("mlartifacts/*/*/artifacts/methods.png")
    records = [record.to_dict() for record in view.records]
    dense = {"flops": view.dense_flops, "accuracy": view.dense_accuracy}
    assert picture.read_bytes() == method_fronts_picture(records, dense)
    state = prunenas(quickstart.folder, "status", "quickstart").stdout
    assert f"{len(view.records)}/{view.trials_total}" in state
    assert state.rstrip().endswith("finished")


def test_the_export_is_the_most_accurate_architecture_within_its_budget(
    quickstart: Quickstart, view: StudyView, exported: Path
) -> None:
    config = json.loads((exported / "config.json").read_text())
    within = [record for record in view.records if (record.flops_ratio or 1.0) <= 0.3]
    assert config["provenance"]["accuracy"] == max(record.accuracy or 0.0 for record in within)
    record = view.records[config["provenance"]["trial"]]
    assert (config["flops"], config["digest"]) == (record.flops, record.digest)
    network = told(quickstart.folder, "inspect", "exports/best_0.3")
    assert network["flops"] == record.flops
    assert network["export"]["flops_ratio"] == record.flops_ratio
    assert network["export"]["weights"] is True
    done = prunenas(quickstart.folder, "inspect", "exports/best_0.3")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(group in done.stdout for group in view.dense_widths)


LOADED = """
import json
from prunenas.data import load
from prunenas.training import evaluate
data = load("mnist5k", validation=0.2)
print(json.dumps({
    "shapes": {name: list(value.shape) for name, value in network.state_dict().items()},
    "flops": prunenas.count_flops(network, data.input_shape),
    "accuracy": evaluate(network, data.validation).accuracy,
}))
"""


def test_a_process_that_never_saw_the_study_loads_the_very_network(
    view: StudyView, exported: Path, tmp_path: Path
) -> None:
    shutil.copytree(exported, tmp_path / "exports" / "best_0.3")
    three_lines = 'import prunenas\n\nnetwork = prunenas.load("exports/best_0.3")\n'
    done = subprocess.run(
        [sys.executable, "-c", three_lines + LOADED],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    seen = json.loads(done.stdout)
    record = view.records[json.loads((exported / "config.json").read_text())["provenance"]["trial"]]
    assert seen["accuracy"] == record.accuracy
    assert seen["flops"] == record.flops
    architecture = Architecture.from_dict(record.architecture or {})
    built = build(architecture).state_dict()
    assert seen["shapes"] == {name: list(value.shape) for name, value in built.items()}
    for group, width in architecture.widths.items():
        assert seen["shapes"][f"{group}.weight"][0] == width


@needs_browser
def test_mlflows_pages_show_the_study(
    quickstart: Quickstart, view: StudyView, tmp_path: Path
) -> None:
    (tmp_path / "browser").mkdir()
    config = read_config(f"sqlite:///{quickstart.folder}/mlflow.db")
    names = [f"{record.number:03d} {record.method}" for record in view.records]
    with (
        mlflow_server(config, tmp_path / "server.log") as address,
        browser(tmp_path / "browser") as page,
    ):
        walk(
            page,
            address,
            tmp_path,
            experiment=tracked.EXPERIMENT,
            study="quickstart",
            trials=names,
            trial=names[-1],
            epochs=view.records[-1].epochs,
        )
    assert len(list(tmp_path.glob("?-*.png"))) == 8
