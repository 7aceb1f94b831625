"""``prunenas latency``, and a small copy of the committed study behind it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from prunenas.architectures import describe
from prunenas.cli import main

ROOT = Path(__file__).parent.parent
FEW = ["--rounds", "5", "--warmup", "1"]
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


def test_a_model_beside_itself_and_another(run: Run) -> None:
    code, out, err = run("latency", "lenet5", "lenet5", "vgg_mini", *FEW, "--json")
    assert (code, err) == (0, "")
    first, second, other = json.loads(out)
    assert [each["name"] for each in (first, second, other)] == ["lenet5", "lenet5", "vgg_mini"]
    assert second["latency"] == first["latency"]  # equal networks have one figure
    assert first["flops_ratio"] == first["latency_ratio"] == 1
    assert first["flops"] == 2_293_000  # the paper's
    assert first["latency"]["protocol"]["rounds"] == 5
    low, median, high = (other["latency"][key] for key in ("low", "median", "high"))
    assert low <= median <= high
    assert other["latency_ratio"] == median / first["latency"]["median"]
    assert other["flops_ratio"] == other["flops"] / first["flops"]


def test_a_table_says_how_it_was_measured(run: Run) -> None:
    code, out, _ = run("latency", "lenet5", "--batch", "2", *FEW)
    assert code == 0
    assert "torch on cpu, 1 thread, batch 2, median of 5" in out
    assert "2.29 M" in out
    assert "83.8 kB" in out


@pytest.mark.parametrize("name", ["picture.png", "picture.svg"])
def test_a_picture(run: Run, tmp_path: Path, name: str) -> None:
    code, _, err = run("latency", "lenet5", "vgg_mini", *FEW, "--plot", name)
    assert (code, err) == (0, "")
    head = {"png": b"\x89PNG", "svg": b"<?xml"}[name[-3:]]
    assert (tmp_path / name).read_bytes().startswith(head)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nothing"], "nor is it an architecture, an export or a study"),
        (["lenet5", "--runtime", "tpu"], "unknown runtime 'tpu'. Known: onnxruntime, torch"),
        (["lenet5", "--trial", "1"], "a trial is of a study: name one"),
        (["lenet5", "--device", "cuda:99"], "device 'cuda:99' can't be used here"),
        (["lenet5", "--plot", "x.pdf"], "unknown picture format 'pdf'. Known: png, svg"),
        (["lenet5", "--runtime", "torch", "--runtime", "onnxruntime", "--plot", "x.png"],
         "a picture is of one runtime, but there are 2"),
        (["lenet5", "--runtime", "onnxruntime", "--device", "cuda"],
         "onnxruntime measures on the CPU, not on cuda"),
        (["lenet5", "--plot", "missing/x.png", *FEW], "missing/x.png can't be written"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(run: Run, words: list[str], told: str) -> None:
    code, out, err = run("latency", *words)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert told in err


def small_copy(folder: Path) -> Path:
    """The committed study on digits, with three trials."""
    plain: dict[str, Any] = yaml.safe_load((ROOT / "studies" / "latency.yaml").read_text())
    plain["data"] = {"name": "digits", "train_limit": 200}
    plain["train"]["epochs"] = 1
    plain["search"] |= {"trials": 3, "starts": False}
    plain["latency"] |= {"rounds": 5, "warmup": 1}
    (folder / "search_spaces").mkdir()
    space = ROOT / "search_spaces" / "per_layer.yaml"
    (folder / "search_spaces" / "per_layer.yaml").write_text(space.read_text())
    path = folder / "latency.yaml"
    path.write_text(yaml.safe_dump(plain))
    return path


@pytest.mark.slow
def test_the_committed_study_in_small(run: Run, tmp_path: Path) -> None:
    code, out, err = run("run", str(small_copy(tmp_path)), "--device", "cpu")
    assert code == 0, err
    code, out, _ = run("best", "latency", "--json")
    assert code == 0
    told = json.loads(out)
    assert told["objective"]["minimize"] == ["flops", "latency_ms"]
    assert told["dense"]["latency"]["protocol"]["rounds"] == 5
    front = told["front"]
    assert front
    assert all(each["latency"]["median"] > 0 for each in front)
    code, out, _ = run("best", "latency")
    assert "accuracy ↑ FLOPs ↓ latency ↓" in out
    code, out, _ = run("latency", "latency", *FEW, "--json")
    assert code == 0
    rows = json.loads(out)
    assert [row["name"] for row in rows] == [
        "latency (dense)",
        *(f"latency/{each['number']}" for each in front),
    ]
    assert rows[0]["flops"] == told["dense"]["flops"]
    code, out, err = run("latency", "latency", "--trial", str(front[0]["number"]), *FEW)
    assert (code, err) == (0, "")


def test_a_papers_architecture_is_found_by_its_name(run: Run) -> None:
    code, out, _ = run("latency", "resnet56-b", "--rounds", "4", "--warmup", "0", "--json")
    assert code == 0
    (row,) = json.loads(out)
    assert row["method"] == "paper"
    assert describe("resnet56-b").model == "resnet56"
    assert row["flops"] < 125_000_000  # of the dense network
