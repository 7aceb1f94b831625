"""optuna-dashboard's real server and a real browser on a study's storage."""

import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna
import pytest
from browser import Browser, browser, needs_browser
from quickstart import ROOT
from server import free_port
from shell import environment
from tiny_studies import L1, NOWHERE, SLIMMING

from prunenas.search import StudyView, run_study
from prunenas.spec import load_study

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("optuna_dashboard") is None, reason="needs optuna-dashboard (the extra dashboard)"
    ),
]

STUDY = f"""\
name: mixed
model: {{name: vgg_mini}}
data: {{name: digits, train_limit: 200}}
methods:
{L1}
{SLIMMING.replace("{keep: {low: 0.3, high: 0.8}}", "{sparsity: {choices: [0.0001, 3.0e+38]}}")}
objective: {{maximize: accuracy, minimize: flops, flops_ratio: [0.002, 0.8]}}
train: {{epochs: 8, batch_size: 50, lr: 0.05, augment: false}}
search: {{sampler: random, trials: 20, seed: 3, stopper: asha, repeats: 2}}
"""
CHIPS = {"complete": "Complete", "infeasible": "Complete", "stopped": "Pruned", "failed": "Fail"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dashboard")


@pytest.fixture(scope="module")
def view(folder: Path) -> StudyView:
    """A study in the place of the README's command, with trials that ended in every way."""
    path = folder / "mixed.yaml"
    path.write_text(STUDY)
    return run_study(
        load_study(path),
        storage=f"sqlite:///{folder}/.prunenas/studies.db",
        tracking=NOWHERE,
        device="cpu",
        home=folder / ".prunenas",
    )


def command() -> list[str]:
    """The README's command."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (line,) = [line for line in readme.splitlines() if line.startswith("optuna-dashboard ")]
    program, *arguments = line.split()
    beside = shutil.which(program, path=str(Path(sys.executable).parent)) or shutil.which(program)
    code = "import sys; from optuna_dashboard._cli import main; sys.exit(main())"
    return [*([beside] if beside else [sys.executable, "-c", code]), *arguments]


@contextmanager
def dashboard(folder: Path) -> Iterator[str]:
    """The dashboard over the folder's studies until the block ends; its address."""
    port, log = free_port(), folder / "dashboard.log"
    address = f"http://127.0.0.1:{port}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command(), "--port", str(port)],
            cwd=folder,
            env=environment(),
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(address, timeout=2).close()
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(15)
    assert "Traceback" not in log.read_text()


def ask(address: str) -> Any:
    with urllib.request.urlopen(address, timeout=30) as answer:
        return json.load(answer)


def plotted(page: Browser, name: str) -> list[list[float]]:
    """The points of the first picture, the Pareto front, whose labels end with a name."""
    script = """
        const plot = document.querySelector('.js-plotly-plot');
        const trace = plot?.data?.find(each => each.hovertemplate?.includes(`>${arguments[0]}<`));
        return trace?.x.map((x, i) => [x, trace.y[i]])"""
    return list(page.wait(script, name))


@needs_browser
def test_it_shows_the_study_its_objectives_trials_and_their_ends(
    folder: Path, view: StudyView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert {"complete", "stopped", "infeasible", "failed"} <= view.counts.keys()
    with dashboard(folder) as address, browser(folder) as page:
        page.open(f"{address}/dashboard")
        page.wait_for_text("mixed", "MAXIMIZE, MINIMIZE")
        page.screenshot(folder / "1-studies.png")

        page.click("//a[contains(normalize-space(.), '. mixed')]")
        page.wait_for_text("Pareto Front", "accuracy", "flops")
        infeasible = [record for record in view.records if record.state == "infeasible"]
        assert len(plotted(page, "Infeasible Trial")) == len(infeasible)
        drawn = [[record.accuracy, record.flops] for record in view.front]
        best = plotted(page, "Best Trial")
        assert sorted(best) == sorted([float(x or 0), float(y or 0)] for x, y in drawn)
        page.screenshot(folder / "2-front.png")

        (study,) = ask(f"{address}/api/studies")["study_summaries"]
        page.open(f"{address}/dashboard/studies/{study['study_id']}/trials")
        page.wait_for_text(f"{len(view.records)} Trials")
        for record in view.records:
            page.open(
                f"{address}/dashboard/studies/{study['study_id']}/trials?numbers={record.number}"
            )
            page.wait_for_text(f"Trial {record.number} (trial_id=", CHIPS[record.state])
            page.wait_for_text(*(f"{name} {value}" for name, value in record.parameters.items()))
            page.wait_for_text(f"outcome {record.state}")
            if record.number in (0, infeasible[0].number):
                page.screenshot(folder / f"3-trial-{record.number}.png")
        page.open(f"{address}/dashboard/studies/{study['study_id']}/analytics")
        page.wait_for_text("Objective:", "accuracy", "flops_ratio")
        page.screenshot(folder / "4-analytics.png")


def test_what_it_reads_of_a_study_is_not_too_large(folder: Path, view: StudyView) -> None:
    with dashboard(folder) as address:
        (study,) = ask(f"{address}/api/studies")["study_summaries"]
        told = ask(f"{address}/api/studies/{study['study_id']}?after=0")
    assert told["objective_names"] == ["accuracy", "flops"]
    # The dashboard's own front knows no constraints: what was never trained must not be on it.
    best = {trial["number"] for trial in told["best_trials"]}
    assert {record.number for record in view.front} <= best
    assert all(view.records[number].state == "complete" for number in best)
    states = [CHIPS[record.state] for record in view.records]
    assert [trial["state"] for trial in told["trials"]] == states
    assert len(json.dumps(told["trials"])) < 5000 * len(view.records)
    for trial, record in zip(told["trials"], view.records, strict=True):
        broken = [value for value in trial["constraints"] if value > 0]
        assert bool(broken) == (record.state == "infeasible")


def test_optuna_reads_the_constraints_that_the_dashboard_reads(
    folder: Path, view: StudyView
) -> None:
    study = optuna.load_study(study_name="mixed", storage=view.storage)
    best = {trial.number for trial in study.best_trials}
    assert {record.number for record in view.front} <= best
    assert not best & {r.number for r in view.records if r.state == "infeasible"}
