"""`prunenas train` as a user runs it: killed and gone on with, looked at, refused in one line."""

import hashlib
import io
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import tracked
from rich.console import Console
from shell import environment, prunenas

import prunenas as package
from prunenas.cli import main
from prunenas.cli.epochs import Course, Lines, Screen
from prunenas.cli.train import result
from prunenas.data import load
from prunenas.export import read_config, write_export
from prunenas.retraining import Plan
from prunenas.training import EpochMetrics, Metrics, Recipe

SPACE = package.trace("vgg_mini", arguments={"input_size": 8}, input_shape=(1, 8, 8))
HALF = SPACE.architecture(0.5)
TRAIN = ["train", "half", "--data", "digits", "--epochs", "5", "--set", "lr=0.05"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return write_export(
        tmp_path_factory.mktemp("exported") / "half",
        HALF,
        dense_flops=SPACE.dense.flops,
        provenance={"study": "demo", "trial": 3},
    )


@pytest.fixture
def folder(exported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.db").write_bytes(tracked.fresh_database())
    shutil.copytree(exported, "half")
    return tmp_path


def end_after(folder, line, number):
    """Train in a process of its own until it prints ``line``, then end it with a signal."""
    process = subprocess.Popen(
        [sys.executable, "-m", "prunenas", *TRAIN],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=environment(),
    )
    assert process.stdout is not None
    lines = []
    for text in process.stdout:
        lines.append(text.rstrip())
        if text.startswith(line):
            process.send_signal(number)
            break
    _, error = process.communicate(timeout=60)
    return process.returncode, lines, error


@pytest.mark.slow
def test_killed_and_gone_on_with_it_ends_with_the_same_weights(folder, exported, capsys):
    code, lines, error = end_after(folder, "epoch 1/5", signal.SIGINT)
    assert code == 130
    assert error == ("interrupted: finished epochs are kept, the same command goes on with them\n")
    assert "5 epochs (scratch_e) on 1,150 images of digits, 287 held out, seed 0" in lines[0]
    code, lines, _ = end_after(folder, "epoch 3/5", signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert lines[1] == "half: resumed, finished epochs first"
    assert lines[2].startswith("epoch 1/5: validation accuracy 0.")
    assert read_config("half").weights_sha256 is None

    done = prunenas(folder, *TRAIN)
    assert (done.returncode, done.stderr) == (0, "")
    last = done.stdout.splitlines()[-1]
    assert re.fullmatch(
        r"half: test accuracy 0\.\d{4} \(n=360\), validation accuracy 0\.\d{4} \(n=287\), "
        r"5 epochs in \d+ s",
        last,
    )

    shutil.copytree(exported, "other")
    assert main(["train", "other", *TRAIN[2:]]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split(": ")[1].split(" in ")[0] in last
    digests = [
        hashlib.sha256(Path(name, "model.safetensors").read_bytes()).hexdigest()
        for name in ("half", "other")
    ]
    assert digests[0] == digests[1]

    assert main(TRAIN) == 0
    again = capsys.readouterr()
    assert again.out == f"{last}\n"
    assert "this training is done already" in again.err
    assert main([*TRAIN, "--seed", "1"]) == 2
    assert "--replace overwrites them" in capsys.readouterr().err

    assert main(["inspect", "half"]) == 0
    shown = capsys.readouterr().out
    assert "exported with weights · study demo, trial 3" in shown
    assert f"trained on digits: {last.removeprefix('half: ')}" in shown


def test_json_is_the_result_alone_and_a_recipe_file_is_read(folder, capsys):
    Path("recipe.yaml").write_text("epochs: 1\nbatch_size: 50\nschedule: constant\n")
    arguments = ["--recipe", "recipe.yaml", "--protocol", "scratch_b", "--set", "scratch_b_cap=2"]
    arguments += ["--validation", "0", "--seed", "7", "--out", "new/out", "--json"]
    assert main(["train", "half", "--data", "digits", *arguments]) == 0
    printed = capsys.readouterr()
    values = json.loads(printed.out)
    assert values["folder"] == "new/out"
    assert values["flops"] == HALF.flops
    assert values["digest"] == HALF.digest
    training = values["training"]
    assert (training["epochs"], training["protocol"], training["seed"]) == (2, "scratch_b", 7)
    assert training["recipe"]["batch_size"] == 50
    assert training["validation"] is None
    assert training["test"]["n"] == 360
    assert "epoch 2/2: training accuracy" in printed.err
    assert read_config("new/out").training == training
    assert read_config("half").weights_sha256 is None
    assert read_config("new/out").provenance["study"] == "demo"
    loaded = package.load("new/out")
    right = sum(
        int((loaded(images).argmax(1) == labels).sum())
        for images, labels in load("digits", validation=0).test.batches(100)
    )
    assert training["test"]["accuracy"] == right / 360


@pytest.mark.slow
def test_an_architecture_of_a_paper_is_trained_into_an_export(folder, capsys):
    small = ["--data", "digits", "--epochs", "1", "--set", "batch_size=128"]
    assert main(["train", "resnet56-b", *small]) == 2
    assert "say which folder it becomes" in capsys.readouterr().err
    assert main(["train", "resnet56-b", *small, "--out", "exports/r"]) == 0
    config = read_config("exports/r")
    assert config.architecture.input_shape == (3, 8, 8)
    assert config.architecture.widths["stage1.0.conv1"] == 6
    assert config.provenance["architecture"] == "resnet56-b"
    assert config.training["test"]["n"] == 360
    assert package.load("exports/r")(torch.zeros(2, 3, 8, 8)).shape == (2, 10)


BROKEN = """\
epochs: 3
lr: fast
shedule: cosine
"""
DIGITS = ["--data", "digits"]
MISTAKES = {
    "neither export nor architecture": (["nothing", *DIGITS], "unknown architecture 'nothing'"),
    "a folder that is none": ([".", *DIGITS], "not an export"),
    "no data": (["half"], "Missing option '--data'"),
    "unknown data": (["half", "--data", "mnist6k"], "unknown data set 'mnist6k'"),
    "data that is not there": (["half", "--data", "cifar10"], "(--download)"),
    "other images": (["half", "--data", "mnist5k"], "mnist5k has 1×28×28 and 10"),
    "unknown key": (["half", *DIGITS, "--set", "lrr=1"], "did you mean 'lr'?). Known: augment"),
    "no value": (["half", *DIGITS, "--set", "lr"], "must be NAME=VALUE such as lr=0.05"),
    "value of another type": (["half", *DIGITS, "--set", "lr=fast"], "lr must be a number"),
    "value out of range": (["half", *DIGITS, "--set", "lr=-1"], "`lr > 0` must hold"),
    "no epochs": (["half", *DIGITS, "--epochs", "0"], "`epochs >= 1` must hold"),
    "said twice": (
        ["half", *DIGITS, "--epochs", "2", "--set", "epochs=3"],
        "--epochs says it already",
    ),
    "unknown protocol": (
        ["half", *DIGITS, "--protocol", "b"],
        "Known: federated, scratch_b, scratch_e",
    ),
    "share of all": (["half", *DIGITS, "--validation", "1"], "validation must lie in [0, 1)"),
    "seed below zero": (["half", *DIGITS, "--seed", "-1"], "'--seed'"),
    "no such device": (["half", *DIGITS, "--device", "abacus"], "device 'abacus' can't be used"),
    "no such recipe": (["half", *DIGITS, "--recipe", "nowhere.yaml"], "nowhere.yaml: no such file"),
    "tracking nowhere": (["half", *DIGITS, "--tracking", "what"], "a tracking URI is a server"),
}


@pytest.mark.parametrize(("arguments", "told"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_line_and_nothing_is_trained(arguments, told, folder, capsys):
    assert main(["train", *arguments]) == 2
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ")
    assert told in line
    assert printed.out == ""
    assert read_config("half").weights_sha256 is None


def test_a_foreign_module_is_run_only_where_that_is_said(folder, capsys):
    Path("my_nets.py").write_text(
        "from prunenas.models import vgg_mini as net\nopen('imported', 'w').close()\n"
    )
    config = json.loads(Path("half/config.json").read_text())
    config["architecture"]["source"] = "my_nets:net"
    foreign = package.Architecture.from_dict(config["architecture"])
    config["digest"] = foreign.digest
    Path("half/config.json").write_text(json.dumps(config))
    arguments = ["train", "half", *DIGITS, "--epochs", "1"]
    assert main(arguments) == 2
    assert "--trust" in capsys.readouterr().err
    assert not Path("imported").exists()
    assert main([*arguments, "--trust"]) == 0
    assert Path("imported").exists()
    assert read_config("half").training["epochs"] == 1


def test_a_training_that_fails_is_one_line_with_its_reason(folder, capsys):
    assert main(["train", "half", *DIGITS, "--epochs", "2", "--set", "lr=1e30"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert read_config("half").weights_sha256 is None


def test_the_mistakes_of_a_recipe_file_are_told_each_on_its_line(folder, capsys):
    Path("recipe.yaml").write_text(BROKEN)
    arguments = ["train", "half", *DIGITS, "--recipe", "recipe.yaml"]
    assert main(arguments) == 2
    assert [line.split(": ")[1] for line in capsys.readouterr().err.splitlines()] == [
        "recipe.yaml:2",
        "recipe.yaml:3",
    ]
    Path("study.yaml").write_text(
        f"name: s\nsearch: {{trials: 2}}\ntrain:\n  {BROKEN.replace(chr(10), chr(10) + '  ')}"
    )
    assert main([*arguments[:-1], "study.yaml", "--set", "lr=0.1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: study.yaml:6: unknown recipe key 'shedule'")


def course(epochs=4):
    """A training of which two epochs are done."""
    plan = Plan(
        HALF,
        SPACE.dense.flops,
        load("digits"),
        Recipe(epochs=epochs),
        seed=0,
        device=torch.device("cpu"),
    )
    return Course(plan, "half")


def epoch(number, accuracy):
    train = Metrics(loss=1.5, accuracy=0.25)
    return EpochMetrics(number, train, Metrics(loss=1.0, accuracy=accuracy), 0.1, 3.0)


def test_lines_tell_figures_with_their_number_of_images_and_the_time_left():
    told = []
    lines = Lines(course(), told.append)
    lines.begun(False)
    lines.epoch(epoch(1, 0.5))
    assert told == [
        "half: 78.7 k FLOPs (25.8 % of dense), 4 epochs (scratch_e) on 1,150 images of digits, "
        "287 held out, seed 0",
        "epoch 1/4: validation accuracy 0.5000 (n=287), training accuracy 0.2500, loss 1.5000 "
        "[about 9 s left]",
    ]


def test_the_screen_shows_how_far_it_is():
    drawn = io.StringIO()
    console = Console(file=drawn, width=100, force_terminal=False)
    screen = Screen(course(), console)
    screen.begun(False)
    for number, accuracy in ((1, 0.5), (2, 0.9), (3, 0.7)):
        screen.epoch(epoch(number, accuracy))
    console.print(screen.render())
    shown = drawn.getvalue()
    assert "3/4 epochs" in shown
    assert "about 3 s left" in shown
    assert "▁█▄ validation accuracy 0.7000 (n=287)" in shown


def test_what_a_study_trained_is_worded_without_what_it_does_not_know():
    training = {"data": "digits", "epochs": 10, "test": None}
    known = training | {"validation": {"accuracy": 0.9725, "n": 800}}
    assert result("trained on digits", known) == (
        "trained on digits: validation accuracy 0.9725 (n=800), 10 epochs"
    )
    alone = training | {"validation": None, "seconds": 61.0}
    assert result("half", alone) == "half: digits has no test images, 10 epochs in 1 min 01 s"
