"""Two thousand damaged exports: each loads as it says, or is refused in one line."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import exporting
import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    root = tmp_path_factory.mktemp("fuzz")
    small = exporting.space().fit(flops_ratio=0.5)
    short = replace(
        exporting.space("resnet20", 3, 8, 8).fit(flops_ratio=0.5),
        removed={"stage1.1": tuple(f"stage1.1.{n}" for n in ("conv1", "bn1", "conv2", "bn2"))},
    )
    narrow = exporting.space("torchvision/resnet18", 3, 32, 32).architecture(0.05)
    for name, architecture, weights in (
        ("small", small, exporting.trained(small)),
        ("short", exporting.counted(short), None),
        ("narrow", narrow, None),
        ("selecting", exporting.selecting(), None),
    ):
        exporting.export(root / "bases" / name, architecture, weights=weights)
    return root


def fuzz(root: Path, examples: int) -> None:
    for name in ("home", "work"):
        (root / name).mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", HERE / "fuzzing.py", root, str(examples)],
        capture_output=True,
        text=True,
        cwd=root / "work",
        env=os.environ
        | {"HOME": str(root / "home"), "HYPOTHESIS_STORAGE_DIRECTORY": str(root / "hypothesis")}
        | {"PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["failures"] == []
    assert told["calls"] == []
    assert told["tried"] >= 2 * examples
    assert told["loaded"] >= told["tried"] // 20  # provenance may say anything, for one
    assert told["grown_mib"] < 1024
    assert list((root / "work").iterdir()) == []
    assert list((root / "home").iterdir()) == []


def test_a_hundred_damaged_exports(bases):
    fuzz(bases, 50)


@pytest.mark.slow
def test_two_thousand_damaged_exports(bases):
    fuzz(bases, 1000)
