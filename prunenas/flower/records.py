"""Tasks and updates as Flower's records, and back: strictly, because anybody may have sent them.

A message holds a ``ConfigRecord`` of plain values and an ``ArrayRecord`` for each group of tensors,
in Flower's own form (``numpy.ndarray``: a NumPy file each). They are read without NumPy's loader,
which parses a header as Python and makes room for whatever shape it claims.
"""

import re
from collections.abc import Mapping
from math import prod
from typing import TypeVar

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from torch import Tensor

from prunenas.errors import FederatedError
from prunenas.federated import Task, Update

LOST = "lost-masks"
"""In a message's content: its client has not the masks that its task's weights are packed by."""

_DTYPES = {"<f4": "float32", "|u1": "uint8", "<i8": "int64"}
_MAGIC = (
    b"\x93NUMPY\x01\x00"  # https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
)
_HEADER = re.compile(
    rb"\{'descr': '(<f4|\|u1|<i8)', 'fortran_order': False, "
    rb"'shape': \(((?:\d{1,12}, ?)*(?:\d{1,12})?)\), \} *\n"
)
_DIGEST = re.compile(r"[0-9a-f]{1,64}")
_NAME = 200  # characters of a tensor's name; PyTorch's own are shorter
_Plain = TypeVar("_Plain", int, float, str, bool)


def task_record(task: Task, weights: ArrayRecord | None = None) -> RecordDict:
    """Return a task as a message's content.

    Args:
        task: Of one client.
        weights: Its weights, where they are a record already: all clients of a round share them.
    """
    content = RecordDict(
        {
            "task": ConfigRecord(
                {
                    "round": task.round,
                    "lr": task.lr,
                    "mask-digest": task.mask_digest,
                    "accumulate": task.accumulate,
                    "since": task.since,
                    "upload": task.upload,
                }
            ),
            "weights": arrays(task.weights) if weights is None else weights,
        }
    )
    if task.masks is not None:
        content["masks"] = arrays(task.masks)
    return content


def task_of(content: RecordDict) -> Task:
    """Return the task that a message's content holds.

    Raises:
        FederatedError: It holds none.
    """
    plain = _config(content, "task")
    return Task(
        round=_value(plain, "round", int),
        lr=_value(plain, "lr", float),
        weights=_group(content, "weights"),
        mask_digest=_digest(plain),
        masks=_group(content, "masks") if "masks" in content else None,
        accumulate=_value(plain, "accumulate", bool),
        since=_value(plain, "since", int),
        upload=_value(plain, "upload", bool),
    )


def update_record(update: Update) -> RecordDict:
    """Return an update as a message's content."""
    content = RecordDict(
        {
            "update": ConfigRecord(
                {
                    "client": update.client,
                    "round": update.round,
                    "examples": update.examples,
                    "loss": update.loss,
                    "mask-digest": update.mask_digest,
                }
            ),
            "changes": arrays(update.changes),
        }
    )
    for name, group in (("squares", update.squares), ("masks", update.masks)):
        if group is not None:
            content[name] = arrays(group)
    return content


def update_of(content: RecordDict, client: int) -> Update:
    """Return the update that a message's content holds.

    Args:
        content: Whatever came.
        client: Whose node sent it.

    Raises:
        FederatedError: It holds none, or another client's; one line that names the client. What
            else may be wrong with it `Server.refusal` says.
    """
    try:
        plain = _config(content, "update")
        if (number := _value(plain, "client", int)) != client:
            raise FederatedError(f"must answer for itself, but answers as client {number}")
        return Update(
            client=client,
            round=_value(plain, "round", int),
            examples=_value(plain, "examples", int),
            loss=_value(plain, "loss", float),
            mask_digest=_digest(plain),
            changes=_group(content, "changes"),
            squares=_group(content, "squares") if "squares" in content else None,
            masks=_group(content, "masks") if "masks" in content else None,
        )
    except FederatedError as error:
        raise FederatedError(f"client {client}: {error}") from None


def arrays(tensors: Mapping[str, Tensor]) -> ArrayRecord:
    """Return tensors, wherever they are, as one record."""
    return ArrayRecord(
        {name: Array(tensor.detach().cpu().numpy()) for name, tensor in tensors.items()}
    )


def tensors_of(record: ArrayRecord) -> dict[str, Tensor]:
    """Return the tensors of a record, on the CPU.

    Raises:
        FederatedError: A name or an array is none of ours.
    """
    found = {}
    for name, array in record.items():
        if not name.isprintable() or len(name) > _NAME:
            raise FederatedError(f"a tensor's name must be a short line, but is {name[:40]!r}")
        found[name] = _tensor(name, array)
    return found


def array_bytes(content: RecordDict) -> int:
    """Return the bytes of a message's arrays as Flower sends them, their headers included."""
    return sum(
        len(array.data) for record in content.array_records.values() for array in record.values()
    )


def _tensor(name: str, array: Array) -> Tensor:
    start = len(_MAGIC) + 2
    size = int.from_bytes(array.data[len(_MAGIC) : start], "little")
    header = _HEADER.fullmatch(array.data[start : start + size])
    if not array.data.startswith(_MAGIC) or header is None:
        raise FederatedError(
            f"{name} must be an array of {', '.join(_DTYPES.values())} in C order, but isn't"
        )
    dtype, row = np.dtype(header[1].decode()), array.data[start + size :]
    shape = tuple(int(length) for length in re.findall(rb"\d+", header[2]))
    if prod(shape) * dtype.itemsize != len(row):
        raise FederatedError(f"{name} must be as large as its shape {shape} says, but is not")
    # A copy: PyTorch doesn't take memory that must not be written to.
    return torch.from_numpy(np.frombuffer(row, dtype).reshape(shape).copy())


def _group(content: RecordDict, key: str) -> dict[str, Tensor]:
    record = content.get(key)
    if not isinstance(record, ArrayRecord):
        raise FederatedError(f"a message must have arrays named {key!r}, but has none")
    return tensors_of(record)


def _config(content: RecordDict, key: str) -> ConfigRecord:
    record = content.get(key)
    if not isinstance(record, ConfigRecord):
        raise FederatedError(f"a message must have values named {key!r}, but has none")
    return record


def _value(record: ConfigRecord, key: str, kind: type[_Plain]) -> _Plain:
    value = record.get(key)
    if type(value) is not kind:  # not isinstance: a bool is no number here
        found = "missing" if value is None else type(value).__name__
        raise FederatedError(f"{key!r} must be {kind.__name__}, but is {found}")
    return value


def _digest(record: ConfigRecord) -> str:
    digest = _value(record, "mask-digest", str)
    if not _DIGEST.fullmatch(digest):
        raise FederatedError(f"'mask-digest' must be hexadecimal, but is {digest[:40]!r}")
    return digest
