"""What a client does with a task, keeps from round to round, and finds in initial pruning."""

import copy
from itertools import pairwise
from typing import Any

import pytest
import torch
from federated_networks import BYTE, Table, digits, same, setting
from torch import Tensor

from prunenas.data import client_splits
from prunenas.errors import FederatedError, PrunenasError, TrainingError
from prunenas.federated import Client, LostMasks, Setting, Task
from prunenas.federated.client import loss_of
from prunenas.federated.initial import InitialPruning, prune_initially
from prunenas.federated.messages import Update
from prunenas.federated.packing import Packing

ACCUMULATING = {"interval": 4, "initial": None}


def table(**more: Any) -> Table:
    """After a reconfiguration: masks drop something, and sums have begun anew."""
    given = setting("prunefl", ACCUMULATING, rounds=12, seconds=1e-2, **more)
    made = Table(given)
    made.play(4)
    assert 0.5 < made.server.packing.density < 0.9
    return made


def same_update(one: Update, other: Update) -> bool:
    return (
        (one.client, one.round, one.examples, one.loss, one.mask_digest)
        == (other.client, other.round, other.examples, other.loss, other.mask_digest)
        and same(one.changes, other.changes)
        and same(one.squares or {}, other.squares or {})
    )


@pytest.mark.parametrize("network", ["perceptron", "convolutional"])
def test_a_client_made_anew_each_round_from_its_state_is_the_same(network: str) -> None:
    """As in Flower, where each task may come to another process."""
    one = table(network=network)
    other = copy.deepcopy(one)
    for number in range(5, 9):
        for client in range(3):
            task = one.server.task(client)
            expected = one.clients[client].work(task, one.network)
            answer = other.clients[client].work(task, other.network)
            assert same_update(expected, answer)
            assert (answer.squares is not None) == (number == 8)
            state = other.clients[client].state()
            assert all(isinstance(tensor, Tensor) for tensor in state.values())
            other.clients[client] = one.setting.clients()[client]
            other.clients[client].load(state, other.network)
            one.updates[client] = expected
        one.server.finish(list(one.updates.values()))


def test_a_state_is_as_small_as_what_it_holds() -> None:
    made = table()
    made.play()
    masks = made.server.masks
    state = made.clients[0].state()
    dropped = sum(int((~mask).sum()) for mask in masks.values())
    bits = sum(-(-mask.numel() // 8) for mask in masks.values())
    size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    assert size == 4 * dropped + bits + 2 * 8
    fresh = made.setting.clients()[0]
    assert fresh.state() == {}
    fresh.load({}, made.network)
    assert fresh.state() == {}


def test_unknown_masks_are_told_and_cost_the_client_nothing() -> None:
    made = table()
    made.play()
    task = made.server.task(1)
    assert task.masks is None
    newcomer = made.setting.clients()[1]
    with pytest.raises(LostMasks, match=f"client 1 must have the masks {task.mask_digest}"):
        newcomer.work(task, made.network)
    before = made.clients[1].state()
    other = Packing.of({name: ~mask for name, mask in made.server.masks.items()})
    with pytest.raises(LostMasks, match=other.digest):
        made.clients[1].work(Task(task.round, task.lr, task.weights, other.digest), made.network)
    assert same(made.clients[1].state(), before)
    made.server.lost_masks(1)
    assert made.server.task(1).masks is not None


def broken(task: Task, **parts: Any) -> Task:
    return Task(**{**vars(task), **parts})


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (lambda t: {"weights": {n: t.weights[n] for n in list(t.weights)[1:]}}, "6 tensors"),
        (lambda t: {"weights": {**t.weights, "more": torch.zeros(1)}}, "more"),
        (lambda t: {"masks": {}, "mask_digest": "?"}, "masks must be those"),
        (lambda t: {"masks": {**t.masks, "1.weight": torch.zeros(3)}, "mask_digest": "?"}, "bytes"),
        (lambda t: {"mask_digest": "?"}, "must have the masks"),
    ],
)
def test_tasks_that_do_not_fit_are_refused(parts: Any, words: str) -> None:
    made = Table(setting("random", {"density": 0.5}))
    task = made.server.task(0)
    with pytest.raises(FederatedError, match=words) as caught:
        made.clients[0].work(broken(task, **parts(task)), made.network)
    assert "\n" not in str(caught.value)


def test_a_client_that_diverges_says_so() -> None:
    given = setting(lr=1e30, updates=5)
    made = Table(given)
    with pytest.raises(TrainingError, match="at client 2 in round 1 at learning rate 1e"):
        made.work(2)


def test_losses_are_torchs_own() -> None:
    logits, labels = (
        torch.randn(7, 4, generator=torch.Generator().manual_seed(0)),
        torch.arange(7) % 4,
    )
    own = -logits.log_softmax(1)[torch.arange(7), labels].mean()
    torch.testing.assert_close(loss_of(logits, labels, "cross_entropy"), own)
    right = torch.eye(4, dtype=torch.bool)[labels]
    each = torch.where(right, logits.sigmoid().log(), (1 - logits.sigmoid()).log())
    torch.testing.assert_close(loss_of(logits, labels, "binary"), -each.mean())


