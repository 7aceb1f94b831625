"""``prunenas profile``, and the file it writes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from prunenas.cli import main
from prunenas.errors import SpecError
from prunenas.federated import TimeModel, TimeSection
from prunenas.spec import load_times, times_text
from prunenas.spec.document import read
from prunenas.spec.federated import load_federated
from prunenas.spec.laws import Part
from prunenas.spec.times import fill_in

FEW = ["--batch", "2", "--rounds", "3"]
WEIGHTS = {"features.0": 500, "features.2": 25_000, "classifier.0": 400_000, "classifier.2": 5_000}
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CI", "1")

    def command(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(list(words))
        return code, *capsys.readouterr()

    return command


def test_figures_of_lenet5_and_the_file_of_its_times(run: Run, tmp_path: Path) -> None:
    options = [*FEW, "--updates", "3", "--bandwidth", "1e6", "--out", "times/lenet5.yaml"]
    code, out, err = run("profile", "lenet5", *options, "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    weights = {name: each["weights"] for name, each in told["layers"].items()}
    assert weights == {f"{name}.weight": number for name, number in WEIGHTS.items()}
    for name, each in told["layers"].items():
        assert len(each["kept"]) == len(each["seconds"]) == 5
        # 8 bytes at a million a second, and three updates
        expected = 8e-6 + 3 * each["seconds_per_weight"]
        assert told["time"]["layers"][name] == pytest.approx(expected)
    assert told["time"]["constant"] == pytest.approx(3 * told["update"]["constant"])
    assert told["round"]["communication"] == pytest.approx(8e-6 * 430_500)
    time = load_times(tmp_path / "times" / "lenet5.yaml")
    assert time == TimeModel.from_dict(told["time"])
    assert time.round_seconds(weights) == pytest.approx(told["round"]["all"])
    assert told["round"]["tenth"] < told["round"]["all"]
    text = (tmp_path / "times" / "lenet5.yaml").read_text()
    assert "# lenet5() on 1,28,28, measured by `prunenas profile`" in text
    assert "1 thread, batch 2, median of 3; 3 updates a round" in text


def test_a_table_says_how_it_was_measured(run: Run) -> None:
    settings = ["--input", "1,16,16", "--set", "num_classes=3"]
    code, out, _ = run("profile", "lenet5", *settings, *FEW)
    assert code == 0
    assert "lenet5: sparse form on cpu, 1 thread, batch 2, median of 3" in out
    assert all(name in out for name in WEIGHTS)
    assert "1.50 k" in out  # 500 hidden units and 3 classes
    assert "round of 5 updates" in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["conv3"], "unknown model 'conv3' (did you mean 'conv4'?)"),
        (["lenet5", "--out", "there.yaml"], "there.yaml is there already; --replace overwrites it"),
        (["lenet5", "--out", "times.json"], "a time model is a .yaml file"),
        (["lenet5", "--bandwidth", "0"], "a bandwidth in bytes a second must be finite and > 0"),
        (["lenet5", "--bandwidth", "fast"], "'--bandwidth'"),
        (["lenet5", "--batch", "1"], "'--batch'"),
    ],
)
def test_mistakes_are_told_in_a_line(run: Run, tmp_path: Path, words: list[str], told: str) -> None:
    (tmp_path / "there.yaml").write_text("mine")
    code, out, err = run("profile", *words)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert told in err
    assert err.count("\n") == 1
    assert (tmp_path / "there.yaml").read_text() == "mine"


TIME = TimeModel(0.1 + 0.2, {"0.weight": 5e-07, "blocks.a: b.weight": 1 / 3}, 1e-9)


def test_a_file_loses_no_digit(tmp_path: Path) -> None:
    path = tmp_path / "times.yaml"
    path.write_text(times_text(TIME, ["of a network\nin two lines"]))
    assert load_times(path) == TIME
    assert "# of a network in two lines\n" in path.read_text()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("constant: 1\nlayers: {a: 0}\nseconds_per_byte: 1\n", "times.yaml:2: "),
        ("constant: 1\nlayers: {a: 1}\n", "seconds_per_byte"),
        ("constant: 1\nlayers: {a: 1}\nseconds_per_byte: 1\nbyte: 1\n", "times.yaml:4: "),
        ("constant: .inf\nlayers: {a: 1}\nseconds_per_byte: 1\n", "times.yaml:1: "),
        ("constant: 0\nlayers: {a: 1}\nseconds_per_byte: 1\n", "times.yaml:1: "),
        ("[", "broken YAML"),
    ],
)
def test_what_is_no_time_model_is_told_by_line(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "times.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=told) as error:
        load_times(path)
    assert len(error.value.mistakes) == 1


def federation(folder: Path, time: str) -> Part:
    path = folder / "federated.yaml"
    path.write_text(f"federation:\n  rounds: 3\n  time: {time}\n")
    document = read(path)
    return Part(document, ("federation",), document.value["federation"])


def test_a_federation_takes_what_a_file_says(tmp_path: Path) -> None:
    (tmp_path / "times").mkdir()
    (tmp_path / "times" / "mine.yaml").write_text(times_text(TIME, []))
    part = federation(tmp_path, "times/mine.yaml")
    assert fill_in(part) == []
    assert TimeModel.from_dict(part.value["time"]) == TIME
    preset = federation(tmp_path, "femnist")
    assert fill_in(preset) == []
    assert preset.value["time"] == "femnist"


def test_a_federated_comparison_reads_the_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(times_text(TIME, []))
    path = tmp_path / "federated.yaml"
    path.write_text(
        "name: timed\nmodel: {name: conv2}\ndata: {name: digits}\n"
        "federation: {rounds: 3, time: mine.yaml}\nstrategies: [conventional]\n"
    )
    assert load_federated(path).federation.time == TimeSection(**TIME.to_dict())
    (tmp_path / "mine.yaml").write_text("constant: 1\n")
    with pytest.raises(SpecError, match=r"mine\.yaml:1: ") as error:
        load_federated(path)
    assert len(error.value.mistakes) == 2  # both that are missing; nothing of the federation


def test_a_files_mistakes_are_its_own_and_a_missing_one_is_told_where_it_is_named(
    tmp_path: Path,
) -> None:
    (tmp_path / "mine.yaml").write_text("constant: 1\nlayers: {a: -1}\nseconds_per_byte: 1\n")
    part = federation(tmp_path, "mine.yaml")
    (mistake,) = map(str, fill_in(part))
    assert mistake.startswith(f"{tmp_path / 'mine.yaml'}:2: ")
    assert "time" not in part.value
    (missing,) = map(str, fill_in(federation(tmp_path, "other.yaml")))
    assert missing.startswith(f"{tmp_path / 'federated.yaml'}:3: ")
    assert "no such file" in missing
