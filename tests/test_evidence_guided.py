"""Guided and transferred networks out of comparisons and `prunenas guide`, on real digits."""

import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
import tracked

from prunenas.architecture import Architecture, Space
from prunenas.cache import Cache
from prunenas.cli import main
from prunenas.data import load
from prunenas.evidence.comparison import Told, compare
from prunenas.evidence.guidance import FOUND
from prunenas.export import read_config
from prunenas.export.masks import read_masks
from prunenas.methods import METHODS, Dense, mean_maps, survival_maps
from prunenas.search.workshop import trace_model
from prunenas.spec import Comparison, ModelSection, load_comparison

TEXT = """\
name: tiny
models: [{name: vgg_mini}, {name: vgg_mini, arguments: {gamma: 0.5}}]
data: {name: digits, train_limit: 100}
methods:
  - {name: network_slimming}
  - {name: magnitude}
budgets: [0.5]
train: {epochs: 1, batch_size: 50, lr: 0.05, augment: false}
arms: [scratch_e, uniform, guided, transferred]
seeds: 2
seed: 3
"""
SEEDS = (3, 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a comparison that was run once."""
    folder = tmp_path_factory.mktemp("guided")
    (folder / "tiny.yaml").write_text(TEXT)
    (folder / "mlflow.db").write_bytes(tracked.fresh_database())
    compare(load_comparison(folder / "tiny.yaml"), device="cpu", folder=folder / "cache")
    return folder


@pytest.fixture(autouse=True)
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def own(gamma: float | None = None) -> Space:
    arguments = {} if gamma is None else {"gamma": gamma}
    return trace_model(ModelSection(name="vgg_mini", arguments=arguments), load("digits"))


def found(comparison: Comparison, space: Space, method: str, seed: int) -> Architecture:
    """What a method finds, by the method itself."""
    data = load("digits", train_limit=100)
    dense = Dense(space, data, comparison.train, Cache(Path("cache")), seed=seed)
    return (
        METHODS[method]().derive(dense, flops=int(0.5 * space.dense_flops), seed=seed).architecture
    )


def test_guided_rows_are_the_pattern_of_all_seeds_at_the_budget(folder: Path) -> None:
    comparison = load_comparison("tiny.yaml")
    told: list[Told] = []
    first, second = compare(comparison, device="cpu", folder=Path("cache"), watch=told.append)
    assert told == []  # all was done before
    one, other = own(), own(0.5)
    narrow = [found(comparison, one, "network_slimming", seed) for seed in SEEDS]
    members: dict[int, list[str]] = {}
    for group in one.groups:
        members.setdefault(group.stage, []).append(group.name)
    width = {group.name: group.width for group in one.groups}
    shares = {
        stage: fmean(each.widths[name] / width[name] for each in narrow for name in names)
        for stage, names in members.items()
    }
    budget = int(0.5 * one.dense_flops)
    expected = [
        space.fit({g.name: shares[g.stage] for g in space.groups}, flops=budget, tolerance=None)
        for space in (one, other)
    ]
    rows = [part.rows(comparison)[0] for part in (first, second)]
    guided, transferred = rows[0].figures["guided"], rows[1].figures["transferred"]
    assert set(guided.digests.values()) == {expected[0].digest}
    assert set(transferred.digests.values()) == {expected[1].digest}
    for figure in (guided, transferred, rows[1].figures["guided"]):
        assert list(figure.accuracies) == [3, 4]
        assert figure.flops is not None
        assert 0.95 * budget <= figure.flops <= budget
    assert rows[0].pattern is not None
    assert rows[0].pattern.stages == pytest.approx(shares)
    # On the network that patterns come from there is nothing to transfer.
    nothing = rows[0].figures["transferred"]
    assert nothing.n == 0
    assert "this network and data" in nothing.reasons[0]
    asked = {(each.first, each.second) for each in rows[1].answers}
    assert asked >= {("scratch_e", "transferred"), ("uniform", "transferred")}


def test_guided_masks_are_drawn_by_the_mean_of_the_maps(folder: Path) -> None:
    comparison = load_comparison("tiny.yaml")
    first, second = compare(comparison, device="cpu", folder=Path("cache"))
    one, other = own(), own(0.5)
    maps = mean_maps(
        [survival_maps(one, found(comparison, one, "magnitude", seed)) for seed in SEEDS]
    )
    method = METHODS["guided_sparse"].model_validate(
        {"maps": [each.tolist() for _, each in sorted(maps.items())]}
    )
    for part, space, arm in ((first, one, "guided"), (second, other, "transferred")):
        digests = {
            cell.seed: outcome.digest
            for cell, outcome in part.results.items()
            if cell.contender and cell.contender.label == "magnitude" and cell.arm == arm
        }
        for seed in SEEDS:
            dense = Dense(space, load("digits"), comparison.train, Cache(Path("cache")))
            budget = int(0.5 * space.dense_flops)
            drawn = method.derive(dense, flops=budget, seed=seed).architecture
            assert digests[seed] == drawn.digest


def test_each_network_is_found_once(folder: Path) -> None:
    assert len(Cache(Path("cache")).keys(FOUND)) == 2 * 2 * len(SEEDS)  # models, methods


@pytest.mark.slow
def test_two_workers_find_the_same_and_find_it_once(tmp_path: Path) -> None:
    comparison = load_comparison("tiny.yaml").model_copy(update={"arms": ("guided", "transferred")})
    alone = compare(comparison, device="cpu", folder=Path("cache"))
    before = torch.get_num_threads()
    together = compare(comparison, device="cpu", workers=2, folder=tmp_path)
    assert torch.get_num_threads() == before
    for one, two in zip(alone, together, strict=True):
        assert one.results == two.results
        assert one.patterns == two.patterns
    assert len(Cache(tmp_path).keys(FOUND)) == 2 * 2 * len(SEEDS)


def test_patterns_of_other_data_are_taken_over(folder: Path) -> None:
    text = TEXT.replace(", {name: vgg_mini, arguments: {gamma: 0.5}}", "").replace(
        "arms: [scratch_e, uniform, guided, transferred]",
        "arms: [transferred]\npatterns: {model: {name: vgg_mini}, data: {name: digits, "
        "train_limit: 60}}",
    )
    Path("other.yaml").write_text(text.replace("  - {name: magnitude}\n", ""))
    comparison = load_comparison("other.yaml")
    (part,) = compare(comparison, device="cpu", folder=Path("cache"))
    (row,) = part.rows(comparison)
    assert row.figures["transferred"].n == 2
    # With the same data it is the network's own pattern, and there is nothing to transfer.
    Path("own.yaml").write_text(
        Path("other.yaml").read_text().replace("train_limit: 60", "train_limit: 100")
    )
    comparison = load_comparison("own.yaml")
    (part,) = compare(comparison, device="cpu", folder=Path("cache"))
    assert "this network and data" in part.rows(comparison)[0].figures["transferred"].reasons[0]


def guide(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    options = ["--flops-ratio", "0.4", "--cache", "cache", "--device", "cpu", "--json"]
    assert main(["guide", "tiny.yaml", *arguments, *options]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


@pytest.mark.parametrize(
    "method", ["network_slimming", pytest.param("magnitude", marks=pytest.mark.slow)]
)
def test_the_command_exports_a_guided_network_that_trains(
    method: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = f"guided_{method}"
    told = guide(capsys, out, "--method", method)
    space = own()
    assert 0.95 * 0.4 <= told["flops_ratio"] <= 0.4
    config = read_config(out)
    assert config.architecture.digest == told["digest"]
    assert config.provenance["comparison"] == "tiny"
    assert config.provenance["method"] == "guided"
    assert config.provenance["notes"]["n"] == 2
    parts = {each["name"]: each["mean"] for each in told["pattern"]["parts"]}
    assert parts.keys() == {group.name for group in space.groups}
    networks = [found(load_comparison("tiny.yaml"), space, method, seed) for seed in SEEDS]
    for group in space.groups:
        if method == "magnitude":
            kept = [each.masks[f"{group.name}.weight"].density for each in networks]
        else:
            kept = [each.widths[group.name] / group.width for each in networks]
        assert parts[group.name] == pytest.approx(fmean(kept))
    whole = read_masks(Path(out), config.architecture)
    assert bool(whole.masks) == (method == "magnitude")
    train = ["train", out, "--data", "digits", "--epochs", "1", "--device", "cpu"]
    assert main(train) == 0
    assert "test" in capsys.readouterr().out


@pytest.mark.slow
def test_the_command_transfers_to_another_network_and_prints_the_pattern(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = ["--model", "resnet20", "--input", "1,8,8", "--flops-ratio", "0.4"]
    method = ["--method", "magnitude", "--cache", "cache"]
    assert main(["guide", "tiny.yaml", "far", *method, *other]) == 0
    shown = capsys.readouterr()
    assert "spread between stages" in shown.out
    assert "uniform here" in shown.out
    assert "features.11" in shown.out
    assert "guided by tiny, magnitude at 50% FLOPs" in shown.err
    config = read_config("far")
    assert config.architecture.source == "resnet20"
    assert config.provenance["method"] == "transferred guided"
    assert config.provenance["notes"]["source"] == "vgg_mini"
    assert 0.999 * 0.4 <= config.flops_ratio <= 0.4
    assert config.architecture.masks


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["tiny.yaml", "out"], "tiny has several: say one. Known: network_slimming, magnitude"),
        (["tiny.yaml", "out", "--method", "magnitud"], "did you mean 'magnitude'?"),
        (["tiny.yaml", "out", "--method", "magnitude", "--budget", "0.3"], "no budget 0.3"),
        (["tiny.yaml", "out", "--trial", "3"], "trials are of a study"),
        (["demo", "out", "--method", "magnitude"], "this is a study"),
        (["demo", "out"], "no studies"),
        (["nowhere.yaml", "out"], "nowhere.yaml"),
        (["tiny.yaml", "out", "--input", "1,8,8"], "goes with --model"),
        (["tiny.yaml", "cache"], "--replace overwrites it"),
        (["tiny.yaml", "out", "--flops-ratio", "1.5"], "must lie in (0, 1]"),
        (
            ["tiny.yaml", "out", "--method", "network_slimming", "--flops-ratio", "0.0001"],
            "no widths meet",
        ),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], told: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    ratio = [] if "--flops-ratio" in arguments else ["--flops-ratio", "0.4"]
    assert main(["guide", *arguments, *ratio, "--cache", "cache", "--device", "cpu"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    line = err.splitlines()[-1]
    assert line.startswith("error: ")
    assert told in line
    assert not Path("out").exists()
