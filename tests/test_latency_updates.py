"""Local updates measured layer by layer: sparse form against PyTorch's dense one, lines by hand."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from scipy.optimize import nnls
from torch import Tensor, nn

from prunenas.errors import FederatedError, TrainingError
from prunenas.latency import LayerTimes, measure_updates, updates
from prunenas.latency.sparse_form import SparseLayer, sparse_form

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(12, 7), (5, 12)),
    "linear on tokens, no bias": (lambda: nn.Linear(6, 4, bias=False), (2, 3, 6)),
    "convolution": (lambda: nn.Conv2d(3, 8, 5, padding=2), (2, 3, 9, 7)),
    "strided and dilated": (
        lambda: nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), bias=False),
        (3, 4, 8, 9),
    ),
    "grouped": (lambda: nn.Conv2d(6, 9, 3, groups=3), (2, 6, 5, 5)),
    "depthwise": (lambda: nn.Conv2d(5, 5, 3, padding=1, groups=5), (2, 5, 4, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_sparse_form_computes_what_a_dense_layer_with_zeros_does(name: str) -> None:
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    dense = make()
    weight = dense.get_parameter("weight")
    keep = torch.rand(weight.shape) < 0.3
    keep[0] = False  # an output that keeps nothing
    with torch.no_grad():
        weight.mul_(keep)
        weight[keep.nonzero()[0].tolist()] = 0.0  # one that is kept and happens to be 0
    sparse = SparseLayer("it", dense, keep)
    inputs = torch.randn(shape)
    ours, theirs = inputs.clone().requires_grad_(), inputs.clone().requires_grad_()
    made, expected = sparse(ours), dense(theirs)
    torch.testing.assert_close(made, expected)
    above = torch.randn(expected.shape)
    made.backward(above)
    expected.backward(above)
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert sparse.values.numel() == int(keep.sum())
    assert weight.grad is not None
    torch.testing.assert_close(sparse.values.grad, weight.grad[keep])
    bias = getattr(dense, "bias", None)
    if bias is not None:
        assert sparse.bias is not None
        torch.testing.assert_close(sparse.bias.grad, bias.grad)


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 5),
    )


def test_three_steps_of_a_network_in_sparse_form_are_those_of_a_masked_one() -> None:
    torch.manual_seed(1)
    dense = network()
    masks = {f"{at}.weight": torch.rand(dense[at].weight.shape) < 0.5 for at in (0, 5)}
    before = copy.deepcopy(dense.state_dict())
    sparse = sparse_form(dense, masks)
    assert all(torch.equal(before[name], each) for name, each in dense.state_dict().items())
    steps = [torch.optim.SGD(each.parameters(), lr=0.1) for each in (sparse, dense)]
    for _ in range(3):
        images, labels = torch.randn(6, 1, 8, 8), torch.randint(5, (6,))
        for net, step in zip((sparse, dense), steps, strict=True):
            with torch.no_grad():
                for name, mask in masks.items():
                    dense.get_parameter(name).mul_(mask)
            step.zero_grad()
            nn.functional.cross_entropy(net(images), labels).backward()
            step.step()
    for at in (0, 5):
        kept = dense[at].weight[masks[f"{at}.weight"]]
        torch.testing.assert_close(sparse.get_submodule(str(at)).values, kept)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(1, 1, 3, padding="same"),
        nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"),
        nn.Conv1d(1, 1, 3),
    ],
)
def test_a_layer_without_sparse_form_is_refused(layer: nn.Module) -> None:
    keep = torch.ones_like(layer.get_parameter("weight"), dtype=torch.bool)
    with pytest.raises(FederatedError, match=r"but 0\.weight is of Conv"):
        sparse_form(nn.Sequential(layer), {"0.weight": keep})


def test_a_line_is_the_least_squares_without_negative_parts() -> None:
    rng = np.random.default_rng(0)
    bent = 0
    for _ in range(200):
        kept = sorted(rng.integers(1, 1000, 5).tolist())
        seconds = rng.uniform(0.1, 1, 5) + rng.uniform(-1e-3, 5e-3) * np.array(kept)
        seconds = np.abs(seconds)
        line = LayerTimes.of(1000, kept, seconds.tolist())
        (base, slope), distance = nnls(np.stack([np.ones(5), kept], axis=1), seconds)
        assert line.base == pytest.approx(base, abs=1e-9)
        assert line.per_weight == pytest.approx(slope, abs=1e-9)
        assert line.error == pytest.approx(distance / 5**0.5 / seconds.mean(), abs=1e-9)
        bent += base == 0 or slope == 0
    assert 10 < bent < 190


def test_a_perfect_line_a_flat_one_and_a_single_point() -> None:
    perfect = LayerTimes.of(100, [5, 10, 20], [2.5, 3.0, 4.0])
    assert (perfect.per_weight, perfect.base) == pytest.approx((0.1, 2.0))
    assert (perfect.r2, perfect.error) == pytest.approx((1.0, 0.0), abs=1e-7)
    for kept in ([5, 10, 20], [1, 1, 1]):
        flat = LayerTimes.of(100, kept, [3.0, 3.0, 3.0])
        assert (flat.per_weight, flat.base, flat.error) == (0.0, 3.0, 0.0)


class Fakes:
    """A clock that works set forward themselves: 3 s and c_l for each weight kept, in both places.

    Every work's first turn takes a hundred seconds more, and one turn in four stumbles.
    """

    costs: ClassVar = {"0.weight": 0.5, "5.weight": 0.01}
    constant = 7.0

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.turns: list[int] = []
        self.works = 0
        monkeypatch.setattr(updates, "clock", lambda device, threads: lambda: self.now)
        monkeypatch.setattr(updates, "_layer_update", self.layer)
        monkeypatch.setattr(updates, "_update", self.whole)

    def work(self, seconds: float) -> Callable[[], None]:
        number, done = self.works, [0]
        self.works += 1

        def work() -> None:
            self.turns.append(number)
            stumble = 100.0 if done[0] == 0 else 50.0 if done[0] == 1 + number % 4 else 0.0
            done[0] += 1
            self.now += seconds + stumble

        return work

    def layer(
        self, network: nn.Module, name: str, keep: Tensor, inputs: Sequence[Tensor]
    ) -> Callable[[], None]:
        return self.work(3.0 + self.costs[name] * int(keep.sum()))

    def whole(self, network: nn.Module, images: Tensor) -> Callable[[], None]:
        layers = [
            (name, layer.values.numel())
            for name, layer in network.named_modules()
            if isinstance(layer, SparseLayer)
        ]
        return self.work(
            self.constant + sum(self.costs[f"{name}.weight"] * kept for name, kept in layers)
            if layers
            else 20.0
        )


def test_layers_constant_and_check_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes = Fakes(monkeypatch)
    told: list[tuple[int, int]] = []
    times = measure_updates(
        network(), (1, 8, 8), batch=4, rounds=5, tell=lambda *each: told.append(each)
    )
    conv, linear = times.layers["0.weight"], times.layers["5.weight"]
    assert conv.kept == (2, 4, 7, 13, 18)  # of 36
    assert linear.kept == (16, 32, 64, 112, 160)  # of 320
    assert (conv.per_weight, conv.base) == pytest.approx((0.5, 3.0))
    assert (linear.per_weight, linear.base) == pytest.approx((0.01, 3.0))
    assert (times.constant, times.dense) == pytest.approx((7.0, 20.0))
    assert times.check_kept == {"0.weight": 18, "5.weight": 160}
    assert times.check_seconds == pytest.approx(7 + 18 * 0.5 + 160 * 0.01)
    assert times.seconds(times.check_kept) == pytest.approx(times.check_seconds)
    # 7 + 18 + 3.2 s with all weights, and 20 s in dense form
    assert times.breaks_even == pytest.approx((20 - 7) / (18 + 3.2))
    model = times.model(updates=2, bandwidth=4.0)
    assert model.constant == pytest.approx(14.0)
    assert model.layers == pytest.approx({"0.weight": 2 + 1.0, "5.weight": 2 + 0.02})
    assert told == [(done, 6) for done in range(1, 7)]
    # In every round each has its turn once, and no two rounds have one order.
    rounds = [tuple(fakes.turns[13 * at : 13 * (at + 1)]) for at in range(6)]
    assert all(sorted(each) == list(range(13)) for each in rounds)
    assert len(set(rounds)) == 6


def test_a_constant_below_zero_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    Fakes(monkeypatch).constant = -50.0
    with pytest.raises(FederatedError, match="constant must be > 0, but comes out as -50"):
        measure_updates(network(), (1, 8, 8), rounds=5)


class Odd(nn.Module):
    """One layer is called twice, one never, and the second reads what the first has made."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Linear(512, 512)
        self.never = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(512)
        self.last = nn.Linear(512, 10)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.twice(self.twice(images.flatten(1)).relu())
        logits: Tensor = self.last(self.norm(hidden))
        return logits


