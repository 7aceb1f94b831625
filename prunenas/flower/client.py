"""The client's side of the Flower app: ``prunenas.flower.client:app``.

A node is client ``partition-id`` of its node config. What a client keeps from round to round goes
into Flower's context: Flower may run each task in another process.
"""

import copy
from collections.abc import Callable, Mapping

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from prunenas.errors import FederatedError, PrunenasError
from prunenas.federated import Client, LostMasks
from prunenas.flower.records import LOST, arrays, task_of, tensors_of, update_record
from prunenas.flower.request import Place

_KEPT = "prunenas"  # of the context's state

app = ClientApp()


@app.query()
def introduce(message: Message, context: Context) -> Message:
    """Say which client this node is, if it is set up for the server's study."""
    return _answer(message, lambda: _introduction(message.content, context))


@app.train()
def work(message: Message, context: Context) -> Message:
    """Carry out a task: a round of training, or initial pruning."""
    return _answer(message, lambda: _work(message.content, context))


def _answer(message: Message, make: Callable[[], RecordDict]) -> Message:
    """The answer, or one line about what went wrong."""
    try:
        content = make()
    except LostMasks:
        content = RecordDict({LOST: ConfigRecord()})
    except PrunenasError as error:
        content = RecordDict({"trouble": ConfigRecord({"why": str(error)})})
    return Message(content, reply_to=message)


def _introduction(content: RecordDict, context: Context) -> RecordDict:
    place = Place.of(context.run_config, context.node_config)
    number = _number(context.node_config, place.setting.federation.clients)
    asked = content["study"]
    digest = asked.get("digest") if isinstance(asked, ConfigRecord) else None
    if digest != place.digest:
        raise FederatedError(
            "a node must be set up for the server's study, but its run file or its data are others"
        )
    return RecordDict({"client": ConfigRecord({"number": number})})


def _work(content: RecordDict, context: Context) -> RecordDict:
    torch.set_num_threads(1)  # as in one process: figures depend on how sums are split
    place = Place.of(context.run_config, context.node_config)
    setting = place.setting
    number = _number(context.node_config, setting.federation.clients)
    network = setting.network()
    client = _fresh(place.clients[number])
    kept = context.state.get(_KEPT)
    if isinstance(kept, ArrayRecord):
        client.load(tensors_of(kept), network)
    update = client.work(task_of(content), network)
    context.state[_KEPT] = arrays(client.state())
    return update_record(update)


def _fresh(client: Client) -> Client:
    """A client that knows no masks: a process may work for several runs and clients."""
    return copy.copy(client)


def _number(node: Mapping[str, object], clients: int) -> int:
    number, of = node.get("partition-id"), node.get("num-partitions", clients)
    if type(number) is not int or not 0 <= number < clients:
        raise FederatedError(
            f"a node's `partition-id` must be 0 to {clients - 1}, but is {number!r:.40}"
        )
    if of != clients:
        raise FederatedError(
            f"a node's `num-partitions` must be the study's {clients} clients, but is {of!r:.40}"
        )
    return number
