"""``studies/methods.yaml`` at work: nine methods at one budget, compared, in a user's folder."""

import json
import re
from pathlib import Path

import pytest
from quickstart import files_of_a_user
from shell import prunenas

from prunenas.methods import METHODS
from prunenas.search import open_study
from prunenas.spec import load_study

pytestmark = pytest.mark.slow


def shrunk(folder: Path) -> Path:
    """The committed study with small images, one epoch, and trials enough to meet every method."""
    path = files_of_a_user(folder) / "studies" / "methods.yaml"
    text = path.read_text()
    for pattern, instead in (
        (r"(?m)^data: .*$", "data: {name: digits, train_limit: 300}"),
        (r"epochs: \d+", "epochs: 1"),
        (r"trials: \d+", "trials: 30"),
        (r"repeats: \d+", "repeats: 2"),
    ):
        text, number = re.subn(pattern, instead, text)
        assert number == 1, pattern
    path.write_text(text)
    return path


def test_methods_are_compared_at_one_budget(tmp_path: Path) -> None:
    path = shrunk(tmp_path)
    done = prunenas(tmp_path, "run", "studies/methods.yaml")
    assert done.returncode == 0, done.stderr
    study = load_study(path)
    names = [entry.name for entry in study.methods]
    assert len(names) >= 6
    assert {"uniform", "random"} < set(names) < set(METHODS)

    told = json.loads(prunenas(tmp_path, "best", "methods", "--json").stdout)
    assert told["finished"]
    assert sorted(each["method"] for each in told["methods"]) == sorted(names)
    # All but l1_norm have a start of their own; that one is drawn, or by chance is not.
    assert sum(each["architectures"] > 0 for each in told["methods"]) >= 8
    means = [each["accuracy"]["mean"] for each in told["methods"] if each["architectures"]]
    assert means == sorted(means, reverse=True)
    # The five most accurate were repeated, and each has its method.
    assert sum(each["fresh_seeds"]["candidates"] for each in told["methods"]) == 5

    records = open_study(f"sqlite:///{tmp_path}/.prunenas/studies.db", "methods").records
    assert {record.state for record in records} == {"complete"}
    for record in records:
        assert record.flops_ratio is not None
        assert record.flops_ratio <= (study.objective.budget or 0.0)
    uniform = next(each for each in told["methods"] if each["method"] == "uniform")
    assert uniform["architectures"] == 1

    shown = prunenas(tmp_path, "best", "methods").stdout
    assert "methods · by method" in shown
    assert len(list(tmp_path.glob("mlartifacts/*/*/artifacts/methods.png"))) == 1
