"""Every kind of garbage is refused in one line that names its client, and the round goes on."""

import copy
import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from federated_networks import Table, same, setting
from torch import Tensor

from prunenas.errors import FederatedError
from prunenas.federated import Server, Update
from prunenas.federated.packing import Packing

Spoil = Callable[[Update], Update]


def changes(name: str, make: Callable[[Tensor], Tensor | None]) -> Spoil:
    def spoil(update: Update) -> Update:
        made = {n: t.clone() for n, t in update.changes.items()}
        value = make(made.pop(name, torch.zeros(3)))
        return replace(update, changes=made if value is None else {**made, name: value})

    return spoil


def squares(name: str, make: Callable[[Tensor], Tensor | None]) -> Spoil:
    def spoil(update: Update) -> Update:
        made = {n: t.clone() for n, t in (update.squares or {}).items()}
        value = make(made.pop(name, torch.zeros(3)))
        return replace(update, squares=made if value is None else {**made, name: value})

    return spoil


def with_first(value: float) -> Callable[[Tensor], Tensor]:
    def make(tensor: Tensor) -> Tensor:
        tensor.view(-1)[0] = value
        return tensor

    return make


def fields(**values: Any) -> Spoil:
    return lambda update: replace(update, **values)


GARBAGE: dict[str, tuple[Spoil, str]] = {
    "an earlier round": (fields(round=4), "must answer round 6, but answers 4"),
    "a later round": (fields(round=7), "must answer round 6, but answers 7"),
    "initial pruning": (fields(round=0), "must answer round 6, but answers 0"),
    "no examples": (fields(examples=0), "on 1 to 20 images, but on 0"),
    "negative examples": (fields(examples=-5), "but on -5"),
    "more examples than there were": (fields(examples=21), "but on 21"),
    "all the weight of the world": (fields(examples=1 << 40), "but on 1099511627776"),
    "loss nan": (fields(loss=math.nan), "loss must be a number, but is nan"),
    "loss inf": (fields(loss=math.inf), "loss must be a number, but is inf"),
    "other masks": (fields(mask_digest="0" * 16), "but has '0000000000000000'"),
    "a digest of many lines": (fields(mask_digest="a\nb" * 99), r"but has 'a\\nba"),
    "masks unasked": (fields(masks={"1.weight": torch.zeros(96, dtype=torch.uint8)}), "sent masks"),
    "a tensor is missing": (changes("3.bias", lambda t: None), "not so: '3.bias'"),
    "one too many": (changes("9.bias", lambda t: t), "not so: '9.bias'"),
    "a name of many lines": (changes("9\n\n", lambda t: t), r"not so: '9\\n\\n'"),
    "no tensors": (fields(changes={}), "change of each tensor"),
    "shape": (changes("1.weight", lambda t: t[1:]), "change of 1.weight must be float32 of"),
    "dimensions": (changes("1.bias", lambda t: t[None]), r"\(12,\), but is float32 of \(1, 12\)"),
    "a whole weight": (changes("1.weight", lambda t: torch.zeros(12, 64)), r"of \(12, 64\)"),
    "double": (changes("1.bias", lambda t: t.double()), "but is float64"),
    "half": (changes("1.bias", lambda t: t.half()), "but is float16"),
    "integers": (changes("1.bias", lambda t: t.long()), "but is int64"),
    "nan": (changes("1.weight", with_first(math.nan)), "change of 1.weight must be finite"),
    "inf": (changes("5.bias", with_first(-math.inf)), "change of 5.bias must be finite"),
    "a huge number": (changes("5.bias", with_first(3e38)), "norm of its change must be at most"),
    "a huge change": (changes("1.weight", lambda t: t * 1e3), "10 times the usual, but is"),
    "no squares": (fields(squares=None), "sent no squared gradients"),
    "squares missing": (squares("1.weight", lambda t: None), "squared gradient of each tensor"),
    "squares too many": (squares("1.bias", lambda t: t), "not so: '1.bias'"),
    "squares of nothing": (fields(squares={}), "squared gradient of each tensor"),
    "squares' shape": (squares("1.weight", lambda t: t[:-1]), "squared gradient of 1.weight must"),
    "squares in halves": (squares("1.weight", lambda t: t.half()), "but is float16"),
    "squares nan": (squares("3.weight", with_first(math.nan)), "must be finite"),
    "squares inf": (squares("3.weight", with_first(math.inf)), "must be finite"),
    "squares below 0": (squares("3.weight", with_first(-1e-9)), "at least 0, but those of 3.w"),
    "huge squares": (squares("1.weight", lambda t: t * 1e6), "root of its squared gradients must"),
}  # fmt: skip


