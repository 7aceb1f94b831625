"""A Flower grid that remembers who owes an answer, and that no message can break."""

import logging
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid

if TYPE_CHECKING:
    from flwr.supercore.run import Run

LOG = logging.getLogger("flwr")
"""Flower's own: what goes here is what ``flwr log`` shows."""

_PAUSE = 0.2  # seconds between two looks for answers; Flower's own grid takes 3
_UNKNOWN = 0  # Flower's code of an error of no other kind


class Exchange(Grid):
    """Sends tasks and collects answers over another grid.

    Answers are fetched one by one, so that one that can't be read spoils no other. A node that
    didn't answer in time is `busy` until it does; what it then says comes too late and is dropped.

    Args:
        grid: The one that Flower hands to the server.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._owed: dict[str, Message] = {}  # by its id, a message that nobody has answered yet

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Send messages, and return the answers that come in time, errors among them.

        An answer's ``metadata.src_node_id`` is the node that was asked, whatever it claims.
        """
        asked = self._send(list(messages))
        until = None if timeout is None else time.monotonic() + timeout
        answers: list[Message] = []
        while asked:
            came = self._collect(asked)
            answers += came.values()
            asked -= came.keys()
            if not asked or (until is not None and time.monotonic() >= until):
                break
            time.sleep(_PAUSE)
        return answers

    def busy(self) -> set[int]:
        """Return the nodes that still owe an answer; answers that came too late are dropped."""
        for answer in self._collect(set(self._owed)).values():
            LOG.warning("An answer of node %s came too late", answer.metadata.src_node_id)
        return {message.metadata.dst_node_id for message in self._owed.values()}

    def forget(self, node: int) -> None:
        """Expect no answers of a node any more: it is gone."""
        self._owed = {
            number: message
            for number, message in self._owed.items()
            if message.metadata.dst_node_id != node
        }

    def _send(self, messages: list[Message]) -> set[str]:
        asked = set()
        for message in messages:  # one by one: a list of them is refused as a whole
            for number in self._grid.push_messages([message]):
                if number:
                    self._owed[number] = message
                    asked.add(number)
        return asked

    def _collect(self, asked: set[str]) -> dict[str, Message]:
        """The answers that are there, by the id of what they answer."""
        came = {}
        for number in asked:
            answer = self._answer(number)
            if answer is not None:
                came[number] = answer
                del self._owed[number]
        return came

    def _answer(self, number: str) -> Message | None:
        asked = self._owed[number]
        try:
            answers = list(self._grid.pull_messages([number]))
        except Exception as error:  # Flower's reader may raise anything at bytes of no sense
            reason = f"its answer can't be read: {type(error).__name__}: {error}"
            return Message(Error(_UNKNOWN, reason), reply_to=asked)
        if not answers:
            return None
        answer = answers[0]
        if answer.has_error():
            return Message(answer.error, reply_to=asked)
        return Message(answer.content, reply_to=asked)

    def set_run(self, run: "Run") -> None:
        """See `Grid`."""
        self._grid.set_run(run)

    @property
    def run(self) -> "Run":
        """See `Grid`."""
        return self._grid.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """See `Grid`; Flower itself has done away with it."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """Return the nodes that are there."""
        return list(self._grid.get_node_ids())

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """See `Grid`."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """See `Grid`."""
        return self._grid.pull_messages(message_ids)
