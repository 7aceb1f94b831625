"""What `prunenas best` says of a study with several methods."""

import io
import json
import re
from pathlib import Path

import pytest
from cli_samples import record, view
from tiny_studies import L1, NOWHERE, SLIMMING, write_study

from prunenas.cli import by_method as tables
from prunenas.cli import main
from prunenas.cli.console import console
from prunenas.search import StudyView, run_study
from prunenas.search.by_method import by_method
from prunenas.search.repeats import Repeat, Repeats
from prunenas.spec import load_study

BUDGET = {
    "objective": {"maximize": "accuracy", "flops_ratio": 0.5},
    "directions": ("maximize",),
}


def shown(study: StudyView, width: int = 100) -> list[str]:
    methods = by_method(study)
    file = io.StringIO()
    terminal = console(file=file, width=width, color_system=None)
    terminal.print(tables.comparison(study, methods))
    for line in tables.lines(study, methods):
        terminal.print(line, soft_wrap=True)
    return [re.sub(r"\s+", " ", line).strip() for line in file.getvalue().splitlines()]


def test_a_budgets_table_has_mean_deviation_number_and_best() -> None:
    study = view(
        record(0, method="taylor", accuracy=0.80),
        record(1, method="taylor", accuracy=0.84),
        record(2, method="fpgm", accuracy=0.90, flops_ratio=0.496),
        record(3, method="fpgm", accuracy=None, state="failed"),
        **BUDGET,
    )
    lines = shown(study)
    assert lines[0] == "demo · by method"
    assert lines[3:5] == [
        "fpgm 0.9000 (1) 0.9000 2 1 complete · 1 failed",
        "taylor 0.8200 ± 0.0283 (2) 0.8400 1 2",
    ]
    assert "dense network – 0.9750 – –" in lines
    assert "one seed" in lines[-1]
    assert "fresh seeds" not in " ".join(lines)


def test_fresh_seeds_have_a_column_where_there_are_any() -> None:
    one = record(0, method="taylor", accuracy=0.95)
    end = "2026-01-01T00:00:08+00:00"
    trainings = tuple(Repeat(n, 0.9 + 0.02 * n, None, 4, 6.0, end) for n in range(2))
    changes = {"repeats": (Repeats(one, trainings),), "repeats_total": 2, "trials_total": 2}
    lines = shown(view(one, record(1, method="fpgm", accuracy=0.5), **changes, **BUDGET))
    assert lines[3] == "taylor 0.9500 (1) 0.9100 ± 0.0100 (2) 0.9500 0 1"
    assert lines[4] == "fpgm 0.5000 (1) – 0.5000 1 1"
    assert "a dash is no verdict" in lines[-1]


def test_of_two_objectives_the_table_has_areas_and_shares_of_the_front() -> None:
    dear = record(0, method="taylor", accuracy=0.9, flops_ratio=0.5)
    small = record(1, method="fpgm", accuracy=0.8, flops_ratio=0.25)
    lines = shown(view(dear, small, front=(small, dear)))
    assert lines[3:5] == [
        "fpgm 0.6000 1/2 1 0.8000 25.0 % 1 1",
        "taylor 0.4500 1/2 1 0.9000 50.0 % 0 1",
    ]
    assert "accuracy (0 to 1)" in lines[-1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a study of two methods and one of a single method have run."""
    folder = tmp_path_factory.mktemp("studies")
    storage = f"sqlite:///{folder}/studies.db"
    uniform = "  - {name: uniform, space: {method: {ratio: {}}}}"
    for name, methods in (("tiny", f"{L1}\n{uniform}"), ("single", SLIMMING)):
        path = write_study(folder, methods=methods, sampler="random", trials=4, epochs=1)
        path.write_text(path.read_text().replace("name: tiny", f"name: {name}"))
        run_study(load_study(path), storage=storage, device="cpu", tracking=NOWHERE)
    return folder


def test_best_compares_methods_where_there_are_several(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    storage = f"sqlite:///{folder}/studies.db"
    assert main(["best", "tiny", "--storage", storage]) == 0
    printed = capsys.readouterr().out
    assert "tiny · by method" in printed
    assert main(["best", "tiny", "--storage", storage, "--json"]) == 0
    methods = json.loads(capsys.readouterr().out)["methods"]
    assert {each["method"] for each in methods} == {"l1_norm", "uniform"}
    for each in methods:
        assert f"{each['best']['accuracy']:.4f}" in printed
    assert sum(each["on_front"] for each in methods) > 0

    assert main(["best", "single", "--storage", storage]) == 0
    assert "by method" not in capsys.readouterr().out
    assert main(["best", "single", "--storage", storage, "--json"]) == 0
    (only,) = json.loads(capsys.readouterr().out)["methods"]
    assert only["front_share"] == 1.0
