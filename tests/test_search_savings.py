"""What sharing trainings saves a whole study; `pytest -m slow -s` prints the figures."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_studies import NOWHERE

from prunenas.search import StudyView, run_study
from prunenas.spec import load_study

TEXT = """\
name: {name}
model: {{name: vgg_mini}}
data: {{name: digits, train_limit: 400}}
methods:
  - name: l1_norm
    space: {{widths: {{per: stage, ratio: {{low: 0.25, high: 1.0, step: 0.25}}}}}}
objective: {{maximize: accuracy, minimize: flops}}
train: {{epochs: 3, batch_size: 64, lr: 0.05}}
search: {{sampler: {sampler}, trials: {trials}, seed: {seed}}}
"""

Done = tuple[StudyView, int, tuple[float, float]]
Study = Callable[..., Done]


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """Runs a study in a storage of its own: its view, steps of SGD, seconds of CPU and wall."""
    monkeypatch.chdir(tmp_path)
    steps = [0]
    step = torch.optim.SGD.step

    def counted(self: torch.optim.SGD, *arguments: Any, **named: Any) -> Any:
        steps[0] += 1
        return step(self, *arguments, **named)

    monkeypatch.setattr(torch.optim.SGD, "step", counted)

    def run(name: str, sampler: str, seed: int, *, trials: int = 40, **options: Any) -> Done:
        path = tmp_path / "study.yaml"
        path.write_text(TEXT.format(name=name, sampler=sampler, seed=seed, trials=trials))
        before, cpu, wall = steps[0], time.process_time(), time.monotonic()
        storage = f"sqlite:///{name}.db"
        view = run_study(
            load_study(path), storage=storage, tracking=NOWHERE, device="cpu", **options
        )
        took = time.process_time() - cpu, time.monotonic() - wall
        return view, steps[0] - before, took

    return run


def ratios(one: tuple[float, float], other: tuple[float, float]) -> str:
    return " and ".join(f"{a / b:.3f}" for a, b in zip(one, other, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_forty_trials_with_and_without_shared_trainings(study: Study, seed: int) -> None:
    def off() -> Done:
        return study("off", "tpe", seed, cache="off")

    def on() -> Done:
        return study("on", "tpe", seed, cache="shared")

    study("warm", "random", 9, trials=2, cache="off")  # imports, tables, the machine itself
    (alone, all_steps, slow), (view, steps, fast) = (
        (off(), on()) if seed % 2 else (on(), off())[::-1]
    )
    assert [(r.digest, r.accuracy, r.curve) for r in view.records] == [
        (r.digest, r.accuracy, r.curve) for r in alone.records
    ]
    assert [r.number for r in view.front] == [r.number for r in alone.front]
    assert view.counts == alone.counts == {"complete": 40}
    different = len({record.digest for record in view.records})
    assert all_steps % 40 == 0
    assert steps == all_steps * different // 40
    later, later_steps, later_time = study("later", "nsga2", seed, cache="shared")
    known = {record.digest for record in view.records}
    new = {record.digest for record in later.records} - known
    assert later_steps == all_steps * len(new) // 40
    print(
        f"\nseed {seed}: {different} different of 40, {1 - steps / all_steps:.1%} of epochs saved, "
        f"CPU and wall time x {ratios(fast, slow)}; a second study: {len(new)} new architectures, "
        f"{1 - later_steps / all_steps:.1%} of epochs saved, x {ratios(later_time, slow)}"
    )