@pytest.fixture(scope="module")
def last_round() -> Table:
    """Six clients' answers of a round that hands in squared gradients, under masks."""
    given = setting(
        "prunefl", {"interval": 3, "initial": None}, clients=6, rounds=9, seconds=1e-2, quorum=0.8
    )
    table = Table(given)
    table.play(5)
    table.ask()
    assert table.server.packing.density < 0.9
    return table


def served(table: Table) -> tuple[Server, dict[int, Update]]:
    """A server of its own in the same round; what clients told is never changed."""
    server = table.setting.server()
    server.load(copy.deepcopy(table.server.state()))
    for client in table.updates:
        server.task(client)
    return server, dict(table.updates)


def same_state(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_state(one[k], other[k]) for k in one)
    return bool(one == other)


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_refused_and_the_others_go_on(name: str, last_round: Table) -> None:
    spoil, words = GARBAGE[name]
    server, updates = served(last_round)
    before = copy.deepcopy(server.state())
    spoilt = spoil(updates[2])
    why = server.refusal(spoilt)
    if why is not None:  # what is too large only the round's other updates tell
        assert same_state(server.state(), before)
    updates[2] = spoilt
    report = server.finish(list(updates.values()))
    assert set(report.refused) == {2}
    assert why in (None, report.refused[2])
    told = report.refused[2]
    assert told.startswith("client 2: ")
    assert "\n" not in told
    assert len(told) < 250
    assert re.search(words, told), told
    assert report.replied == (0, 1, 3, 4, 5)
    others, good = served(last_round)
    del good[2]
    others.finish(list(good.values()), {2: "gone"})
    assert same_state(server.state(), others.state())


@pytest.mark.parametrize("client", [-1, 6, 1 << 70])
def test_whoever_was_not_asked_has_no_say(client: int, last_round: Table) -> None:
    server, updates = served(last_round)
    stranger = replace(updates[0], client=client)
    assert server.refusal(stranger) == f"client {client}: was not asked"
    report = server.finish([*updates.values(), stranger])
    assert set(report.refused) == {client}
    assert report.replied == tuple(range(6))


def test_a_client_that_is_not_in_the_round_was_not_asked() -> None:
    table = Table(setting(clients=5, participants=3))
    updates = table.ask()
    (idle, _) = sorted(set(range(5)) - set(table.updates))
    why = table.server.refusal(replace(updates[0], client=idle))
    assert why == f"client {idle}: was not asked"


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_who_answers_twice_has_no_say(order: list[int], last_round: Table) -> None:
    server, updates = served(last_round)
    twice = [updates[3], changes("1.weight", lambda t: t * 2)(updates[3])]
    rest = [update for client, update in updates.items() if client != 3]
    report = server.finish([*(twice[index] for index in order), *rest])
    assert report.refused == {3: "client 3: answered twice"}
    assert report.replied == (0, 1, 2, 4, 5)


def test_below_the_quorum_all_reasons_are_told_and_nothing_changes(last_round: Table) -> None:
    server, updates = served(last_round)
    before = copy.deepcopy(server.state())
    updates[1] = fields(loss=math.nan)(updates[1])
    updates[4] = changes("1.weight", lambda t: t * 1e3)(updates[4])
    del updates[5]
    with pytest.raises(FederatedError) as caught:
        server.finish(list(updates.values()), {5: "has not answered in 9 s"})
    line = str(caught.value)
    assert line.startswith("round 6 needs updates of 5 clients, but has 3: ")
    assert "\n" not in line
    for words in (
        "client 1: its loss must be a number",
        "client 4: the norm of its change",
        "client 5: has not answered in 9 s",
    ):
        assert words in line
    assert same_state(server.state(), before)
    with pytest.raises(FederatedError, match="has 0: none came"):
        server.finish([])
    report = server.finish(list(last_round.updates.values()))  # and the round can be done after all
    assert report.replied == tuple(range(6))


