"""``studies/granularity.yaml`` at work: channels, filters, kernels and weights on one front."""

import json
import re
from pathlib import Path

import pytest
from quickstart import files_of_a_user
from shell import prunenas

from prunenas.architecture import Architecture
from prunenas.methods import METHODS
from prunenas.search import open_study
from prunenas.spec import load_study

pytestmark = pytest.mark.slow


def shrunk(folder: Path) -> Path:
    """The committed study with small images, one epoch, and half as many trials."""
    path = files_of_a_user(folder) / "studies" / "granularity.yaml"
    text = path.read_text()
    for pattern, instead in (
        (r"(?m)^data: .*$", "data: {name: digits, train_limit: 300}"),
        (r"train: {epochs: \d+", "train: {epochs: 1"),
        (r"steps: \d+, finish_epochs: \d+", "steps: 2, finish_epochs: 1"),
        (r"trials: \d+", "trials: 30"),
    ):
        text, number = re.subn(pattern, instead, text)
        assert number == 1, pattern
    path.write_text(text)
    return path


def test_all_granularities_stand_on_one_front(tmp_path: Path) -> None:
    study = load_study(shrunk(tmp_path))
    done = prunenas(tmp_path, "run", "studies/granularity.yaml")
    assert done.returncode == 0, done.stderr
    view = open_study(f"sqlite:///{tmp_path}/.prunenas/studies.db", "granularity")
    low, high = study.objective.range or pytest.fail("no range")
    trained = [record for record in view.records if record.state == "complete"]
    assert {record.method for record in trained} == {entry.name for entry in study.methods}
    for record in trained:
        assert record.flops_ratio is not None
        assert record.flops_ratio <= high + 1e-6
        architecture = Architecture.from_dict(record.architecture or {})
        drops_weights = METHODS[record.method].granularity == "weight"
        assert bool(architecture.masks) == drops_weights
        assert architecture.flops <= architecture.whole_flops
        assert (architecture.whole_flops == view.dense_flops) == drops_weights
    units = {
        mask.granularity
        for record in trained
        for mask in Architecture.from_dict(record.architecture or {}).masks.values()
    }
    assert units == {"filter", "kernel", "weight"}
    assert low < 0.2

    told = json.loads(prunenas(tmp_path, "best", "granularity", "--json").stdout)
    assert told["finished"]
    for record in told["front"]:
        assert ("density" in record) == (METHODS[record["method"]].granularity == "weight")
