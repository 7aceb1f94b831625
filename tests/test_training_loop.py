"""The loop, against a training written out by hand with torch's own parts."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import MultiStepLR
from training_digits import digits, same_state, small_network

from prunenas.errors import TrainingError
from prunenas.training import EpochMetrics, Metrics, Recipe, evaluate, train

DATA = digits()
PLAIN = Recipe(epochs=3, batch_size=64, precision="float32", memory_format="contiguous")


def by_hand(
    network: nn.Module,
    recipe: Recipe,
    *,
    seed: int,
    groups: Callable[[nn.Module], list[dict[str, object]]] | None = None,
    l1: float = 0.0,
) -> list[float]:
    """Milestones at 1 and 2 of 3 epochs; mean training loss per epoch."""
    optimizer = torch.optim.SGD(
        groups(network) if groups else network.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
        foreach=False,
        fused=False,
    )
    scheduler = MultiStepLR(optimizer, [1, 2], gamma=recipe.gamma)
    curve = []
    network.train()
    for epoch in range(recipe.epochs):
        summed, count = 0.0, 0
        for images, labels in DATA.train.batches(recipe.batch_size, seed=seed, epoch=epoch):
            loss = F.cross_entropy(network(images), labels, label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad()
            scales = [m.weight for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
            (loss + l1 * sum(s.abs().sum() for s in scales)).backward()
            optimizer.step()
            summed, count = summed + loss.item() * len(labels), count + len(labels)
        scheduler.step()
        curve.append(summed / count)
    return curve


def vectors_apart(network: nn.Module) -> list[dict[str, object]]:
    """What must not decay, told by the kind of layer."""
    free = [p for m in network.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()]
    free += [m.bias for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    free = [p for p in free if p is not None]
    known = {id(p) for p in free}
    rest = [p for p in network.parameters() if id(p) not in known]
    return [{"params": rest}, {"params": free, "weight_decay": 0.0}]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"nesterov": True, "label_smoothing": 0.1, "lr": 0.05, "gamma": 0.5},
        {"momentum": 0.0, "weight_decay": 0.01},
        {"decay_all": False, "weight_decay": 0.05},
    ],
)
def test_equals_a_training_by_hand(fields: dict[str, object]) -> None:
    recipe = PLAIN.model_validate({**PLAIN.model_dump(), **fields})
    ours, other = small_network(), small_network()
    training = train(ours, DATA, recipe, seed=3)
    groups = None if recipe.decay_all else vectors_apart
    expected = by_hand(other, recipe, seed=3, groups=groups)
    assert [epoch.train.loss for epoch in training.curve] == pytest.approx(expected, rel=1e-5)
    for name, value in other.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-4, atol=1e-5)


def test_penalty_acts_between_gradient_and_step() -> None:
    def subgradient(network: nn.Module, lr: float) -> None:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.weight.grad is not None
                module.weight.grad.add_(0.05 * module.weight.detach().sign())

    ours, other = small_network(), small_network()
    train(ours, DATA, PLAIN, seed=0, penalty=subgradient)
    by_hand(other, PLAIN, seed=0, l1=0.05)
    for name, value in other.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-4, atol=1e-5)


def test_after_epoch_acts_between_the_last_step_and_validation() -> None:
    epochs: list[int] = []

    def blind(network: nn.Module, epoch: int) -> None:
        epochs.append(epoch)
        if epoch == 2:
            with torch.no_grad():  # the same answer to nearly everything, but not a dead network
                network.get_parameter("10.weight").mul_(0.01)
                network.get_parameter("10.bias")[0] = 9.0

    network = small_network()
    training = train(network, DATA, PLAIN, seed=0, after_epoch=blind)
    assert epochs == [1, 2, 3]
    assert training.curve[1].validation.accuracy < 0.5 < training.curve[0].validation.accuracy


def test_a_parameter_without_gradient_is_left_to_the_penalty() -> None:
    rates: list[float] = []

    def step(network: nn.Module, lr: float) -> None:
        rates.append(lr)
        bias = network.get_parameter("10.bias")
        bias.grad = None
        with torch.no_grad():
            bias.add_(1.0)

    network = small_network()
    before = network.get_parameter("10.bias").detach().clone()
    train(network, DATA, PLAIN, seed=0, penalty=step)
    moved = network.get_parameter("10.bias").detach() - before
    torch.testing.assert_close(moved, torch.full_like(moved, float(len(rates))))
    assert sorted(set(rates)) == pytest.approx([0.001, 0.01, 0.1])


@pytest.mark.parametrize("last", [1, 2, 3])
def test_the_best_epochs_weights_are_kept(last: int) -> None:
    states: list[dict[str, torch.Tensor]] = []

    def spoil(network: nn.Module, epoch: int) -> None:
        if epoch != last:
            with torch.no_grad():
                network.get_parameter("10.weight").neg_()
        states.append({n: value.clone() for n, value in network.state_dict().items()})

    network = small_network()
    training = train(network, DATA, PLAIN, seed=0, after_epoch=spoil, keep_best=True)
    best = max(range(3), key=lambda i: training.curve[i].validation.accuracy)
    assert training.validation == training.curve[best].validation
    for name, value in network.state_dict().items():
        assert torch.equal(value, states[best][name])


@pytest.mark.parametrize(
    "fields",
    [
        {"memory_format": "channels_last"},
        {"precision": "bfloat16"},
        {"schedule": "cosine"},
        {"schedule": "one_cycle"},
        {"schedule": "constant", "warmup_epochs": 1},
    ],
)
def test_learns_in_every_form(fields: dict[str, object]) -> None:
    recipe = Recipe.model_validate({"epochs": 4, "batch_size": 32, "lr": 0.05, **fields})
    network = small_network()
    training = train(network, DATA, recipe, seed=0)
    assert training.validation.accuracy > 0.8
    assert training.curve[-1].train.loss < 0.5 * training.curve[0].train.loss
    assert all(p.is_contiguous() for p in network.parameters())


def test_the_curve_tells_of_every_epoch() -> None:
    heard: list[EpochMetrics] = []
    network = small_network()
    training = train(network, DATA, PLAIN, seed=0, report=heard.append)
    assert training.curve == tuple(heard)
    assert [epoch.epoch for epoch in heard] == [1, 2, 3]
    assert [epoch.lr for epoch in heard] == pytest.approx([0.1, 0.01, 0.001])
    assert training.validation == heard[-1].validation
    assert training.seconds == pytest.approx(sum(epoch.seconds for epoch in heard))
    assert not training.stopped
    assert network.training


def test_last_validation_is_what_evaluate_says_to_the_last_digit() -> None:
    network = small_network()
    training = train(network, DATA, Recipe(epochs=2), seed=0)
    assert evaluate(network, DATA.validation) == training.validation


def test_epochs_take_the_place_of_the_recipes() -> None:
    training = train(small_network(), DATA, PLAIN, epochs=4, seed=0)
    assert [epoch.lr for epoch in training.curve] == pytest.approx([0.1, 0.1, 0.01, 0.001])


@pytest.mark.parametrize("answer", [True, "stop"])
def test_report_may_stop(answer: bool | str) -> None:
    stopped, short = small_network(), small_network()
    training = train(
        stopped, DATA, PLAIN, seed=0, report=lambda epoch: answer if epoch.epoch == 2 else None
    )
    assert training.stopped
    assert len(training.curve) == 2
    cut = PLAIN.model_copy(update={"milestones": (0.5,)})  # same learning rates: 0.1, 0.01
    train(short, DATA, cut, epochs=2, seed=0)
    assert same_state(stopped, short)


def test_a_stop_after_the_last_epoch_is_no_stop() -> None:
    assert not train(small_network(), DATA, PLAIN, seed=0, report=lambda e: e.epoch == 3).stopped


def test_the_seed_decides_and_nothing_else() -> None:
    first, again, other = (small_network(dropout=0.3) for _ in range(3))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    train(first, DATA, PLAIN, seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    train(again, DATA, PLAIN, seed=5)
    train(other, DATA, PLAIN, seed=6)
    assert same_state(first, again)
    assert not same_state(first, other)


def test_dropout_differs_between_epochs() -> None:
    masks: list[Tensor] = []

    class Watched(nn.Dropout):
        def forward(self, x: Tensor) -> Tensor:
            out = super().forward(x)
            if self.training:
                masks.append(out.detach() == 0)
            return out

    network = nn.Sequential(nn.Flatten(), Watched(0.5), nn.Linear(64, 10))
    train(network, digits(64, 64), PLAIN, seed=0)
    assert len(masks) == 3
    assert not torch.equal(masks[0], masks[1])


def test_auxiliary_heads_weigh_0_3() -> None:
    class Headed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.main, self.side = nn.Linear(64, 10), nn.Linear(64, 10)

        def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor, None]:
            x = x.flatten(1)
            return (self.main(x), self.side(x), None) if self.training else self.main(x)

    network = Headed()
    data = digits(64, 64)
    images, labels = data.train.images, data.train.labels
    with torch.no_grad():
        main, side, _ = network(images)
        expected = F.cross_entropy(main, labels) + 0.3 * F.cross_entropy(side, labels)
    training = train(network, data, PLAIN, epochs=1, seed=0)
    assert training.curve[0].train.loss == pytest.approx(expected.item(), rel=1e-5)
    assert isinstance(training.validation, Metrics)


def test_golden_curve(request: pytest.FixtureRequest) -> None:
    """Losses of a fixed training on one thread: a refactoring must reproduce them."""
    path = Path(__file__).parent / "golden" / "training_digits.json"
    threads = torch.get_num_threads()
    request.addfinalizer(lambda: torch.set_num_threads(threads))
    torch.set_num_threads(1)
    recipe = PLAIN.model_copy(update={"epochs": 4, "schedule": "cosine", "lr": 0.2})
    training = train(small_network(seed=7), DATA, recipe, seed=7)
    losses = {
        "train": [epoch.train.loss for epoch in training.curve],
        "validation": [epoch.validation.loss for epoch in training.curve],
    }
    golden = json.loads(path.read_text())
    assert losses["train"] == pytest.approx(golden["train"], rel=1e-4)
    assert losses["validation"] == pytest.approx(golden["validation"], rel=1e-4)


def test_too_few_images_are_refused() -> None:
    with pytest.raises(TrainingError, match=r">= 2 images, but there are 3 and 1") as caught:
        train(small_network(), digits(1, 10), PLAIN, seed=0)
    assert caught.value.reason == "nothing to train"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["auto", "float16", "bfloat16", "float32"])
def test_cuda_learns_and_repeats_itself(precision: str) -> None:
    recipe = Recipe.model_validate(
        {"epochs": 4, "batch_size": 32, "lr": 0.05, "precision": precision}
    )
    first, again = small_network(dropout=0.1), small_network(dropout=0.1)
    training = train(first, DATA, recipe, seed=0, device="cuda")
    train(again, DATA, recipe, seed=0, device="cuda")
    assert training.validation.accuracy > 0.8
    assert same_state(first, again)