def test_of_two_clients_the_round_before_tells_who_is_out_of_bounds() -> None:
    table = Table(setting(clients=2, quorum=0.5))
    table.play()
    updates = table.ask()
    updates[1] = changes("1.weight", lambda t: t * 300)(updates[1])
    report = table.server.finish(updates)
    assert set(report.refused) == {1}
    updates = table.ask()
    report = table.server.finish([changes("1.weight", lambda t: t * 5)(u) for u in updates])
    assert not report.refused  # within ten times


def test_the_limit_is_the_settings(last_round: Table) -> None:
    """Ten times the median is the last size that is taken."""
    for times, refused in ((0.95, False), (1.05, True)):
        server, updates = served(last_round)
        norms = {
            client: float(torch.cat([t.flatten() for t in update.changes.values()]).norm())
            for client, update in updates.items()
        }
        # Of the largest: the median of the five others and itself stays the mean of two.
        largest = max(norms, key=lambda client: norms[client])
        middle = sum(sorted(norms.values())[2:4]) / 2
        factor = times * 10 * middle / norms[largest]
        spoilt = updates[largest]
        updates[largest] = replace(
            spoilt, changes={n: t * factor for n, t in spoilt.changes.items()}
        )
        report = server.finish(list(updates.values()))
        assert (largest in report.refused) == refused


INITIAL = {"client": 1, "passes": 12, "interval": 4, "batches": 2}


@pytest.fixture(scope="module")
def pruned() -> tuple[Table, Update]:
    table = Table(setting("prunefl", {"initial": INITIAL}, seconds=1e-2))
    return table, table.work(1)


def bits(name: str, make: Callable[[Tensor], Tensor | None]) -> Spoil:
    """Other masks, and changes and a digest that are right for them where they can be."""

    def spoil(update: Update) -> Update:
        assert update.masks is not None
        made = dict(update.masks)
        value = make(made.pop(name, torch.zeros(3, dtype=torch.uint8)).clone())
        return replace(update, masks=made if value is None else {**made, name: value})

    return spoil


ODD_MASKS: dict[str, tuple[Spoil, str]] = {
    "none": (fields(masks=None), "masks must be those of all"),
    "one is missing": (bits("1.weight", lambda t: None), "not so: '1.weight'"),
    "one too many": (bits("1.bias", lambda t: t), "not so: '1.bias'"),
    "size": (bits("1.weight", lambda t: t[:-1]), "must be 96 bytes, but is torch.uint8 of"),
    "type": (bits("1.weight", lambda t: t.int()), "must be 96 bytes, but is torch.int32"),
    "dimensions": (bits("1.weight", lambda t: t[None]), r"of \(1, 96\)"),
    "an empty layer": (bits("3.weight", torch.zeros_like), "keep none of 3.weight"),
    "not those of the digest": (bits("3.weight", torch.bitwise_not), "must have the masks"),
    "too many passes": (fields(examples=12 * 2 * 10 + 1), "on 1 to 240 images, but on 241"),
    "round": (fields(round=1), "must answer round 0, but answers 1"),
    "squares": (fields(squares={"1.weight": torch.zeros(1)}), "squared gradients unasked"),
    "changes": (changes("1.bias", with_first(math.nan)), "must be finite"),
}


@pytest.mark.parametrize("name", ODD_MASKS)
def test_odd_first_masks_are_refused(name: str, pruned: tuple[Table, Update]) -> None:
    table, update = pruned
    spoil, words = ODD_MASKS[name]
    before = copy.deepcopy(table.server.state())
    with pytest.raises(FederatedError, match=words) as caught:
        table.server.begin(spoil(update))
    assert str(caught.value).startswith("client 1: ")
    assert "\n" not in str(caught.value)
    assert same_state(table.server.state(), before)
    assert table.server.pruner() == 1


def test_right_first_masks_are_taken(pruned: tuple[Table, Update]) -> None:
    table, update = pruned
    other = table.setting.server()
    other.task(1)
    other.begin(update)
    shapes = {name: mask.shape for name, mask in other.masks.items()}
    assert same(other.masks, Packing.from_bits(update.masks or {}, shapes).masks)
    assert other.packing.density < 1
