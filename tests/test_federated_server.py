"""Averages, sums of squared gradients, messages and states of the server, against hand work."""

import copy
import math
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

import pytest
import torch
import torch.nn.functional as F
from federated_networks import BYTE, Table, same, same_server, setting
from torch import Tensor, nn

from prunenas.data import client_splits, generator
from prunenas.errors import FederatedError
from prunenas.federated import Server, Setting, federate
from prunenas.federated.messages import Update, nbytes
from prunenas.federated.strategies import Moment, Strategy


def loss_of(kind: str, logits: Tensor, labels: Tensor) -> Tensor:
    if kind == "binary":
        return F.binary_cross_entropy_with_logits(logits, torch.eye(10)[labels])
    return F.cross_entropy(logits, labels)


def averaged_by_hand(given: Setting, rounds: int) -> dict[str, Tensor]:
    """Copies of the network, trained by torch's own SGD; weighted by the images that they saw."""
    settings = given.federation
    splits = client_splits(
        given.data.train, settings.clients, settings.partition.partition(), given.seed
    )
    server = given.network()
    state = {n: t for n, t in server.state_dict().items() if t.is_floating_point()}
    for number in range(1, rounds + 1):
        lr = settings.lr * 0.5 ** ((number - 1) / (settings.lr_half_life or math.inf))
        results: list[tuple[int, Mapping[str, Tensor]]] = []
        for split in splits:
            network = copy.deepcopy(server).train()
            optimizer = torch.optim.SGD(network.parameters(), lr=lr)
            seen = 0
            for images, labels in split.batches_from(
                number, settings.updates, settings.batch_size, given.seed
            ):
                optimizer.zero_grad()
                loss_of(settings.loss, network(images), labels).backward()
                optimizer.step()
                seen += len(labels)
            results.append((seen, network.state_dict()))
        assert len({seen for seen, _ in results}) > 1  # a plain mean would be another
        total = sum(seen for seen, _ in results)
        state = {
            name: sum((seen / total * there[name] for seen, there in results), torch.zeros(()))
            for name in state
        }
        server.load_state_dict(state, strict=False)
    return state


@pytest.mark.parametrize("loss", ["cross_entropy", "binary"])
def test_rounds_are_weighted_averages_of_clients_that_trained_alone(
    loss: Literal["cross_entropy", "binary"],
) -> None:
    given = setting(
        network="convolutional",
        partition={"kind": "dirichlet", "alpha": 0.3},
        train_limit=90,
        batch_size=32,  # which not every client has
        loss=loss,
        lr=0.2,
        lr_half_life=3,
        rounds=3,
        updates=3,
    )
    run = federate(given)
    expected = averaged_by_hand(given, 3)
    assert run.weights.keys() == expected.keys()
    assert any(name.endswith("running_var") for name in expected)
    for name, value in expected.items():
        torch.testing.assert_close(run.weights[name], value, rtol=1e-4, atol=1e-6)
    fresh = given.network().state_dict()
    assert not any(torch.equal(fresh[n], v) for n, v in run.weights.items() if "weight" in n)


class Watching(Strategy):
    """Half of the weights, others after every third round; keeps what it was shown."""

    source: ClassVar[str] = "a test"
    accumulates: ClassVar[bool] = True
    seen: ClassVar[list[Moment]] = []

    def first_masks(
        self, weights: Mapping[str, Tensor], masks: Mapping[str, Tensor], seed: int
    ) -> dict[str, Tensor]:
        return drawn(weights, 0)

    def reconfigures_after(self, round_number: int, rounds: int) -> bool:
        return round_number % 3 == 0

    def masks_after(self, moment: Moment) -> dict[str, Tensor]:
        Watching.seen.append(copy.deepcopy(moment))  # the server goes on with its weights
        return drawn(moment.weights, moment.round)


