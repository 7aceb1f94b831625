"""Comparisons of real trainings on digits: every cell once, resumed, in several processes."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from statistics import fmean, stdev

import pytest
from shell import environment, prunenas

from prunenas.architecture import build, trace
from prunenas.cache import Cache
from prunenas.cli import main
from prunenas.data import load
from prunenas.errors import SpecError
from prunenas.evidence.cells import Contender, cells
from prunenas.evidence.comparison import Told, compare
from prunenas.methods import Dense
from prunenas.methods.thinet import ThiNet
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


def test_the_first_seed_of_all_cells_comes_first_and_guided_ones_last() -> None:
    row = Contender("a", "l1_norm", 0.5)
    found = cells([row], ("guided", "dense", "scratch_e", "uniform"), range(2))
    assert [(each.arm, each.seed) for each in found] == [
        ("dense", 0),
        ("uniform", 0),
        ("scratch_e", 0),
        ("dense", 1),
        ("uniform", 1),
        ("scratch_e", 1),
        ("guided", 0),
        ("guided", 1),
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
    # A control is the same network as the method that is one, so that there is nothing to ask.
    assert ("uniform", "scratch_e") not in {
        (each.first, each.second) for each in everywhere.answers
    }
    assert ("uniform", "scratch_e") in {(each.first, each.second) for each in magnitude.answers}
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


def test_a_plan_trains_nothing_and_a_page_shows_what_was_trained(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    comparison = load_comparison(written(tmp_path))
    options = ["compare", "tiny.yaml", "--device", "cpu", "--plan"]
    assert main([*options, "--cache", "new"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    # Per seed: dense, uniform at half; magnitude: 1 of 2 epochs, two whole trainings, by zeros as
    # dear as dense ones; the method that is a control: half an epoch fine-tuned, once from scratch.
    assert "0 of 16 done; 14 trainings left cost as much as 9.5 of the dense network" in told
    assert not list(Path("new").rglob("*.safetensors"))
    compare(comparison, device="cpu", folder=folder)
    assert main([*options, "--cache", str(folder), "--json"]) == 0
    (planned,) = json.loads(capsys.readouterr().out)
    assert planned["left"] == {"networks": 0, "dense_trainings": 0.0, "multiply_adds": 0.0}
    done = ["compare", "tiny.yaml", "--device", "cpu", "--cache", str(folder)]
    assert main([*done, "--out", "page.html"]) == 0
    page = Path("page.html").read_text()
    assert "everywhere" in page
    assert f"prunenas compare tiny.yaml --cache {folder}" in page
    capsys.readouterr()
    assert main([*done, "--out", "page.html"]) == 2
    assert "--replace" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_come_to_the_same_figures(folder: Path, tmp_path: Path) -> None:
    comparison = load_comparison(written(folder))
    alone = compare(comparison, device="cpu", folder=folder)
    together = compare(comparison, device="cpu", workers=2, folder=tmp_path / "other")
    assert alone[0].results == together[0].results


TRANSFERRED = ("arms: [dense, fine_tuned,", "arms: [transferred, dense, fine_tuned,")
MISTAKES = {
    "seeds": (("seeds: 2", "seeds: 1"), 10, "`seeds >= 2` must hold"),
    "budgets twice": (
        ("[0.5]", "[0.5, 0.5]"),
        7,
        "budgets must differ, but 0.5 stands there twice",
    ),
    "budget above one": (("[0.5]", "[1.5]"), 7, "`budgets[0] <= 1` must hold"),
    "no budgets": (("[0.5]", "[]"), 7, "must have at least one entry"),
    "labels twice": (("magnitude}", "magnitude, label: everywhere}"), 4, "methods' labels must"),
    "models twice": (("vgg_mini}]", "vgg_mini}, {name: vgg_mini}]"), 2, "models must differ"),
    "arms twice": (("[dense,", "[dense, dense,"), 9, "arms must differ, but dense stands"),
    "method": (("name: magnitude", "name: magnitud"), 6, "unknown method 'magnitud'"),
    "arm": (("[dense, fine", "[dens, fine"), 9, "did you mean 'dense'"),
    "weights": (("augment: false", "initial: original"), 8, "train.initial must be fresh"),
    "hyperparameter": (
        ("{name: magnitude}", "{name: magnitude, with: {scope: all}}"),
        6,
        "unknown scope 'all'",
    ),
    "maps": (
        ("{name: magnitude}", "{name: guided_sparse, with: {maps: nowhere.yaml}}"),
        6,
        "nowhere.yaml",
    ),
    "data": (("name: digits", "name: digit"), 3, "unknown data set 'digit'"),
    "key": (("seed: 3", "sed: 3"), 11, "did you mean"),
    "nothing to transfer": (TRANSFERRED, 9, "list two models"),
    "patterns for nobody": (
        ("seed: 3", "seed: 3\npatterns: {model: {name: vgg_mini}}"),
        12,
        "not among the arms",
    ),
    "patterns of no model": (
        ("seed: 3", "seed: 3\npatterns: {model: {name: vgg_mni}}"),
        12,
        "unknown model 'vgg_mni'",
    ),
}


@pytest.mark.parametrize(("change", "line", "law"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_told_with_their_lines(
    change: tuple[str, str],
    line: int,
    law: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = written(tmp_path, TEXT.replace(*change))
    assert path.read_text() != TEXT
    with pytest.raises(SpecError) as error:
        load_comparison(path)
    assert any(law in each and f"tiny.yaml:{line}: " in each for each in error.value.mistakes)
    monkeypatch.chdir(tmp_path)
    for command in ("check", "compare"):
        assert main([command, "tiny.yaml"]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert f"tiny.yaml:{line}: " in err
        assert "Traceback" not in err


def test_a_sound_comparison_is_checked_and_reads_maps_from_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("maps.yaml").write_text("maps:\n  - [[0, 1, 0], [1, 1, 1], [0, 1, 0]]\n")
    text = TEXT.replace("{name: magnitude}", "{name: guided_sparse, with: {maps: maps.yaml}}")
    text = text.replace(*TRANSFERRED) + "patterns: {model: {name: resnet20}}\n"
    comparison = load_comparison(written(tmp_path, text))
    assert comparison.methods[1].hyperparameters["maps"] == [[[0, 1, 0], [1, 1, 1], [0, 1, 0]]]
    assert comparison.patterns is not None
    assert comparison.patterns.data is None
    assert main(["check", "tiny.yaml", "maps.yaml"]) == 0
    assert capsys.readouterr().out == "tiny.yaml: ok\nmaps.yaml: ok\n"


@pytest.mark.slow
def test_an_interrupted_command_goes_on_and_more_seeds_train_what_is_missing(
    folder: Path, tmp_path: Path
) -> None:
    written(tmp_path)
    options = ["compare", "tiny.yaml", "--cache", "c", "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", "prunenas", *options],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("tiny: 3 of 16"):
            process.send_signal(signal.SIGINT)
            break
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (130, "")
    assert "go on with `prunenas compare tiny.yaml --cache c`" in err
    table, page = prunenas(tmp_path, *options, "--markdown", "t.md"), tmp_path / "t.md"
    assert table.returncode == 0, table.stderr
    counted = [line for line in table.stderr.splitlines() if line.startswith("tiny: ")]
    assert int(counted[0].split()[1]) >= 4  # the first three were not done again
    assert counted[-1] == "tiny: 16 of 16 networks done"
    for shown in ("tiny · vgg_mini", "everywhere", "at n = 2", "spread"):
        assert shown in table.stdout
    assert page.read_text().startswith("### vgg_mini\n")
    told = json.loads(prunenas(tmp_path, *options, "--seeds", "3", "--json").stdout)
    comparison = load_comparison(tmp_path / "tiny.yaml").model_copy(update={"seeds": 3})
    (part,) = compare(comparison, device="cpu", folder=folder)
    (network,) = told["networks"]
    assert network["rows"] == [
        json.loads(json.dumps(row.to_dict())) for row in part.rows(comparison)
    ]
    assert network["rows"][1]["figures"]["ticket"]["n"] == 3
    assert network["rows"][1]["pattern"]["spread"] > 0


STREAMS = """\
name: streams
models: [{name: resnet20}]
data: {name: digits, train_limit: 50}
methods:
  - {name: gibbs, with: {unit: filter, narrow: true}}
  - {name: thinet}
budgets: [0.5]
train: {epochs: 1, batch_size: 25, lr: 0.05, augment: false}
arms: [scratch_e, ticket]
seeds: 2
"""


def test_a_cells_own_trouble_is_its_reason_and_ends_no_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparison = load_comparison(written(tmp_path, STREAMS))

    def exhausted(*args: object, **options: object) -> None:
        raise MemoryError("no room")

    with monkeypatch.context() as broken:
        broken.setattr(ThiNet, "derive", exhausted)
        (part,) = compare(comparison, device="cpu", folder=tmp_path / "c")
    narrow, thinet = part.rows(comparison)
    # Narrow, and with masks in the residual streams even so.
    assert narrow.figures["scratch_e"].n == 2
    assert "needs masks" in narrow.figures["ticket"].reasons[0]
    assert thinet.figures["scratch_e"].reasons == ("MemoryError: no room",)
    # That may be another day's: it is tried again.
    (part,) = compare(comparison, device="cpu", folder=tmp_path / "c")
    assert part.rows(comparison)[1].figures["scratch_e"].n == 2
