"""The Flower app's server and clients over a grid in this process: no Ray, no SuperLink."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch

pytest.importorskip("flwr", reason="Flower isn't installed: pip install 'prunenas[federated]'")

from flwr.app import Context, Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from prunenas.errors import FederatedError
from prunenas.federated import federate
from prunenas.flower import client
from prunenas.flower.exchange import Exchange
from prunenas.flower.outcome import CHECKPOINT, Outcome
from prunenas.flower.request import Place, Request
from prunenas.flower.server import Training

STUDY = """
name: tiny
model: {name: lenet_300_100}
data: {name: mnist5k, validation: 0.2, train_limit: 60}
federation:
  {clients: 3, rounds: 4, updates: 1, batch_size: 5, evaluate_every: 2, quorum: 0.6}
strategies:
  - {name: prunefl, with: {interval: 2, initial: {passes: 4, interval: 2, batches: 1}}}
"""

Fate = Callable[["Loopback", Message], Message | None]


class Loopback(Grid):
    """Three nodes, whose answers are there at once, unless a fate befalls them."""

    def __init__(self, request: Request, nodes: dict[int, int] | None = None) -> None:
        self.nodes = {11: 0, 12: 1, 13: 2} if nodes is None else nodes
        run = vars(request)
        self.contexts = {
            node: Context(1, node, {"partition-id": number}, RecordDict(), run)
            for node, number in self.nodes.items()
        }
        self.answers: dict[str, Message] = {}
        self.fates: dict[tuple[int, str], Fate] = {}  # by node and round
        self._sent = 0

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        numbers = []
        for message in messages:
            self._sent += 1
            number = str(self._sent)
            message.metadata.__dict__["_message_id"] = number
            node = message.metadata.dst_node_id
            fate = self.fates.pop((node, message.metadata.group_id), Loopback.answer)
            answer = fate(self, message)
            if answer is not None:
                self.answers[number] = answer
            numbers.append(number)
        return numbers

    def answer(self, message: Message) -> Message:
        return client.app(message, self.contexts[message.metadata.dst_node_id])

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        found = [self.answers.pop(number) for number in message_ids if number in self.answers]
        for message in found:
            if message.has_error() and message.error.reason == "unreadable":
                raise KeyError("no such type of object")
        return found

    def get_node_ids(self) -> list[int]:
        return list(self.nodes)

    def set_run(self, run: object) -> None:
        raise AssertionError("the strategy is not to use this")

    run = property(lambda self: None)

    def create_message(self, *arguments: object) -> Message:
        raise AssertionError("the strategy is not to use this")

    def send_and_receive(self, messages: object, *, timeout: object = None) -> list[Message]:
        raise AssertionError("the strategy is not to use this")


@pytest.fixture(autouse=True)
def _identity(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_run_id", "_node_id", "_task_id"):  # a message wants to know who makes it
        monkeypatch.setattr(TaskIdentity, name, 1)


@pytest.fixture(autouse=True)
def _threads() -> Iterable[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def asked(folder: Path, **changes: object) -> Request:
    values = {"study": STUDY, "strategy": "prunefl", "seed": 1, "output": str(folder)}
    return Request(**{**values, "timeout": 0.0, "wait": 0.0, **changes})


def train(grid: Loopback, request: Request) -> Outcome:
    Training(Exchange(grid), request).to_the_end()
    return Outcome.read(Path(request.output))


def test_it_comes_to_what_one_process_comes_to(tmp_path: Path) -> None:
    request = asked(tmp_path)
    plain = federate(Place(request).setting)
    found = train(Loopback(request), request).run
    assert found.mask_digest == plain.mask_digest
    assert found.history == plain.history
    assert all(torch.equal(found.weights[name], plain.weights[name]) for name in plain.weights)


def test_a_late_answer_is_dropped_and_its_client_waited_for(tmp_path: Path) -> None:
    request = asked(tmp_path)
    grid = Loopback(request)
    kept: list[Message] = []

    def holds_back(grid: Loopback, message: Message) -> None:
        kept.append(message)

    def brings_the_late_one(grid: Loopback, message: Message) -> Message:
        late = kept.pop()
        grid.answers[late.metadata.message_id] = grid.answer(late)
        return grid.answer(message)

    grid.fates = {(13, "2"): holds_back, (11, "3"): brings_the_late_one}
    reports = {each.round: each for each in train(grid, request).run.history.reports}
    assert reports[2].failed == {2: "has not answered in 0 s"}
    assert reports[3].failed == {2: "still owes an earlier answer"}
    assert reports[4].failed == {}
    assert reports[4].replied == (0, 1, 2)


def test_a_client_that_comes_back_as_another_node_goes_on(tmp_path: Path) -> None:
    request = asked(tmp_path)
    grid = Loopback(request)

    def dies(grid: Loopback, message: Message) -> None:
        grid.nodes[14] = 2  # the old node is still listed: Flower has not missed it yet
        grid.contexts[14] = Context(
            1, 14, {"partition-id": 2}, RecordDict(), grid.contexts[13].run_config
        )

    grid.fates = {(13, "2"): dies}
    reports = {each.round: each for each in train(grid, request).run.history.reports}
    assert [report.failed for report in reports.values()] == [
        {},
        {},
        {2: "has not answered in 0 s"},
        {},
        {},
    ]
    assert reports[3].replied == (0, 1, 2)


def test_a_client_that_comes_back_while_flower_misses_its_old_node_goes_on(tmp_path: Path) -> None:
    request = asked(tmp_path)
    grid = Loopback(request)
    owed: list[Message] = []

    def dies(grid: Loopback, message: Message) -> None:
        owed.append(message)
        grid.nodes[14] = 2
        grid.contexts[14] = Context(
            1, 14, {"partition-id": 2}, RecordDict(), grid.contexts[13].run_config
        )

    def is_missed(grid: Loopback, message: Message) -> Message:
        late = owed.pop()  # the SuperLink answers for a node that is gone
        del grid.nodes[13]
        grid.answers[late.metadata.message_id] = Message(Error(5, "gone"), reply_to=late)
        return grid.answer(message)

    grid.fates = {(13, "2"): dies, (14, ""): is_missed}
    reports = {each.round: each for each in train(grid, request).run.history.reports}
    assert reports[2].failed == {2: "has not answered in 0 s"}
    assert reports[4].replied == (0, 1, 2)


def test_a_client_that_comes_back_after_flower_missed_its_old_node_goes_on(tmp_path: Path) -> None:
    request = asked(tmp_path)
    grid = Loopback(request)

    def is_missed(grid: Loopback, message: Message) -> Message:
        del grid.nodes[13]
        grid.nodes[14] = 2
        grid.contexts[14] = Context(
            1, 14, {"partition-id": 2}, RecordDict(), grid.contexts[13].run_config
        )
        return Message(Error(5, "Error: Node Unavailable"), reply_to=message)

    grid.fates = {(13, "2"): is_missed}
    reports = {each.round: each for each in train(grid, request).run.history.reports}
    assert reports[2].failed == {2: "Error: Node Unavailable"}
    assert reports[3].replied == reports[4].replied == (0, 1, 2)


def test_who_lost_the_masks_is_told_them_in_the_same_round(tmp_path: Path) -> None:
    request = asked(tmp_path)
    grid = Loopback(request)

    def forgets(grid: Loopback, message: Message) -> Message:
        grid.contexts[13].state = RecordDict()
        return grid.answer(message)

    grid.fates = {(13, "2"): forgets}
    outcome = train(grid, request)
    usual = train(Loopback(request), asked(tmp_path / "usual"))
    before, after = usual.run.history.reports[2], outcome.run.history.reports[2]
    assert after.replied == (0, 1, 2)
    payload = before.sent // 3
    assert after.sent == before.sent + payload + -(-266_200 // 8)  # a fourth task, with masks


def test_answers_of_no_sense_spoil_nothing_but_themselves(tmp_path: Path) -> None:
    request = asked(tmp_path)
    grid = Loopback(request)

    def unreadable(grid: Loopback, message: Message) -> Message:
        return Message(Error(0, "unreadable"), reply_to=message)

    def raises(grid: Loopback, message: Message) -> Message:
        return Message(
            Error(2, "<class 'ValueError'>:\n<'out of\x1b[31m paint'>"), reply_to=message
        )

    def empty(grid: Loopback, message: Message) -> Message:
        return Message(RecordDict(), reply_to=message)

    grid.fates = {(12, "1"): unreadable, (12, "2"): raises, (12, "3"): empty}
    reports = {each.round: each for each in train(grid, request).run.history.reports}
    assert reports[1].failed[1].startswith("its answer can't be read: KeyError")
    assert reports[2].failed == {1: "<class 'ValueError'>: <'out of[31m paint'>"}
    assert reports[3].refused == {
        1: "client 1: a message must have values named 'update', but has none"
    }
    assert [report.replied for report in reports.values()][1:4] == [(0, 2)] * 3


def test_without_a_quorum_it_ends_and_goes_on_from_there(tmp_path: Path) -> None:
    request = asked(tmp_path)
    grid = Loopback(request)
    grid.fates = {(node, "3"): lambda grid, message: None for node in (12, 13)}
    with pytest.raises(FederatedError, match="round 3 needs updates of 2 clients, but has 1"):
        train(grid, request)
    assert (tmp_path / CHECKPOINT).exists()
    again = train(Loopback(request), request).run
    whole = train(Loopback(request), asked(tmp_path / "whole")).run
    assert again.mask_digest == whole.mask_digest
    assert again.history == whole.history
    assert not (tmp_path / CHECKPOINT).exists()


def test_nodes_that_are_no_clients_are_left_out(tmp_path: Path) -> None:
    request = asked(tmp_path)
    grid = Loopback(request, {11: 0, 12: 1, 13: 1, 14: 7})
    reports = train(grid, request).run.history.reports
    assert all(each.failed == {2: "is not there"} for each in reports[1:])
    other = asked(tmp_path / "other")
    grid = Loopback(other)
    grid.contexts[11].run_config = {**vars(other), "seed": 2}
    with pytest.raises(
        FederatedError, match="initial pruning needs client 0, but that is not there"
    ):
        train(grid, other)


def test_a_node_builds_a_model_of_ones_own_only_from_its_own_file(tmp_path: Path) -> None:
    study = STUDY.replace("lenet_300_100", "architecture_networks:Plain")
    request = asked(tmp_path, study=study)
    with pytest.raises(FederatedError, match="a model that a message names must be prunenas'"):
        _ = Place.of(vars(request), {}).setting
    own = tmp_path / "own.yaml"
    own.write_text(STUDY, encoding="utf-8")
    place = Place.of(vars(request), {"run-file": str(own)})
    assert place.trusted
    assert place.setting.architecture.source == "lenet_300_100"
