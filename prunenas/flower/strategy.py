"""A strategy of Flower's that does what a prunenas `Server` decides."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from torch import Tensor

from prunenas.errors import FederatedError
from prunenas.federated import RoundReport, Server, Task, Update
from prunenas.flower.exchange import LOG, Exchange
from prunenas.flower.records import LOST, array_bytes, arrays, task_record, update_of
from prunenas.flower.roster import Roster, trouble

_PRUNING = 20  # times a round's timeout; it takes up to 1000 passes over 10 batches


class FederatedStrategy(Strategy):
    """Sends tasks to the nodes of the chosen clients, and their answers to the server.

    Any of the room ``federated``'s strategies: conventional training too. A client that isn't
    there, that doesn't answer in time or that answers with an error has failed in this round; one
    whose answer can't be used is refused; the others go on, as long as the quorum is there.

    Args:
        server: Decides everything.
        roster: Knows the nodes.
        exchange: Reaches them.
        timeout: Seconds that the clients of a round have.
        told: Told of each round's report, and of the bytes of its arrays as Flower sent and
            received them.
    """

    def __init__(
        self,
        server: Server,
        roster: Roster,
        exchange: Exchange,
        timeout: float,
        told: Callable[[RoundReport, tuple[int, int]], None],
    ) -> None:
        self._server = server
        self._roster = roster
        self._exchange = exchange
        self._timeout = timeout
        self._told = told
        self._asked: dict[int, int] = {}  # clients of this round, by node
        self._failed: dict[int, str] = {}
        self._wire = [0, 0]
        self._weights: tuple[Mapping[str, Tensor], ArrayRecord] | None = None

    def prune(self) -> None:
        """Have one client prune initially, where the strategy wants that.

        Raises:
            FederatedError: It can't, or its answer can't be used.
        """
        pruner = self._server.pruner()
        if pruner is None:
            return
        messages = self._messages((pruner,))
        updates, refused = self._updates(
            self._exchange.send_and_receive(messages, timeout=_PRUNING * self._timeout)
        )
        if why := refused.get(pruner) or self._failed.get(pruner):
            why = why.removeprefix(f"client {pruner}: ")
            raise FederatedError(f"initial pruning needs client {pruner}, but that {why}")
        self._told(self._server.begin(updates[0]), self._traffic())

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return the tasks of the round's clients; see Flower's `Strategy`."""
        del server_round, arrays, config, grid  # the server knows
        return self._messages(self._server.chosen())

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Hand the updates to the server; see Flower's `Strategy`.

        Raises:
            FederatedError: There is no quorum.
        """
        del server_round
        updates, refused = self._updates(replies)
        report = self._server.finish(updates, {**self._failed, **refused})
        report = replace(report, failed=dict(self._failed), refused={**report.refused, **refused})
        for client, why in report.failed.items():
            LOG.warning("Round %s: client %s: %s", report.round, client, why)
        for why in report.refused.values():
            LOG.warning("Round %s: refused: %s", report.round, why)
        self._told(report, self._traffic())
        return None, MetricRecord({"loss": report.loss, "density": report.density})

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return nothing: the server validates."""
        return ()

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Return nothing: the server validates."""
        return None

    def summary(self) -> None:
        """Log what will be done."""
        federation = self._server.federation
        LOG.info("\t├──> strategy: %s", type(self._server.strategy).__name__)
        LOG.info("\t├──> clients of a round: %s of %s", federation.per_round, federation.clients)
        LOG.info("\t└──> rounds done: %s of %s", self._server.round, federation.rounds)

    def _messages(self, clients: Iterable[int]) -> list[Message]:
        """The tasks of clients, and who can't be told one."""
        self._asked, self._failed = {}, {}
        self._roster.refresh()  # who was gone may be back, as another node
        busy = self._exchange.busy()
        messages = []
        for client in clients:
            node = self._roster.node(client, busy)
            if node is None:
                self._failed[client] = "is not there"
            elif node in busy:
                self._failed[client] = "still owes an earlier answer"
            else:
                messages.append(self._message(client, node))
        return messages

    def _message(self, client: int, node: int) -> Message:
        task = self._server.task(client)
        content = task_record(task, self._record(task))
        self._wire[0] += array_bytes(content)
        self._asked[node] = client
        return Message(content, dst_node_id=node, message_type="train", group_id=str(task.round))

    def _record(self, task: Task) -> ArrayRecord:
        """The task's weights as a record, made once for all clients of a round."""
        if self._weights is None or self._weights[0] is not task.weights:
            self._weights = (task.weights, arrays(task.weights))
        return self._weights[1]

    def _updates(self, replies: Iterable[Message]) -> tuple[list[Update], dict[int, str]]:
        """What came in time and can be read, and why the rest can't be."""
        updates, refused = [], {}
        answers = self._with_masks(replies)
        for client, answer in sorted(answers.items()):
            if why := trouble(answer):
                self._failed[client] = why
                continue
            self._wire[1] += array_bytes(answer.content)
            try:
                updates.append(update_of(answer.content, client))
            except FederatedError as error:
                refused[client] = str(error)
        for client in sorted({*self._asked.values()} - answers.keys()):
            self._failed[client] = f"has not answered in {self._timeout:g} s"
        return updates, refused

    def _with_masks(self, replies: Iterable[Message]) -> dict[int, Message]:
        """The answers by client; those who lost their masks are told them, and answer again."""
        answers = {self._asked[reply.metadata.src_node_id]: reply for reply in replies}
        lost = {
            client: reply.metadata.src_node_id
            for client, reply in answers.items()
            if reply.has_content() and LOST in reply.content
        }
        for client in lost:
            LOG.warning("Client %s has lost its masks", client)
            self._server.lost_masks(client)
            del answers[client]
        again = [self._message(client, node) for client, node in lost.items()]
        for reply in self._exchange.send_and_receive(again, timeout=self._timeout):
            answers[self._asked[reply.metadata.src_node_id]] = reply
        return answers

    def _traffic(self) -> tuple[int, int]:
        sent, received = self._wire
        self._wire = [0, 0]
        return sent, received