def test_who_had_the_network_before_makes_no_difference() -> None:
    given = setting(network="convolutional")
    first = Table(given).ask((0, 1, 2))
    again = Table(given).ask((2, 1, 0))
    assert all(map(same_update, first, reversed(again)))


def test_dropout_is_of_client_and_round_alone() -> None:
    given = setting(network="convolutional", arguments={"dropout": 0.4})
    made = Table(given)
    assert all(client.stochastic for client in made.clients)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = made.ask()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    other = Table(given)
    assert same_update(other.ask((1,))[0], first[1])
    task = other.server.task(1)
    later = other.clients[1].work(broken(task, round=2), other.network)
    assert not same(later.changes, first[1].changes)
    split = client_splits(digits().train, 3, given.federation.partition.partition(), 0)[1]
    stranger = Client(7, split, given.federation, 0, time=given.time, stochastic=True)
    assert not same(stranger.work(task, other.network).changes, first[1].changes)
    assert not any(client.stochastic for client in Table(setting()).clients)


def test_looking_for_random_numbers_leaves_no_trace() -> None:
    given = setting(network="convolutional", arguments={"dropout": 0.4})
    state = torch.get_rng_state()
    assert given.clients()[0].stochastic
    assert torch.equal(torch.get_rng_state(), state)


def test_a_client_of_one_image_needs_a_network_that_can_be_trained_on_it() -> None:
    few = {"clients": 30, "train_limit": 30, "network": "convolutional"}
    assert Table(setting(**few)).play()[0].replied == tuple(range(30))
    with pytest.raises(FederatedError, match="has batches of 1: Expected more than 1 value") as e:
        setting(**few, arguments={"flat": True}).clients()
    assert "\n" not in str(e.value)
    setting(**{**few, "train_limit": 60}, arguments={"flat": True}).clients()


INITIAL: dict[str, Any] = {"client": 1, "batches": 3, "passes": 60, "interval": 5}


def initially(**more: Any) -> Setting:
    arguments = {"interval": 3, "initial": {**INITIAL, **more}}
    return setting("prunefl", arguments, seconds=1e-2, lr=0.2, batch_size=20)


def test_initial_pruning_by_hand() -> None:
    """The same passes with torch's SGD, masks as products, and the greedy by trying every length.

    All seconds being equal, the best set is a run of the largest squares.
    """
    given = initially(passes=23)
    table = Table(given)
    task = table.server.task(1)
    assert (task.round, table.server.pruner()) == (0, 1)
    update = table.clients[1].work(task, table.network)

    network = given.network()
    split = client_splits(given.data.train, 3, given.federation.partition.partition(), 0)[1]
    batches = list(split.batches_from(0, 3, 20, 0))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.2)
    weights = {n: p for n, p in network.named_parameters() if n in given.time.layers}
    masks = {name: torch.ones_like(weight) for name, weight in weights.items()}
    squares = {name: torch.zeros_like(p) for name, p in network.named_parameters()}
    first, reconfigured, losses = None, 0, []
    for done in range(23):
        if first is None and done % 10 == 0:
            with torch.no_grad():
                right = sum(int((network(x).argmax(1) == y).sum()) for x, y in batches)
            first = done if right >= 0.15 * 60 else None
        losses = []
        for images, labels in batches:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(network(images), labels)
            loss.backward()
            for name, parameter in network.named_parameters():
                assert parameter.grad is not None
                if name in masks:
                    parameter.grad *= masks[name]
                squares[name] += parameter.grad**2
            optimizer.step()
            losses.append(float(loss.detach()))
        if first is not None and (done - first) % 5 == 0:
            masks = best_masks(weights, masks, squares)
            squares = {name: torch.zeros_like(each) for name, each in squares.items()}
            reconfigured += 1
            with torch.no_grad():
                for name, weight in weights.items():
                    weight *= masks[name]
    assert reconfigured >= 2
    assert update.examples == 23 * 60
    assert update.loss == pytest.approx(sum(losses) / 3, rel=1e-4)
    shapes = {name: weight.shape for name, weight in weights.items()}
    found = Packing.from_bits(update.masks or {}, shapes)
    for name, mask in masks.items():
        assert torch.equal(found.masks[name], mask.bool())
    assert 0 < found.density < 0.7

    before = table.server.network_state()
    report = table.server.begin(update)
    assert (report.round, report.reconfigured) == (0, True)
    dense = 64 * 12 + 12 * 8 + 8 * 10
    step = (1 + 1e-2 * dense - 8 * BYTE * dense) / 2  # of a round of two; nothing is sent
    assert report.seconds == pytest.approx(23 * 3 * step)
    state = table.server.network_state()  # the client's weights, not those of before
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(state[name], parameter.detach(), rtol=1e-3, atol=1e-5)
        assert not torch.equal(state[name], before[name])
    assert table.server.pruner() is None
    table.server.finish(table.ask())
    assert [task.masks is None for task in table.tasks.values()] == [False, True, False]


