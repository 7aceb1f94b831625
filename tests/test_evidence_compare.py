"""Comparisons of real trainings on digits: every cell once, resumed, in several processes."""

import json
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
from shell import prunenas

from prunenas.architecture import build, trace
from prunenas.cache import Cache
from prunenas.data import load
from prunenas.errors import SpecError
from prunenas.evidence.cells import Contender, cells
from prunenas.evidence.comparison import Told, compare
from prunenas.methods import Dense
from prunenas.spec import load_comparison
from prunenas.training import evaluate

TEXT = """\
name: tiny
models: [{name: vgg_mini}]
data: {name: digits, train_limit: 200}
methods:
  - {name: uniform, label: everywhere}
  - {name: magnitude}
budgets: [0.5]
train: {epochs: 2, batch_size: 50, lr: 0.05, augment: false}
arms: [dense, fine_tuned, scratch_e, uniform, ticket]
seeds: 2
seed: 3
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def written(folder: Path, text: str = TEXT) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(text)
    return path


def test_the_first_seed_of_all_cells_comes_first() -> None:
    row = Contender("a", "l1_norm", 0.5)
    found = cells([row], ("dense", "scratch_e", "uniform"), range(2))
    assert [(each.arm, each.seed) for each in found] == [
        ("dense", 0),
        ("uniform", 0),
        ("scratch_e", 0),
        ("dense", 1),
        ("uniform", 1),
        ("scratch_e", 1),
    ]


def test_cells_are_real_trainings_judged_on_the_test_split(folder: Path) -> None:
    comparison = load_comparison(written(folder))
    (part,) = compare(comparison, device="cpu", folder=folder)
    assert len(part.results) == part.total == 2 * (1 + 1 + 2 * 3)
    everywhere, magnitude = part.rows(comparison)
    # The dense network by itself, in plain sight.
    data = load("digits", train_limit=200)
    space = trace("vgg_mini", arguments={"input_size": 8}, input_shape=data.input_shape)
    for seed in (3, 4):
        dense = Dense(space, data, comparison.train, Cache(folder), seed=seed)
        network = build(space.dense)
        network.load_state_dict(dense.state())
        expected = evaluate(network, data.test).accuracy
        assert everywhere.figures["dense"].accuracies[seed] == expected
    # A control is the same network as the method that is one.
    own, control = everywhere.figures["scratch_e"], everywhere.figures["uniform"]
    assert own.accuracies == control.accuracies
    assert own.flops is not None
    assert 0.9 * 0.5 <= own.flops / part.flops <= 0.5
    # What can't be done says why.
    assert everywhere.figures["fine_tuned"].reasons == ("the method leaves no weights",)
    assert "needs masks" in everywhere.figures["ticket"].reasons[0]
    assert magnitude.figures["ticket"].n == magnitude.figures["fine_tuned"].n == 2
    values = list(magnitude.figures["scratch_e"].accuracies.values())
    assert magnitude.figures["scratch_e"].mean == fmean(values)
    assert magnitude.figures["scratch_e"].deviation == stdev(values)


def test_what_is_done_is_not_done_again(folder: Path) -> None:
    comparison = load_comparison(written(folder))
    first = compare(comparison, device="cpu", folder=folder)
    told: list[Told] = []
    again = compare(comparison, device="cpu", folder=folder, watch=told.append)
    assert told == []
    assert again[0].results == first[0].results
    more = comparison.model_copy(update={"seeds": 3})
    longer = compare(more, device="cpu", folder=folder, watch=told.append)
    trained = {each.what for each in told if each.what}
    assert trained
    assert all("seed 5" in what or what == "dense network" for what in trained)
    assert longer[0].results.items() >= first[0].results.items()


@pytest.mark.slow
def test_two_processes_come_to_the_same_figures(folder: Path, tmp_path: Path) -> None:
    comparison = load_comparison(written(folder))
    alone = compare(comparison, device="cpu", folder=folder)
    together = compare(comparison, device="cpu", workers=2, folder=tmp_path / "other")
    assert alone[0].results == together[0].results


@pytest.mark.parametrize(
    ("change", "law"),
    [
        (("seeds: 2", "seeds: 1"), "tiny.yaml:10: `seeds >= 2` must hold"),
        (("[0.5]", "[0.5, 0.5]"), "budgets must differ, but 0.5 stands there twice"),
        (("name: magnitude", "name: magnitud"), "unknown method 'magnitud'"),
        (("[dense, fine", "[dens, fine"), "unknown"),
        (("augment: false", "initial: original"), "train.initial must be fresh"),
        (("{name: magnitude}", "{name: magnitude, with: {scope: all}}"), "unknown scope 'all'"),
    ],
)
def test_mistakes_are_told_with_their_lines(
    change: tuple[str, str], law: str, tmp_path: Path
) -> None:
    path = written(tmp_path, TEXT.replace(*change))
    with pytest.raises(SpecError) as error:
        load_comparison(path)
    assert law in str(error.value)
    assert "tiny.yaml:" in str(error.value)


@pytest.mark.slow
def test_the_command_prints_a_table_and_json(tmp_path: Path) -> None:
    written(tmp_path)
    done = prunenas(tmp_path, "compare", "tiny.yaml")
    assert done.returncode == 0, done.stderr
    assert "tiny · vgg_mini" in done.stdout
    assert "everywhere" in done.stdout
    assert "at n = 2" in done.stdout
    told: Any = json.loads(prunenas(tmp_path, "compare", "tiny.yaml", "--json").stdout)
    (network,) = told["networks"]
    assert [row["method"] for row in network["rows"]] == ["everywhere", "magnitude"]
    assert network["rows"][1]["figures"]["ticket"]["n"] == 2
