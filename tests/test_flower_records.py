"""Tasks and updates survive the way as Flower's records; garbage ends as one line of the client."""

import io

import numpy as np
import pytest
import torch

pytest.importorskip("flwr", reason="Flower isn't installed: pip install 'prunenas[federated]'")

from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from prunenas.errors import FederatedError
from prunenas.federated import Task, Update, nbytes
from prunenas.flower.records import (
    array_bytes,
    arrays,
    task_of,
    task_record,
    tensors_of,
    update_of,
    update_record,
)

DIGEST = "0123456789abcdef"
TENSORS = {"a.weight": torch.tensor([1.5, -0.0, 3e-39]), "a.bias": torch.zeros(2, 0, 3)}
BITS = {"a.weight": torch.tensor([200, 7], dtype=torch.uint8)}


def same(one, other) -> bool:
    if one is None or other is None:
        return one is other
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype
        and one[name].shape == other[name].shape
        and one[name].numpy().tobytes() == other[name].numpy().tobytes()
        for name in one
    )


def update(**changes) -> Update:
    plain = {"client": 1, "round": 3, "examples": 20, "loss": 0.5, "mask_digest": DIGEST}
    return Update(**{**plain, "changes": TENSORS, **changes})


@pytest.mark.parametrize("masks", [None, BITS])
def test_a_task_arrives_as_it_was_sent(masks) -> None:
    task = Task(4, 0.1, TENSORS, DIGEST, masks=masks, accumulate=True, since=3, upload=True)
    found = task_of(task_record(task))
    assert (found.round, found.lr, found.mask_digest) == (4, 0.1, DIGEST)
    assert (found.accumulate, found.since, found.upload) == (True, 3, True)
    assert same(found.weights, TENSORS)
    assert same(found.masks, masks)


@pytest.mark.parametrize("squares", [None, {}, {"a.weight": torch.tensor([0.25])}])
def test_an_update_arrives_as_it_was_sent(squares) -> None:
    sent = update(squares=squares, masks=BITS)
    found = update_of(update_record(sent), 1)
    assert (found.client, found.round, found.examples, found.loss) == (1, 3, 20, 0.5)
    assert same(found.changes, TENSORS)
    assert same(found.squares, squares)
    assert same(found.masks, BITS)


def test_array_bytes_are_the_payload_and_one_header_for_each_tensor() -> None:
    task = Task(1, 0.1, TENSORS, DIGEST, masks=BITS)
    headers = 0
    for tensor in [*TENSORS.values(), *BITS.values()]:
        file = io.BytesIO()
        np.save(file, tensor.numpy())
        headers += file.tell() - tensor.nbytes
    assert array_bytes(task_record(task)) == nbytes(task) + headers


def raw(data: bytes) -> ArrayRecord:
    return ArrayRecord({"a.weight": Array("float32", (1,), "numpy.ndarray", data)})


def saved(array, **header) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    if header:
        file = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            file, {"shape": (1,), "fortran_order": False, "descr": "<f4", **header}
        )
        file.write(array.tobytes())
    return file.getvalue()


ONE = np.ones(1, dtype=np.float32)

GARBAGE = {
    "nothing": {"update": None},
    "another record": {"update": MetricRecord({"round": 3})},
    "no changes": {"changes": None},
    "changes that are no arrays": {"changes": ConfigRecord()},
    "a client that isn't it": {"update.client": 2},
    "a truth for a number": {"update.round": True},
    "text for a number": {"update.loss": "0.5"},
    "no examples": {"update.examples": None},
    "a digest of several lines": {"update.mask-digest": "abc\ndef"},
    "bytes that are no array": {"changes": raw(b"garbage")},
    "no bytes": {"changes": raw(b"")},
    "half an array": {"changes": raw(saved(np.ones(9, dtype=np.float32))[:-5])},
    "pickled objects": {"changes": raw(saved(np.array([{}], dtype=object)))},
    "a shape that fills the memory": {"changes": raw(saved(ONE, shape=(1 << 50,)))},
    "a negative shape": {"changes": raw(saved(ONE, shape=(-1, -1)))},
    "texts": {"changes": raw(saved(np.array(["a"])))},
    "the other byte order": {"changes": raw(saved(ONE, descr=">f4"))},
    "a header that is no header": {"changes": raw(b"\x93NUMPY\x01\x00\x08\x00((((((((")},
    "a newer format": {"changes": raw(b"\x93NUMPY\x03\x00" + saved(ONE)[8:])},
    "a name of several lines": {"changes": ArrayRecord({"a\nb": Array(ONE)})},
    "an endless name": {"changes": ArrayRecord({"a" * 300: Array(ONE)})},
}


@pytest.mark.parametrize("what", GARBAGE)
def test_garbage_is_one_line_that_names_the_client(what: str) -> None:
    content = update_record(update())
    for place, value in GARBAGE[what].items():
        record, _, key = place.partition(".")
        if key:
            values = {**content[record]}
            if value is None:
                del values[key]
            else:
                values[key] = value
            content[record] = ConfigRecord(values)
        elif value is None:
            del content[record]
        else:
            content[record] = value
    with pytest.raises(FederatedError, match=r"^client 1: ") as refused:
        update_of(content, 1)
    assert len(str(refused.value).splitlines()) == 1


def test_a_task_without_weights_is_refused() -> None:
    with pytest.raises(FederatedError, match="'task'"):
        task_of(RecordDict())


def test_what_a_client_keeps_survives() -> None:
    kept = {"rounds": torch.tensor([3, 4]), "mask:a.weight": BITS["a.weight"]}
    assert same(tensors_of(arrays(kept)), kept)