def best_masks(
    weights: dict[str, Any], masks: dict[str, Tensor], squares: dict[str, Tensor]
) -> dict[str, Tensor]:
    """30 % of each layer may go; seconds are 1 + 0.01 for each weight."""
    protected = {}
    for name, mask in masks.items():
        sizes = torch.where(mask.bool(), weights[name].detach().abs(), torch.inf).flatten()
        stays = mask.flatten().clone()
        stays[sizes.argsort()[: int(0.3 * int(mask.sum()))]] = 0
        protected[name] = stays.view(mask.shape)
    gain = sum(float(s.double().sum()) for name, s in squares.items() if name not in masks)
    gain += sum(float((squares[name] * each).double().sum()) for name, each in protected.items())
    free = torch.cat([(squares[n] * (1 - p)).flatten() for n, p in protected.items()]).double()
    order = free.argsort(descending=True)
    gains = gain + torch.cat([torch.zeros(1), free[order].cumsum(0)])
    kept = sum(int(each.sum()) for each in protected.values())
    count = int((gains / (1 + 0.01 * (kept + torch.arange(len(gains))))).argmax())
    chosen = torch.zeros(len(free))
    chosen[order[:count]] = 1
    pieces = chosen.split([mask.numel() for mask in masks.values()])
    return {
        name: protected[name] + piece.view(protected[name].shape)
        for (name, _), piece in zip(masks.items(), pieces, strict=True)
    }


def stage(seed: int = 0, lr: float = 0.2, **settings: Any) -> tuple[list[float], int]:
    """Densities after more and more passes, and the passes that all of them took."""
    given = initially()
    split = client_splits(digits().train, 3, given.federation.partition.partition(), 0)[0]
    found = prune_initially(
        given.network(),
        split,
        {name: torch.ones(weight.shape, dtype=torch.bool) for name, weight in weights_of(given)},
        InitialPruning.model_validate({**INITIAL, **settings}),
        time=given.time,
        lr=lr,
        batch_size=20,
        loss=lambda outputs, labels: loss_of(outputs, labels, "cross_entropy"),
        seed=seed,
    )
    return [Packing.of(found.masks).density], found.examples // 60


def weights_of(given: Setting) -> list[tuple[str, Tensor]]:
    return [
        (n, p.detach()) for n, p in given.network().named_parameters() if n in given.time.layers
    ]


def test_initial_pruning_only_removes_and_no_faster_than_it_may() -> None:
    given = initially(tolerance=1e-9)
    masks: list[dict[str, Tensor]] = []
    for passes in (1, 11, 16, 21, 26, 31):
        table = Table(initially(passes=passes, tolerance=1e-9))
        table.server.begin(table.work(1))
        masks.append(table.server.masks)
    assert given.strategy.initial_pruning is not None
    densities = [Packing.of(each).density for each in masks]
    assert densities == sorted(densities, reverse=True)
    assert densities[-1] < densities[1]
    for earlier, later in pairwise(masks):
        for name in earlier:
            assert not (later[name] & ~earlier[name]).any()
    # One reconfiguration may drop 30 % of a layer; between two of these there are at most two.
    for earlier, later in pairwise(masks):
        for name in earlier:
            left = int(earlier[name].sum())
            for _ in range(2):
                left -= int(0.3 * left)
            assert int(later[name].sum()) >= left


def test_initial_pruning_ends_when_its_size_has_settled() -> None:
    _, at_once = stage(tolerance=1e9, passes=200)
    # The first reconfiguration and five more, five passes apart; it has learnt at pass 0 or 10.
    assert at_once in (26, 36, 46)
    _, never = stage(tolerance=1e-12, passes=70)
    assert never == 70


def test_what_never_learns_is_not_pruned() -> None:
    assert stage(lr=1e-12, passes=30) == ([1.0], 30)


def test_initial_pruning_is_of_its_seed_alone() -> None:
    torch.manual_seed(0)
    one = stage()
    torch.manual_seed(1)
    assert stage() == one
    assert stage(seed=1) != one


def test_a_client_that_can_not_prune_says_so() -> None:
    with pytest.raises(TrainingError, match="initial pruning at learning rate 1e"):
        stage(lr=1e30)
    given = initially()
    client = Client(
        0,
        client_splits(digits().train, 3, given.federation.partition.partition(), 0)[0],
        given.federation,
        0,
        time=given.time,
    )
    with pytest.raises(FederatedError, match="has no initial pruning"):
        client.work(given.server().task(0), given.network())
    with pytest.raises(PrunenasError, match="0 to 2, but is at 7"):
        initially(client=7)
