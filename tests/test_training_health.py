"""Trainings that can't go on say why, and say it early."""

import pytest
import torch
from torch import Tensor, nn
from training_digits import digits, small_network

from prunenas.errors import TrainingError
from prunenas.training import Recipe, evaluate, train

DATA = digits(193, 64)
RECIPE = Recipe(epochs=2, batch_size=64)


class Counted(nn.Module):
    """A linear network whose logits turn bad at some forward pass in train or eval mode."""

    def __init__(self, bad: float, *, at: int, training: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)
        self.bad, self.at, self.when, self.calls = bad, at, training, 0

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x.flatten(1))
        if self.training == self.when:
            self.calls += 1
            if self.calls == self.at:
                logits = logits * self.bad
        return logits


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_training_soon(bad: float) -> None:
    network = Counted(bad, at=3)
    data = digits(1500, 64)
    with pytest.raises(TrainingError, match=r"in epoch 1 at learning rate 0\.1$") as caught:
        train(network, data, Recipe(epochs=2, batch_size=4), seed=0)
    assert caught.value.reason == "non-finite loss"
    assert network.calls <= 50  # of 375 in the epoch


def test_the_last_batch_is_looked_at_too() -> None:
    with pytest.raises(TrainingError) as caught:
        train(Counted(float("nan"), at=3), DATA, RECIPE, epochs=1, seed=0)
    assert caught.value.reason == "non-finite loss"


def test_a_validation_loss_that_is_not_finite_counts() -> None:
    with pytest.raises(TrainingError) as caught:
        train(Counted(float("nan"), at=1, training=False), DATA, RECIPE, seed=0)
    assert caught.value.reason == "non-finite loss"


def test_a_learning_rate_that_explodes() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    with pytest.raises(TrainingError) as caught:
        train(network, DATA, RECIPE.model_copy(update={"lr": 1e20}), epochs=5, seed=0)
    assert caught.value.reason == "non-finite loss"


def test_a_network_whose_rectifiers_are_all_off_is_dead() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    with torch.no_grad():
        network[1].bias.fill_(-1e4)
    heard: list[object] = []
    with pytest.raises(TrainingError, match=r"no gradient reaches 1\.weight") as caught:
        train(network, DATA, RECIPE, seed=0, report=heard.append)
    assert caught.value.reason == "dead network"
    assert not heard  # after the first epoch


def test_a_convolutional_network_can_die_too() -> None:
    network = small_network()
    with torch.no_grad():
        network[5].bias.fill_(-1e6)
    with pytest.raises(TrainingError) as caught:
        train(network, DATA, RECIPE, seed=0)
    assert caught.value.reason == "dead network"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_slow_start_is_not_death(precision: str) -> None:
    """Logits equal to rounding, but gradients that can still move every weight."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    with torch.no_grad():
        network[3].weight.mul_(1e-9)
        network[3].bias.copy_(torch.linspace(1, 2, 10))
    recipe = Recipe.model_validate({"epochs": 2, "lr": 1e-12, "precision": precision})
    training = train(network, DATA, recipe, seed=0)
    assert len(training.curve) == 2
    assert network.training
    assert all(p.grad is None for p in network.parameters())


def test_asking_whether_a_network_is_alive_changes_nothing() -> None:
    slow = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10))
    with torch.no_grad():
        slow[2].weight.mul_(1e-9)
        slow[2].bias.fill_(1.0)
    train(slow, DATA, Recipe(epochs=1, lr=1e-12, batch_size=64), seed=0)
    assert int(slow[1].num_batches_tracked) == 3


class Greedy(nn.Module):
    """Asks the allocator for more than there is."""

    def __init__(self, *, training: bool) -> None:
        super().__init__()
        self.linear, self.when = nn.Linear(64, 10), training

    def forward(self, x: Tensor) -> Tensor:
        if self.training == self.when:
            torch.empty(2**55, dtype=torch.uint8)
        logits: Tensor = self.linear(x.flatten(1))
        return logits


@pytest.mark.parametrize("training", [True, False])
def test_running_out_of_memory_is_a_training_error(training: bool) -> None:
    with pytest.raises(TrainingError, match="doesn't fit into cpu's memory") as caught:
        train(Greedy(training=training), DATA, RECIPE, seed=0)
    assert caught.value.reason == "out of memory"
    assert "\n" not in str(caught.value)
    assert caught.value.__context__ is None  # the traceback would hold the activations


def test_evaluate_runs_out_of_memory_the_same_way() -> None:
    with pytest.raises(TrainingError) as caught:
        evaluate(Greedy(training=False).eval(), DATA.validation)
    assert caught.value.reason == "out of memory"


def test_other_errors_come_through_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        train(nn.Sequential(nn.Flatten(), nn.Linear(63, 10)), DATA, RECIPE, seed=0)


@pytest.mark.parametrize(
    ("network", "found"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 9)), r"\(64, 10\), but answers \(64, 9\)"),
        (nn.Conv2d(1, 10, 3), r"answers \(64, 10, 6, 6\)"),
    ],
)
def test_outputs_that_are_not_logits_are_refused(network: nn.Module, found: str) -> None:
    with pytest.raises(TrainingError, match=found) as caught:
        train(network, DATA, RECIPE, seed=0)
    assert caught.value.reason == "unusable network"


def test_float16_on_a_cpu_is_refused_with_what_works() -> None:
    recipe = RECIPE.model_copy(update={"precision": "float16"})
    with pytest.raises(TrainingError, match="Known for a CPU: auto, bfloat16, float32"):
        train(small_network(), DATA, recipe, seed=0)
