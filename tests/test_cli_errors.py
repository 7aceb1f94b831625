"""What a user can mend: lines `error: ...` on stderr, exit code 2, no traceback."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from prunenas.cli import main

STUDIES = Path(__file__).parent.parent / "studies"

MISTAKES = {
    "unknown command": (["inspct"], "No such command 'inspct'. Did you mean 'inspect'"),
    "unknown option": (["best", "demo", "--frobnicate"], "No such option: --frobnicate"),
    "missing argument": (["best"], "Missing argument"),
    "unknown kind": (["list", "pruners"], "'pruners' is not one of"),
    "unknown model": (["inspect", "vgg_mni"], "unknown model 'vgg_mni' (did you mean 'vgg_mini'?)"),
    "unknown torchvision model": (["inspect", "torchvision/resnet19"], "resnet18"),
    "unknown module": (["inspect", "no_such_module:net", "--input", "3,8,8"], "can't be imported"),
    "input of an own model unknown": (["inspect", "os:getcwd"], "say it with --input C,H,W"),
    "input that is no shape": (["inspect", "vgg_mini", "--input", "3,x"], "such as 3,32,32"),
    "input of nothing": (["inspect", "vgg_mini", "--input", "3,0,8"], "such as 3,32,32"),
    "setting without value": (["inspect", "vgg_mini", "--set", "classes"], "must be NAME=VALUE"),
    "setting nobody takes": (["inspect", "vgg_mini", "--set", "depth=3"], "depth"),
    "folder without export": (["inspect", "."], "not an export"),
    "no study file": (["run", "nowhere.yaml"], "nowhere.yaml"),
    "no file to check": (["check", "nowhere.yaml"], "nowhere.yaml"),
    "no storage": (["status"], "there are no studies in sqlite:///.prunenas/studies.db"),
    "storage that is no URL": (
        ["best", "demo", "--storage", "what"],
        "storage what can't be opened",
    ),
    "two choices": (["export", "demo", "out", "--all", "--trial", "3"], "only one of"),
    "share above one": (["export", "demo", "out", "--flops-ratio", "30"], "must be in (0, 1]"),
    "trial below zero": (["export", "demo", "out", "--trial", "-1"], "'--trial'"),
    "no config": (["ui", "--config", "nowhere.yml"], "nowhere.yml"),
}


@pytest.mark.parametrize(("arguments", "told"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_line(arguments, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert len(lines) == 1, printed.err
    assert lines[0].startswith("error: ")
    assert told in lines[0]
    assert printed.out == ""


BROKEN = """\
name: broken
model: {name: vgg_mni}
data: {name: mnist6k}
methods: [{name: l1norm}]
objective: {maximize: accuracy, minimize: flops}
train: {epochs: 0}
search: {trials: 4, sampler: tpee}
"""


def test_all_mistakes_of_a_file_are_told_each_on_its_line(tmp_path, capsys):
    file = tmp_path / "broken.yaml"
    file.write_text(BROKEN)
    assert main(["check", str(file)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["error", f"{file}:{number}"] for number in (2, 3, 4, 6, 7)
    ]
    assert main(["run", str(file)]) == 2
    assert capsys.readouterr().err.splitlines() == lines
    assert main(["check", str(file), "--json"]) == 2
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {
        "ok": False,
        "mistakes": [line.removeprefix("error: ") for line in lines],
    }


def test_sound_files_are_told_so(capsys):
    files = [str(path) for path in sorted(STUDIES.glob("*.yaml"))]
    assert main(["check", *files]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{file}: ok" for file in files]
    assert main(["check", *files, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True, "mistakes": []}


def test_a_mistake_reaches_the_shell_as_exit_code_2():
    done = subprocess.run(
        [sys.executable, "-m", "prunenas", "inspect", "vgg_mni"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: unknown model 'vgg_mni'")
    assert "Traceback" not in done.stderr


def test_a_reader_that_leaves_early_is_no_error():
    process = subprocess.Popen(
        [sys.executable, "-m", "prunenas", "list", "data", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, error = process.communicate()
    assert error == ""
    assert process.returncode == 1


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_is_exit_code_130_without_a_traceback(tmp_path):
    # A model whose constructor takes for ever stands for any command that is under way.
    (tmp_path / "slow_nets.py").write_text(
        "import time\ndef net():\n    print('begun', flush=True)\n    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "prunenas", "inspect", "slow_nets:net", "--input", "1,8,8"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert error == "interrupted\n"