def drawn(weights: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    """Masks of a quarter to all of a layer's weights."""
    random = generator("masks of a test", number)
    return {
        name: torch.rand(weight.shape, generator=random) < 1 - index * 0.25
        for index, (name, weight) in enumerate(weights.items())
    }


@pytest.fixture
def moments() -> list[Moment]:
    Watching.seen.clear()
    return Watching.seen


class ByHand:
    """The same rounds with whole tensors: masks are products, and all gradients are at hand."""

    def __init__(self, given: Setting) -> None:
        self.given = given
        self.network = given.network()
        self.splits = client_splits(
            given.data.train,
            given.federation.clients,
            given.federation.partition.partition(),
            given.seed,
        )
        self.weights = {n: p.detach().clone() for n, p in self.network.named_parameters()}
        self.masks = drawn({n: self.weights[n] for n in given.time.layers}, 0)
        self.begin()

    def begin(self) -> None:
        clients = range(self.given.federation.clients)
        self.squares = [{n: torch.zeros_like(w) for n, w in self.weights.items()} for _ in clients]
        self.examples = [0 for _ in clients]

    def kept(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {n: t * self.masks[n] if n in self.masks else t.clone() for n, t in tensors.items()}

    def round(self, number: int, chosen: tuple[int, ...]) -> dict[str, Tensor]:
        """One round; what it changed on average."""
        settings = self.given.federation
        changes, counts = [], []
        for client in chosen:
            before = self.kept(self.weights)
            weights, total, seen = before, {n: torch.zeros_like(w) for n, w in before.items()}, 0
            for images, labels in self.splits[client].batches_from(
                number, settings.updates, settings.batch_size, self.given.seed
            ):
                leaves = {n: w.clone().requires_grad_() for n, w in weights.items()}
                logits = torch.func.functional_call(self.network, leaves, (images,))
                loss_of(settings.loss, logits, labels).backward()
                gradients = {n: leaf.grad for n, leaf in leaves.items() if leaf.grad is not None}
                total = {n: total[n] + gradients[n] for n in total}
                weights = self.kept({n: w - settings.lr * gradients[n] for n, w in weights.items()})
                seen += len(labels)
            for name, value in total.items():
                self.squares[client][name] += value**2 * seen
            self.examples[client] += seen
            changes.append({n: weights[n] - before[n] for n in weights})
            counts.append(seen)
        mean = {
            name: sum(
                (
                    c * n / sum(counts)
                    for c, n in zip((e[name] for e in changes), counts, strict=True)
                ),
                torch.zeros(()),
            )
            for name in self.weights
        }
        self.weights = {name: weight + mean[name] for name, weight in self.weights.items()}
        return mean

    def compare(self, moment: Moment, change: Mapping[str, Tensor], last: tuple[int, ...]) -> None:
        """Kept weights' sums are everybody's; dropped ones' those of the last round's clients."""
        whole = {n: sum(s[n] for s in self.squares) for n in self.weights}
        part = {n: sum(self.squares[c][n] for c in last) for n in self.weights}
        factor = sum(self.examples) / sum(self.examples[c] for c in last)
        assert moment.masks.keys() == moment.squares.keys() == set(self.masks)
        for name, mask in self.masks.items():
            assert torch.equal(moment.masks[name], mask)
            expected = torch.where(mask, whole[name], factor * part[name])
            assert (expected[~mask] > 0).any() or mask.all()
            scale = float(expected.max())
            torch.testing.assert_close(moment.squares[name], expected, rtol=5e-3, atol=1e-5 * scale)
            torch.testing.assert_close(moment.weights[name], self.weights[name])
            torch.testing.assert_close(moment.change[name], change[name], rtol=1e-3, atol=1e-6)
        others = sum(float(whole[n].sum()) for n in self.weights if n not in self.masks)
        assert moment.others == pytest.approx(others, rel=1e-3)


@pytest.mark.parametrize("participants", [None, 3])
def test_squared_gradients_are_those_of_a_dense_computation(
    moments: list[Moment], participants: int | None
) -> None:
    given = setting(
        Watching(),
        clients=4,
        participants=participants,
        partition="shards",
        train_limit=100,
        batch_size=24,
        rounds=6,
        time="auto",
        only=lambda name: name != "5.weight",  # what the time model doesn't name isn't masked
    )
    run = federate(given)
    server, hand = given.server(), ByHand(given)
    for number in range(1, 7):
        server.round = number - 1
        chosen = server.chosen()
        change = hand.round(number, chosen)
        if number % 3 == 0:
            moment = moments[number // 3 - 1]
            assert (moment.round, moment.rounds, moment.lr) == (number, 6, given.federation.lr)
            hand.compare(moment, change, chosen)
            hand.masks = drawn(moment.weights, number)
            hand.begin()  # sums of before must not be in those of after
    assert len(moments) == 2
    for name, value in hand.kept(hand.weights).items():
        torch.testing.assert_close(run.weights[name], value, rtol=1e-4, atol=1e-6)


def test_clients_that_take_turns_all_count(moments: list[Moment]) -> None:
    """The test above asks all clients for something; here that three of four are asked."""
    given = setting(Watching(), clients=4, participants=3, rounds=40)
    server = given.server()
    asked = []
    for number in range(40):
        server.round = number
        asked.append(server.chosen())
    assert all(len(set(each)) == 3 and each == tuple(sorted(each)) for each in asked)
    counts = [sum(client in each for each in asked) for client in range(4)]
    # Binomial, 40 draws at 3/4: 30 ± 2.7; four standard deviations.
    assert all(19 <= count <= 40 for count in counts)
    assert len(set(asked)) == 4


def values(given: Setting, masks: Mapping[str, Tensor]) -> int:
    """Numbers that travel one way: kept weights, and everything that isn't masked."""
    whole = {n: t for n, t in given.network().state_dict().items() if t.is_floating_point()}
    kept = sum(int(mask.sum()) for mask in masks.values())
    return kept + sum(tensor.numel() for name, tensor in whole.items() if name not in masks)


def bits(masks: Mapping[str, Tensor]) -> int:
    return sum(math.ceil(mask.numel() / 8) for mask in masks.values())


def whole_of(values: Tensor, mask: Tensor) -> Tensor:
    whole = torch.zeros(mask.shape)
    if len(values.shape) == 1 and mask.ndim > 1:
        whole[mask] = values
        return whole
    return values


def test_messages_hold_what_masks_keep_and_no_more() -> None:
    given = setting(
        "prunefl",
        {"interval": 2, "initial": None, "removable": 0.6},
        network="convolutional",
        rounds=7,
        seconds=(1e-3, 1e-2),
    )
    table, sizes, density = Table(given), [], []
    for number in range(1, 7):
        masks, state = table.server.masks, table.server.network_state()
        updates = table.ask()
        told = number in (1, 3, 5)  # at first, and after each change
        upload = number % 2 == 0
        for client, task in table.tasks.items():
            for name, tensor in task.weights.items():
                mask = masks.get(name, torch.ones_like(tensor, dtype=torch.bool))
                assert torch.equal(whole_of(tensor, mask), state[name])
                assert torch.equal(whole_of(tensor, mask)[~mask], torch.zeros(int((~mask).sum())))
            assert (task.masks is not None) == told
            assert nbytes(task) == 4 * values(given, masks) + (bits(masks) if told else 0)
            update = table.updates[client]
            dropped = sum(int((~mask).sum()) for mask in masks.values())
            assert nbytes(update) == 4 * values(given, masks) + (4 * dropped if upload else 0)
        report = table.server.finish(updates)
        assert report.sent == sum(map(nbytes, table.tasks.values()))
        assert report.received == sum(map(nbytes, updates))
        kept = {name: int(mask.sum()) for name, mask in masks.items()}
        besides = (bits(masks) if told else 0) + (4 * dropped if upload else 0)
        assert report.kept == kept
        assert report.seconds == pytest.approx(
            1.0
            + sum(t * n for t, n in zip((1e-3, 1e-2), kept.values(), strict=True))
            + besides * BYTE
        )
        sizes.append(nbytes(updates[0]) - (4 * dropped if upload else 0))
        density.append(report.density)
    assert density[0] == 1.0
    assert density[-1] < density[0]
    order = sorted(range(6), key=lambda index: density[index])
    assert [sizes[index] for index in order] == sorted(sizes)


def test_masks_go_to_whom_they_are_news() -> None:
    table = Table(setting("random", {"density": 0.4}, clients=4, quorum=0.5, rounds=9))

    def told() -> list[bool]:
        return [table.tasks[client].masks is not None for client in range(4)]

    table.play()
    assert told() == [True] * 4
    table.ask()
    assert told() == [False] * 4
    spoilt = copy.deepcopy(table.updates[2])
    spoilt.changes["1.bias"][0] = math.nan
    report = table.server.finish([table.updates[0], spoilt, table.updates[3]], {1: "gone"})
    assert (report.replied, set(report.failed), set(report.refused)) == ((0, 3), {1}, {2})
    table.play()
    assert told() == [False, True, True, False]
    table.play()
    assert told() == [False] * 4


def test_masks_that_stay_are_not_sent_again(moments: list[Moment]) -> None:
    class Still(Watching):
        def masks_after(self, moment: Moment) -> dict[str, Tensor]:
            return dict(moment.masks)

    table = Table(setting(Still(), rounds=9))
    table.play(3)
    table.play()
    assert [task.masks for task in table.tasks.values()] == [None] * 3


def test_a_round_goes_on_from_any_order_of_updates() -> None:
    given = setting("prunefl", {"interval": 2, "initial": None}, clients=5, rounds=8, seconds=1e-2)
    one, other = Table(given), Table(given)
    for number in range(6):
        one.server.finish(one.ask())
        updates = other.ask(reversed(range(5)))
        shift = number % 5
        other.server.finish(updates[shift:] + updates[:shift])
        assert same_server(one.server, other.server)
    assert one.server.packing.density < 1


class Regrowing:
    """A PruneFL server whose updates are made by hand; the last layer's 80 weights are prunable."""

    def __init__(self, regrow: str) -> None:
        given = setting(
            "prunefl",
            {"interval": 1, "initial": None, "removable": 0.51, "regrow": regrow},
            clients=1,
            rounds=5,
            only=lambda name: name == "5.weight",
        )
        self.server = given.server()
        self.before = self.server.network_state()["5.weight"]

    def finish(self, change: Tensor, squares: float) -> None:
        task = self.server.task(0)
        mask = self.server.masks["5.weight"]
        changes = {name: torch.zeros_like(value) for name, value in task.weights.items()}
        changes["5.weight"] = change if mask.all() else change[mask]
        dropped = int((~mask).sum())
        told = {} if mask.all() else {"5.weight": torch.full((dropped,), squares)}
        self.server.finish([Update(0, task.round, 10, 1.0, task.mask_digest, changes, told)])


@pytest.mark.parametrize("regrow", ["stale", "zero"])
def test_what_comes_back_begins_as_asked(regrow: str) -> None:
    case = Regrowing(regrow)
    # No gradient where weights are small: half of them go, and nothing of those comes back.
    large = case.before.abs() > case.before.abs().median()
    step = torch.where(large, 0.01 * case.before.sign(), 0.0)
    case.finish(step, 0.0)
    assert torch.equal(case.server.masks["5.weight"], large)
    state = case.server.network_state()["5.weight"]
    assert torch.equal(state[~large], torch.zeros(int((~large).sum())))
    torch.testing.assert_close(state[large], (case.before + step)[large])
    case.finish(step, 100.0)  # what is dropped is worth more than anything
    state = case.server.network_state()["5.weight"]
    assert case.server.masks["5.weight"][~large].all()
    expected = case.before if regrow == "stale" else torch.zeros_like(case.before)
    assert torch.equal(state[~large], expected[~large])
    stays = case.server.masks["5.weight"] & large
    torch.testing.assert_close(state[stays], (case.before + 2 * step)[stays])


PRUNING = {"interval": 3, "initial": {"passes": 20, "interval": 5, "batches": 2}}


@pytest.mark.parametrize("stopped", [0, 1, 2, 3, 4, 6, 7])
def test_a_server_goes_on_from_its_state(stopped: int, tmp_path: Path) -> None:
    """In a new server, read from a file that can hold data alone; the clients live on."""
    given = setting("prunefl", PRUNING, clients=4, participants=3, rounds=8, seconds=1e-2)
    whole, table = Table(given), Table(given)
    reports = whole.play(8)
    first = table.play(stopped)
    torch.save(table.server.state(), tmp_path / "server.pt")
    again = given.server()
    again.load(torch.load(tmp_path / "server.pt", weights_only=True))
    assert again.settled == (stopped % 3 == 0)
    assert again.settled == table.server.settled
    assert again.pruner() is None
    table.server = again
    assert first + table.play(8 - stopped) == reports  # bytes and seconds too
    assert same_server(table.server, whole.server)
    assert whole.server.finished
    assert whole.server.packing.density < 0.99


@pytest.mark.parametrize("newcomers", [True, False])
@pytest.mark.parametrize("died", [4, 5])
def test_what_clients_keep_is_not_needed_where_a_server_has_settled(
    newcomers: bool, died: int
) -> None:
    """The server is lost in a later round; some clients with it, others know rounds too many."""
    given = setting("prunefl", {"interval": 3, "initial": None}, rounds=9, seconds=1e-2)
    whole, table = Table(given), Table(given)
    whole.play(9)
    table.play(3)
    state = copy.deepcopy(table.server.state())
    assert table.server.settled
    table.play(died - 3)
    assert not table.server.settled
    table.ask()  # whose answers nobody takes
    table.server = given.server()
    table.server.load(state)
    if newcomers:
        table.clients = list(given.clients())
    table.play(6)
    assert same_server(table.server, whole.server)
    assert not same(whole.server.masks, given.server().masks)


def test_without_sums_a_server_has_always_settled() -> None:
    table = Table(setting("random", {"density": 0.5}))
    assert table.server.settled
    table.play()
    assert table.server.settled


def test_a_client_that_lost_its_sums_does_not_halve_them(moments: list[Moment]) -> None:
    """One of two equal clients is replaced before the last round of the interval."""
    given = setting(Watching(), clients=2, rounds=3)
    table = Table(given)
    table.play(2)
    kept = table.clients[0].state()
    table.clients[1] = given.clients()[1]
    updates = table.ask()
    assert updates[0].squares is not None
    assert updates[1].squares is not None
    alone = [update.squares["5.weight"] for update in updates if update.squares is not None]
    table.server.finish(updates)
    dropped = ~moments[0].masks["5.weight"]
    # 3 rounds of client 0 and 1 of client 1 stand for 3 of both.
    expected = (alone[0] + alone[1]) * 6 / 4
    torch.testing.assert_close(moments[0].squares["5.weight"][dropped], expected)
    assert float(kept["squares:5.weight"].sum()) > 0


def test_masks_that_a_network_comes_with_need_their_seconds() -> None:
    given = setting(only=lambda name: name != "1.weight")
    network = given.network()
    layer = network.get_submodule("1")
    assert isinstance(layer, nn.Linear)
    layer.register_buffer("weight_mask", torch.arange(64) % 2 > torch.zeros(12, 1))
    with pytest.raises(FederatedError, match=r"time model, but 1\.weight is not"):
        Server(network, given.strategy, given.federation, given.time, 0)
