"""A client app whose client 2 means ill: another trick in each round. Shipped as a Flower app."""

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from prunenas.flower import client

BAD = 2
NAME = "classifier.4.bias"  # the last layer's of lenet_300_100

app = ClientApp()


@app.query()
def introduce(message: Message, context: Context) -> Message:
    return client.app(message, context)


@app.train()
def work(message: Message, context: Context) -> Message:
    answer = client.app(message, context)
    number = int(message.metadata.group_id)
    if context.node_config["partition-id"] == BAD and number in TRICKS:
        TRICKS[number](answer.content)
    return answer


def shapes(content: RecordDict) -> None:
    values = content["changes"][NAME].numpy()
    content["changes"][NAME] = Array(values[:-1].copy())


def not_a_number(content: RecordDict) -> None:
    values = content["changes"][NAME].numpy().copy()
    values[0] = float("nan")
    content["changes"][NAME] = Array(values)


def huge(content: RecordDict) -> None:
    values = content["changes"][NAME].numpy()
    content["changes"][NAME] = Array(values + values.dtype.type(1e6))


def masks(content: RecordDict) -> None:
    content["update"] = ConfigRecord({**content["update"], "mask-digest": "0123456789abcdef"})


def garbage(content: RecordDict) -> None:
    content["changes"] = ArrayRecord({NAME: Array("float32", (9,), "numpy.ndarray", b"garbage")})


TRICKS = {1: shapes, 2: not_a_number, 3: huge, 4: masks, 5: garbage}
