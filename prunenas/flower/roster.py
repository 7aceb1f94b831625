"""Which node of a Flower federation is which client."""

import time
from collections.abc import Collection

from flwr.app import ConfigRecord, Message, RecordDict

from prunenas.flower.exchange import LOG, Exchange

_PAUSE = 0.5  # seconds between two looks for nodes


class Roster:
    """The clients that are there.

    Every node is asked which client it is. Where two say the same, the first keeps the number for
    as long as it answers: whom to let into a federation at all is for Flower's own authentication
    of nodes to say.

    Args:
        exchange: Where nodes are.
        clients: How many there are in the federation.
        study: Digest of what the clients must be set up for.
        timeout: Seconds that a node has for its answer.
    """

    def __init__(self, exchange: Exchange, clients: int, study: str, timeout: float) -> None:
        self._exchange = exchange
        self._clients = clients
        self._study = study
        self._timeout = timeout
        self._said: dict[int, int | None] = {}  # which client a node is, in order of arrival

    def node(self, client: int, busy: Collection[int] = ()) -> int | None:
        """Return a client's node, one that isn't busy if it can be; None where it is not there."""
        nodes = [node for node, said in self._said.items() if said == client]
        return next((node for node in nodes if node not in busy), nodes[0] if nodes else None)

    def wait(self, seconds: float) -> None:
        """Look for nodes until all clients are there, or the time is over."""
        until = time.monotonic() + seconds
        while True:
            self.refresh()
            missing = set(range(self._clients)) - set(self._said.values())
            if not missing or time.monotonic() >= until:
                return
            time.sleep(_PAUSE)

    def refresh(self) -> None:
        """Strike off the nodes that are gone, and ask the new ones who they are."""
        there = set(self._exchange.get_node_ids())
        for node in self._said.keys() - there:
            LOG.warning("Node %s, client %s, is gone", node, self._said.pop(node))
            self._exchange.forget(node)
        new = sorted(there - self._said.keys() - self._exchange.busy())
        if not new:
            return
        question = RecordDict({"study": ConfigRecord({"digest": self._study})})
        answers = self._exchange.send_and_receive(
            [Message(question, dst_node_id=node, message_type="query") for node in new],
            timeout=self._timeout,
        )
        for answer in sorted(answers, key=lambda each: each.metadata.src_node_id):
            node = answer.metadata.src_node_id
            number, why = _introduction(answer, self._clients)
            self._said[node] = number
            if number is None:
                LOG.warning("Node %s is no client: %s", node, why)
            elif (first := self.node(number)) != node:
                LOG.warning("Node %s says that it is a client that node %s is", node, first)


def _introduction(answer: Message, clients: int) -> tuple[int | None, str]:
    """The number that a node says it has, or why it has none."""
    if answer.has_error():
        return None, trouble(answer)
    record = answer.content.get("client")
    number = record.get("number") if isinstance(record, ConfigRecord) else None
    if type(number) is not int or not 0 <= number < clients:
        why = trouble(answer)
        return None, why or f"its number must be 0 to {clients - 1}, but it said {number!r:.40}"
    return number, ""


def trouble(answer: Message) -> str:
    """Return why an answer is none, one short line; an empty one where it may be one."""
    if answer.has_error():
        why = answer.error.reason or f"Flower's error {answer.error.code}"
    else:
        record = answer.content.get("trouble")
        told = record.get("why") if isinstance(record, ConfigRecord) else ""
        why = told if isinstance(told, str) else "its trouble is no text"
    line = " ".join(why.split())
    printable = "".join(character for character in line if character.isprintable())
    return printable if len(printable) <= 300 else f"{printable[:300]}…"
