"""An export that does not load as the network it claims is never there."""

import json
import os
import signal
import sys
from pathlib import Path

import exporting
import pytest
import torch

from prunenas.architecture import Architecture, trace
from prunenas.errors import ExportError
from prunenas.export import Verifier, probe, verification
from prunenas.export import folder as folders


@pytest.fixture(scope="module")
def architecture():
    return exporting.space().fit(flops_ratio=0.5)


def refused(tmp_path: Path, architecture: Architecture, match: str, **changes: object) -> str:
    """The one line that an export ends with; nothing may be left of it."""
    with pytest.raises(ExportError, match=match) as caught:
        exporting.export(tmp_path / "bad", architecture, **changes)
    assert list(tmp_path.glob("*bad*")) == []
    assert str(tmp_path / "bad") in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def loader(monkeypatch, change):
    """Let exports be written with another modeling.py."""
    original = folders.modeling
    monkeypatch.setattr(folders, "modeling", lambda chosen: change(original(chosen)))


def test_a_loader_that_imports_prunenas_is_refused(tmp_path, architecture, monkeypatch):
    loader(monkeypatch, lambda text: text.replace("import torch\n", "import prunenas, torch\n", 1))
    refused(tmp_path, architecture, "ModuleNotFoundError: No module named 'prunenas'")


def test_a_loader_that_fails_is_told_in_one_line(tmp_path, architecture, monkeypatch):
    loader(monkeypatch, lambda text: text.replace("import json", "raise OSError('no\\nway')", 1))
    refused(tmp_path, architecture, "does not load in a fresh process: OSError: no way")


def test_other_outputs_are_refused(tmp_path, architecture, monkeypatch):
    loader(monkeypatch, lambda text: text.replace("nn.ReLU(inplace=True)", "nn.ReLU6()"))
    refused(
        tmp_path,
        architecture,
        r"outputs of modeling\.py must lie within 1e-05 of the network's, but differ by",
        weights={name: 3 * value for name, value in exporting.trained(architecture).items()},
    )


def test_another_convolution_is_refused_by_its_flops(tmp_path, architecture, monkeypatch):
    loader(monkeypatch, lambda text: text.replace("step, 3, padding=1", "step, 3, padding=2"))
    refused(tmp_path, architecture, "flops must be what fvcore counts, ")


def test_params_that_are_not_the_networks_are_refused(tmp_path, architecture):
    wrong = Architecture.from_dict({**architecture.to_dict(), "params": architecture.params + 1})
    refused(tmp_path, wrong, f"params in a fresh process must be {wrong.params}, but are")


def test_a_process_that_dies_is_told_and_the_next_export_is_written(
    tmp_path, architecture, monkeypatch
):
    with monkeypatch.context() as patch:
        loader(patch, lambda text: text.replace("import json", "import os; os._exit(9)", 1))
        refused(tmp_path, architecture, "the fresh process that loads it died: exit status 9")
    exporting.export(tmp_path / "good", architecture)


def test_a_process_that_never_answers_is_ended(tmp_path, architecture, monkeypatch):
    loader(monkeypatch, lambda text: text.replace("import json", "import time; time.sleep(60)", 1))
    with Verifier(timeout=0.5) as impatient:
        refused(tmp_path, architecture, "must load it within 0.5 s", verifier=impatient)
        assert impatient._process is None


def test_the_process_ends_with_its_context(tmp_path, architecture):
    with Verifier() as mine:
        exporting.export(tmp_path / "one", architecture, verifier=mine)
        process = mine._process
        exporting.export(tmp_path / "two", architecture, verifier=mine)
        assert mine._process is process
    assert process is not None
    assert process.returncode == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def test_modules_of_one_export_are_not_left_for_the_next(tmp_path, monkeypatch):
    code = (
        "from torch import nn\n"
        "def make(): return nn.Sequential(nn.Flatten(), nn.Linear({}, 3), nn.Linear(3, 2))\n"
    )
    for side in (2, 3):
        folder = tmp_path / str(side)
        folder.mkdir()
        (folder / "same_name.py").write_text(code.format(side * side))
        with monkeypatch.context() as patch:
            patch.syspath_prepend(folder)
            space = trace("same_name:make", input_shape=(1, side, side))
            exporting.export(folder / "export", space.dense)
        del sys.modules["same_name"]


def test_differences_are_shares_of_the_largest_output():
    expected = [torch.tensor([0.0, 200.0])]
    assert probe.difference([torch.tensor([1.0, 200.0])], expected) == pytest.approx(0.005)
    endless = [torch.tensor([float("inf"), 1.0])]
    assert probe.difference(endless, endless) == 0
    assert probe.difference(expected, endless) == float("inf")
    with pytest.raises(ValueError, match="outputs have shapes"):
        probe.difference([torch.zeros(1, 2)], expected)
    nested = {"logits": torch.zeros(1), "rest": (torch.ones(1), None)}
    assert [float(each) for each in probe.tensors(nested)] == [0.0, 1.0]


def test_the_config_states_the_tolerances(tmp_path, architecture):
    folder = exporting.export(tmp_path / "best", architecture)
    config = json.loads((folder / "config.json").read_text())
    assert config["tolerance"] == {"modeling.py": 1e-5}
    assert config["tolerance_unit"] == verification.TOLERANCE_UNIT
