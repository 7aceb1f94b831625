"""What a user can mend: lines `error: ...` on stderr, exit code 2, no traceback."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from shell import prunenas
from spec_samples import changed, inline, write_sound_files
from tiny_studies import write_study

from prunenas.cli import main

STUDIES = Path(__file__).parent.parent / "studies"

MISTAKES = {
    "unknown command": (["inspct"], "No such command 'inspct'. Did you mean 'inspect'"),
    "unknown option": (["best", "demo", "--frobnicate"], "--frobnicate"),
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


def ratio(text):
    return inline(f"{{widths: {{per: group, ratio: {{{text}}}}}}}")


UNFIT = "{widths: {per: group, ratio: {low: 0.5, high: 1}, fixed: {layer9: 1}}}"
IN_A_STUDY = {
    "unknown model": (2, "model: {name: vgg_mni}", "unknown model 'vgg_mni'"),
    "unknown torchvision model": (2, "model: {name: torchvision/resnet19}", "resnet18"),
    "module that is not there": (2, "model: {name: 'no_nets:net'}", "can't be imported"),
    "model for other images": (2, "model: {name: torchvision/alexnet}", "can't be traced"),
    "unknown data set": (3, "data: {name: mnist6k}", "unknown data set 'mnist6k'"),
    "missing data folder": (3, "data: {name: cifar10, root: no}", "needs the folder no/cifar-10"),
    "missing image folder": (3, "data: {name: image_folder, root: no}", "needs no/train/CLASS"),
    "unknown method": (5, "  - {name: l1norm, space: per_layer}", "unknown method 'l1norm'"),
    "unknown space": (5, "  - {name: l1_norm, space: perlayer}", "search space 'perlayer'"),
    "ratio of nothing": (5, ratio("low: 0, high: 1"), "ratio.low > 0` must hold"),
    "ratio above one": (5, ratio("low: 0.5, high: 1.5"), "ratio.high <= 1` must hold"),
    "low above high": (5, ratio("low: 0.9, high: 0.1"), "`low <= high` must hold"),
    "widths of another model": (5, inline(UNFIT), "unknown channel group of vgg_mini 'layer9'"),
    "budget above one": (6, "objective: {maximize: accuracy, flops_ratio: 2}", "flops_ratio <= 1"),
    "misspelt key": (7, "train: {epoch: 1}", "'epoch' (did you mean 'epochs'?)"),
    "unknown sampler": (8, "search: {sampler: tpee, trials: 2}", "unknown sampler 'tpee'"),
    "broken YAML": (3, "data: {name: digits", "broken YAML"),
    "no YAML at all": (1, "\0", "broken YAML"),
}


@pytest.mark.parametrize(("line", "text", "told"), IN_A_STUDY.values(), ids=IN_A_STUDY.keys())
def test_a_mistake_in_a_study_is_one_line_and_nothing_is_run(
    line, text, told, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    write_sound_files(tmp_path)
    (tmp_path / "studies" / "s.yaml").write_text(changed(line, text))
    assert main(["run", "studies/s.yaml"]) == 2
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert len(lines) == 1, printed.err
    assert lines[0].startswith("error: ")
    assert told in lines[0]
    assert printed.out == ""
    assert not (tmp_path / ".prunenas" / "studies.db").exists()
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("tracking", "told"),
    [
        (["--tracking", "elsewhere"], "a tracking URI is a server"),
        ([], "mlflow.yml:1: unknown key 'trakcing'"),
    ],
)
def test_a_mistake_in_where_tracking_goes_is_one_line(
    tracking, told, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.yml").write_text("trakcing: sqlite:///m.db\n" if not tracking else "")
    path = write_study(tmp_path)
    assert main(["run", str(path), *tracking]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert told in line


BRANCHING = """\
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        x = self.conv(x).mean((2, 3))
        return self.head(x if x.sum() > 0 else 2 * x)
"""


@pytest.mark.parametrize(
    ("line", "text", "told"),
    [
        (2, "model: {name: 'branching:Net'}", "the network can't be traced on an input of 1×8×8"),
        (7, "train: {epochs: 1", "studies/s.yaml:8: broken YAML: "),
    ],
    ids=["model that can't be traced", "broken YAML"],
)
def test_a_real_process_says_it_in_one_line_too(line, text, told, tmp_path):
    write_sound_files(tmp_path)
    (tmp_path / "branching.py").write_text(BRANCHING)
    (tmp_path / "studies" / "s.yaml").write_text(changed(line, text))
    done = prunenas(tmp_path, "run", "studies/s.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    (said,) = done.stderr.splitlines()
    assert said.startswith(f"error: {told}")


@pytest.mark.slow
def test_an_unreachable_tracking_server_is_one_warning_and_the_study_runs_on(tmp_path):
    write_study(tmp_path, trials=2, epochs=1)
    done = prunenas(tmp_path, "run", "tiny.yaml", "--tracking", "http://127.0.0.1:9")
    assert done.returncode == 0
    warning, hint = done.stderr.splitlines()
    assert warning.startswith("warning: tracking: no tracking server answers at http://127.0.0.1:9")
    assert "`prunenas track tiny`" in warning
    assert hint == "export one: prunenas export tiny exports"
    assert "tiny: finished, 2 complete" in done.stdout
    assert prunenas(tmp_path, "track", "tiny").stderr == "tiny: 2 trials written\n"


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
