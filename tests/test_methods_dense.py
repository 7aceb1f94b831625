"""The dense network is trained once, from where it stopped, under everything it depends on."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from methods_networks import RECIPE, dense, digits, space
from torch import Tensor, nn

from prunenas.architecture import build
from prunenas.data import Split
from prunenas.errors import MethodError
from prunenas.methods import Dense
from prunenas.training import EpochMetrics, evaluate


def test_it_is_trained_once_and_read_ever_after(tmp_path: Path) -> None:
    told: list[tuple[str, int]] = []

    def report(what: str, metrics: EpochMetrics) -> None:
        told.append((what, metrics.epoch))

    state = dense("grouped", tmp_path, report=report).state()
    again = dense("grouped", tmp_path, report=report).state()
    assert told == [("dense network", 1)]
    assert state.keys() == again.keys()
    assert all(torch.equal(state[name], again[name]) for name in state)


def test_its_accuracy_is_what_its_weights_show(tmp_path: Path) -> None:
    source = dense("grouped", tmp_path)
    assert source.accuracy() is None
    network = build(source.space.dense, trust=True)
    network.load_state_dict(source.state())
    metrics = evaluate(network, digits().validation)
    assert source.accuracy() == pytest.approx(metrics.accuracy, abs=1e-9)
    assert source.train().validation.loss == pytest.approx(metrics.loss, rel=1e-5)


@pytest.mark.parametrize(
    ("seed", "epochs", "network"), [(1, 1, "grouped"), (0, 2, "grouped"), (0, 1, "half_normed")]
)
def test_another_seed_recipe_or_network_is_another_training(
    seed: int, epochs: int, network: str, tmp_path: Path
) -> None:
    dense("grouped", tmp_path).state()
    told: list[str] = []
    recipe = RECIPE.model_copy(update={"epochs": epochs})
    dense(
        network, tmp_path, recipe=recipe, seed=seed, report=lambda what, metrics: told.append(what)
    ).state()
    assert len(told) == epochs


def test_other_data_is_another_training(tmp_path: Path) -> None:
    source = dense("grouped", tmp_path)
    source.state()
    elsewhere = replace(source, data=replace(digits(), digest="of other images"))
    assert source.accuracy() is not None
    assert elsewhere.accuracy() is None


def test_the_retraining_protocol_makes_no_other_dense_network(tmp_path: Path) -> None:
    dense("grouped", tmp_path).state()
    told: list[str] = []
    recipe = RECIPE.model_copy(update={"protocol": "scratch_b"})
    dense(
        "grouped", tmp_path, recipe=recipe, report=lambda what, metrics: told.append(what)
    ).state()
    assert told == []


@dataclass
class Counted:
    """A split that remembers which epochs were drawn from it."""

    split: Split
    drawn: list[int]

    def __len__(self) -> int:
        return len(self.split)

    def batches(
        self, batch_size: int, *, seed: int | None = None, epoch: int = 0, augment: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        self.drawn.append(epoch)
        return self.split.batches(batch_size, seed=seed, epoch=epoch, augment=augment)


def test_an_interrupted_training_goes_on_where_it_stopped(tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(update={"epochs": 3})

    def interrupt(what: str, metrics: EpochMetrics) -> None:
        if metrics.epoch == 2:
            raise KeyboardInterrupt

    drawn: list[int] = []
    data = replace(digits(), train=Counted(digits().train, drawn))
    broken = replace(dense("grouped", tmp_path / "broken", recipe=recipe), data=data)
    with pytest.raises(KeyboardInterrupt):
        replace(broken, report=interrupt).state()
    resumed = broken.state()
    assert drawn == [0, 1, 2]
    whole = dense("grouped", tmp_path / "whole", recipe=recipe).state()
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    assert not list((tmp_path / "broken").rglob("*.pt"))  # nothing unfinished is left


def test_a_listener_that_answers_stop_does_not_stop_it(tmp_path: Path) -> None:
    epochs: list[int] = []

    def stop(what: str, metrics: EpochMetrics) -> str:
        epochs.append(metrics.epoch)
        return "stop"

    recipe = RECIPE.model_copy(update={"epochs": 2})
    dense("grouped", tmp_path, recipe=recipe, report=stop).state()
    assert epochs == [1, 2]


def test_a_special_training_needs_a_key_and_is_kept_apart(tmp_path: Path) -> None:
    source: Dense = dense("grouped", tmp_path)

    def ones(network: nn.Module) -> None:
        for parameter in network.parameters():
            nn.init.ones_(parameter)

    with pytest.raises(MethodError, match="key"):
        source.train(prepare=ones)
    with pytest.raises(MethodError, match="key"):
        source.train(penalty=lambda network, lr: ones(network))
    special = source.train(prepare=ones, key={"start": "ones"}).state
    plain = source.state()
    assert any(not torch.equal(special[name], plain[name]) for name in plain)
    assert space("grouped").dense.digest == source.space.dense.digest
