"""A real study on the command line: interrupted, resumed in a terminal, looked at, exported."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import time

import pytest
import tracked

from prunenas.cli import main

pty = pytest.importorskip("pty", reason="the live view needs a terminal of POSIX")

STUDY = """\
# Three trials on tiny digits.
name: tiny
model: {name: vgg_mini}
data: {name: digits, train_limit: 200}
methods: [{name: uniform, space: {method: {ratio: {low: 0.1, high: 0.9}}}}]
objective: {maximize: accuracy, minimize: flops}
train: {epochs: 2, batch_size: 50, lr: 0.05}
search: {sampler: random, trials: 3, seed: 0}
"""
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "CI"}
RUN = [sys.executable, "-m", "prunenas", "run", "tiny.yaml"]


def interrupt_after_a_trial(folder):
    """Run the study in a pipe until its first trial is complete, then press Ctrl-C."""
    process = subprocess.Popen(
        RUN, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder, env=ENVIRONMENT
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if line.startswith("trial 0: complete"):
            process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    return process.returncode, lines, error


def run_in_a_terminal(folder):
    """Run the study in a pseudo-terminal; return its exit code and all that was drawn."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        RUN,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=folder,
        env={**ENVIRONMENT, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"},
    )
    os.close(theirs)
    drawn, deadline = b"", time.monotonic() + 120
    while time.monotonic() < deadline:
        if select.select([ours], [], [], 1.0)[0]:
            try:
                piece = os.read(ours, 65_536)
            except OSError:  # Linux says so when the other side is closed
                break
            if not piece:
                break
            drawn += piece
    os.close(ours)
    return process.wait(timeout=30), drawn.decode()


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    (folder / "tiny.yaml").write_text(STUDY)
    (folder / "mlflow.db").write_bytes(tracked.fresh_database())
    interrupted = interrupt_after_a_trial(folder)
    resumed = run_in_a_terminal(folder)
    return folder, interrupted, resumed


@pytest.fixture
def folder(story, monkeypatch):
    monkeypatch.chdir(story[0])
    return story[0]


def told(capsys, *arguments):
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(story):
    code, lines, error = story[1]
    assert code == 130
    assert error == ("interrupted: finished trials are kept, go on with `prunenas run tiny.yaml`\n")
    assert lines[0] == "tiny: 3 trials over 4 channel groups, dense network 305 k FLOPs"
    assert lines[1].startswith("trial 0: uniform, ")
    assert lines[2].startswith("trial 0: epoch 1/2, accuracy ")
    assert "\x1b" not in "".join(lines)


def test_the_live_view_goes_on_to_the_exact_number_of_trials(story):
    code, drawn = story[2]
    assert code == 0
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", drawn)
    assert "tiny · accuracy ↑ FLOPs ↓ · sqlite:///.prunenas/studies.db" in text
    assert "preparing" in text
    assert "✓" in text
    assert "3/3 trials finished" in text
    assert "Traceback" not in text
    assert "export one: prunenas export tiny exports" in text


def test_status_and_best_agree_with_each_other(folder, capsys):
    (listed,) = told(capsys, "status")
    status = told(capsys, "status", "tiny")
    assert listed == status
    assert status["trials"] == {"total": 3, "done": 3, "by_state": {"complete": 3}, "reused": 0}
    assert status["finished"] is True
    best = told(capsys, "best", "tiny")
    assert best["best_accuracy"] == max(record["accuracy"] for record in best["front"])
    for one in best["front"]:  # none beats another, recomputed
        assert not any(
            other["accuracy"] >= one["accuracy"] and other["flops"] < one["flops"]
            for other in best["front"]
        )
    assert main(["best", "tiny"]) == 0
    shown = capsys.readouterr().out
    assert all(f"{record['accuracy']:.4f}" in shown for record in best["front"])
    assert "dense network" in shown
    assert main(["status", "tiny"]) == 0
    assert "3/3" in capsys.readouterr().out


def test_a_finished_study_runs_nothing_more(folder, capsys):
    before = told(capsys, "best", "tiny")
    assert main(["run", "tiny.yaml"]) == 0
    assert "trial" not in capsys.readouterr().out.split("finished")[0].split("resumed")[1]
    assert told(capsys, "best", "tiny") == before


def test_the_best_architecture_leaves_with_its_weights(folder, tmp_path, capsys):
    out = tmp_path / "exports"
    assert main(["export", "tiny", str(out), "--weights"]) == 0
    best = told(capsys, "best", "tiny") if capsys.readouterr() else {}
    config = json.loads((out / "best" / "config.json").read_text())
    assert config["provenance"]["accuracy"] == best["best_accuracy"]
    assert config["provenance"]["study"] == "tiny"
    code = (
        "import sys, prunenas\n"
        "from prunenas.data import load\n"
        "from prunenas.training import evaluate\n"
        "data = load('digits', train_limit=200)\n"
        "network = prunenas.load(sys.argv[1])\n"
        "print(prunenas.count_flops(network, data.input_shape))\n"
        "print(evaluate(network, data.validation).accuracy)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(out / "best")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    flops, accuracy = done.stdout.split()
    assert int(flops) == config["flops"]
    assert float(accuracy) == best["best_accuracy"]


def test_exports_are_named_after_what_chose_them(folder, tmp_path, capsys):
    front = told(capsys, "best", "tiny")["front"]
    records = {record["number"]: record for record in front}
    out = str(tmp_path)
    assert {e["folder"] for e in told(capsys, "export", "tiny", out, "--all")} == {
        f"{out}/trial_{number}" for number in records
    }
    least = min(front, key=lambda record: record["flops"])
    share = f"{least['flops_ratio'] + 0.001:.3f}"
    (small,) = told(capsys, "export", "tiny", out, "--flops-ratio", share)
    assert small["trial"] == least["number"]
    assert small["folder"] == f"{out}/best_{float(share):g}"
    two = told(capsys, "export", "tiny", f"{out}/two", "--trial", "0", "--trial", "2")
    assert [export["trial"] for export in two] == [0, 2]


def test_an_export_that_is_there_already_stays(folder, tmp_path, capsys):
    arguments = ["export", "tiny", str(tmp_path)]
    assert main(arguments) == 0
    assert main(arguments) == 2
    assert "--replace" in capsys.readouterr().err
    assert main([*arguments, "--replace"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["best", "tny"], "unknown study 'tny' (did you mean 'tiny'?). Known: tiny"),
        (["export", "tiny", "out", "--trial", "9"], "has no trial 9. Complete: 0, 1, 2"),
        (
            ["export", "tiny", "out", "--flops-ratio", "0.0001"],
            "of the dense FLOPs; the smallest has 0.",
        ),
        (["best", "tiny", "--storage", "sqlite:///no.db"], "no.db does not exist"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(folder, arguments, message, capsys):
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_tracking_has_missed_nothing(folder, capsys):
    assert main(["track", "tiny"]) == 0
    assert capsys.readouterr().err == "tiny: 0 trials written\n"
    assert main(["track", "tiny", "--tracking", "sqlite:///later.db"]) == 0
    assert capsys.readouterr().err == "tiny: 3 trials written\n"