def test_a_real_measurement_is_larger_where_more_is_kept() -> None:
    """Ten times the weights of a layer with 260,000, called twice: no machine hides that."""
    net = Odd().eval()
    before = copy.deepcopy(net.state_dict())
    threads = torch.get_num_threads()
    times = measure_updates(net, (2, 16, 16), batch=64, rounds=3)
    assert list(times.layers) == ["twice.weight", "last.weight"]
    large, small = times.layers.values()
    assert large.weights == 512 * 512
    assert large.seconds[0] < large.seconds[-1]
    assert large.per_weight > 0
    assert large.seconds[-1] > small.seconds[-1]  # it has 51 times as many
    assert times.dense > 0
    assert times.model(updates=5).round_seconds(
        {name: each.weights for name, each in times.layers.items()}
    ) > times.model(updates=5).round_seconds({"twice.weight": 1, "last.weight": 1})
    assert not net.training
    assert torch.get_num_threads() == threads
    assert all(torch.equal(before[name], each) for name, each in net.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "law"),
    [
        ({"batch": 1}, "batch >= 2, not 1"),
        ({"threads": 0}, "threads >= 1, not 0"),
        ({"rounds": 2}, "rounds >= 3, not 2"),
    ],
)
def test_a_measurement_that_can_not_be_is_refused(settings: dict[str, Any], law: str) -> None:
    with pytest.raises(FederatedError, match=law):
        measure_updates(network(), (1, 8, 8), **settings)


def test_what_has_no_layers_or_no_logits_is_refused() -> None:
    with pytest.raises(FederatedError, match="there are none"):
        measure_updates(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4)), (1, 2, 2))
    with pytest.raises(TrainingError, match="must answer 20 images with logits"):
        measure_updates(nn.Sequential(nn.Conv2d(1, 2, 3)), (1, 8, 8))
