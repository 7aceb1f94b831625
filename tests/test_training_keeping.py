"""Checkpoints are written by elapsed time, and always where a training ends early."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from training_digits import digits, same_state, small_network

from prunenas.training import EpochMetrics, Metrics, Recipe, keeping, train
from prunenas.training.checkpoint import Checkpoint
from prunenas.training.keeping import Keeper, due

DATA = digits(129, 32)
RECIPE = Recipe(epochs=6, batch_size=64, momentum=0.9, lr=0.05)
FIGURES = Metrics(loss=1.0, accuracy=0.5)


def curve(*seconds: float) -> tuple[EpochMetrics, ...]:
    return tuple(
        EpochMetrics(index + 1, FIGURES, FIGURES, 0.1, taken) for index, taken in enumerate(seconds)
    )


@pytest.mark.parametrize(
    ("seconds", "written", "cost", "expected"),
    [
        ((2.0, 2.0), 0, 0.0, False),  # nothing is worth a checkpoint before five seconds
        ((2.0, 2.0, 2.0), 0, 0.0, True),
        ((2.0, 2.0, 2.0), 1, 0.0, False),  # of which two are on disk
        ((9.0,), 0, 0.2, False),  # at 0.2 s a writing, ten seconds are 2 %
        ((11.0,), 0, 0.2, True),
        ((100.0, 9.0), 1, 0.2, False),
        ((0.5,), 1, 0.0, False),
    ],
)
def test_a_checkpoint_is_due_where_it_costs_little(
    seconds: tuple[float, ...], written: int, cost: float, expected: bool
) -> None:
    assert due(curve(*seconds), written, cost) is expected


@pytest.fixture
def writings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many epochs each checkpoint held that was written."""
    held: list[int] = []
    write = Checkpoint.write

    def counting(self: Checkpoint, *arguments: Any, **named: Any) -> None:
        held.append(len(self.curve))
        write(self, *arguments, **named)

    monkeypatch.setattr(Checkpoint, "write", counting)
    return held


def state(network: nn.Module, *seconds: float) -> Checkpoint:
    return Checkpoint(network.state_dict(), {"state": {}}, {}, curve(*seconds), {})


def test_writing_takes_its_share_of_a_long_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writings: list[int]
) -> None:
    """Epochs of two seconds, and a disk that takes a quarter of one, on a clock of the test's."""
    now = [0.0]
    slow = Checkpoint.write

    def takes(self: Checkpoint, *arguments: Any, **named: Any) -> None:
        slow(self, *arguments, **named)
        now[0] += 0.25

    monkeypatch.setattr(Checkpoint, "write", takes)
    monkeypatch.setattr("prunenas.training.keeping.time.perf_counter", lambda: now[0])
    network = small_network()
    keeper = Keeper(tmp_path / "a.pt", dict)
    for epoch in range(1, 101):
        keeper.take(state(network, *[2.0] * epoch), last=False)
    assert writings[:3] == [3, 10, 17]  # after 5 s; then 12.5 s are a fiftieth
    assert 0.25 * len(writings) <= keeping.SHARE * 200.0 + 0.25
    assert {later - earlier for earlier, later in pairwise(writings)} == {7}


def test_a_short_training_writes_nothing(tmp_path: Path, writings: list[int]) -> None:
    train(small_network(), DATA, RECIPE, seed=0, checkpoint=tmp_path / "a.pt")
    assert writings == []
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("answer", ["stop", KeyboardInterrupt, RuntimeError])
def test_what_ends_early_is_written_once_at_its_last_epoch(
    tmp_path: Path, writings: list[int], answer: str | type[BaseException]
) -> None:
    whole, network = small_network(), small_network(seed=1)
    expected = train(whole, DATA, RECIPE, seed=0)

    def report(metrics: EpochMetrics) -> str | None:
        if metrics.epoch < 4:
            return None
        if isinstance(answer, str):
            return answer
        raise answer

    def begin() -> None:
        train(small_network(), DATA, RECIPE, seed=0, report=report, checkpoint=tmp_path / "a.pt")

    if isinstance(answer, str):
        begin()
    else:
        with pytest.raises(answer):
            begin()
    assert writings == [4]
    training = train(network, DATA, RECIPE, seed=0, checkpoint=tmp_path / "a.pt")
    assert writings == [4]
    assert same_state(whole, network)
    assert [epoch.train for epoch in training.curve] == [epoch.train for epoch in expected.curve]


def filled(network: nn.Module, value: float) -> nn.Module:
    with torch.no_grad():
        for weight in network.parameters():
            weight.fill_(value)
    return network


def found(path: Path) -> tuple[int, set[float]]:
    """Epochs of a checkpoint, and all weights of its first layer."""
    checkpoint = Checkpoint.read(path, identity={}, device=torch.device("cpu"))
    assert checkpoint is not None
    return len(checkpoint.curve), set(checkpoint.network["0.weight"].flatten().tolist())


def test_a_copy_is_not_touched_by_what_is_trained_on(tmp_path: Path, writings: list[int]) -> None:
    network = small_network()
    keeper = Keeper(tmp_path / "a.pt", dict)

    def epochs() -> None:
        with keeper.watching():
            keeper.take(state(filled(network, 1.0), 0.1), last=False)
            keeper.take(state(filled(network, 2.0), 0.1, 0.1), last=False)
            filled(network, 3.0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        epochs()
    assert writings == [2]
    assert found(tmp_path / "a.pt") == (2, {2.0})


def test_a_state_is_kept_even_if_copying_it_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second copy goes where the first was, and stops half-way."""
    network = small_network()
    keeper = Keeper(tmp_path / "a.pt", dict)
    copies: list[int] = []
    copy = torch.Tensor.copy_

    def half(self: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        copies.append(self.numel())
        if len(copies) == 3:
            raise KeyboardInterrupt
        return copy(self, other)

    def epochs() -> None:
        with keeper.watching():
            keeper.take(state(filled(network, 1.0), 0.1), last=False)
            filled(network, 2.0)
            monkeypatch.setattr(torch.Tensor, "copy_", half)
            keeper.take(state(network, 0.1, 0.1), last=False)

    with pytest.raises(KeyboardInterrupt):
        epochs()
    monkeypatch.undo()
    assert len(copies) == 3
    assert found(tmp_path / "a.pt") == (2, {2.0})


def test_a_full_disk_does_not_hide_what_ended_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Checkpoint, *_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    def interrupt(metrics: EpochMetrics) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "write", full)
    with pytest.raises(KeyboardInterrupt):
        train(small_network(), DATA, RECIPE, seed=0, report=interrupt, checkpoint=tmp_path / "a.pt")


def test_what_is_found_on_disk_is_not_written_again(tmp_path: Path, writings: list[int]) -> None:

    def stop(metrics: EpochMetrics) -> str | None:
        return "stop" if metrics.epoch == 2 else None

    train(small_network(), DATA, RECIPE, seed=0, report=stop, checkpoint=tmp_path / "a.pt")
    train(small_network(), DATA, RECIPE, seed=0, report=stop, checkpoint=tmp_path / "a.pt")
    assert writings == [2]
