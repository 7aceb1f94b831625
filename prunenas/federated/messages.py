"""What server and clients tell each other; plain values, whatever carries them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Task:
    """From the server to one client, for one round.

    Attributes:
        round: From 1; 0 asks for initial pruning.
        lr: Learning rate of the local steps.
        weights: What travels of the network's state by name, float32; see ``packing``.
        mask_digest: Of the masks that ``weights`` is packed by.
        masks: Their bits, uint8 by the weight's name; None where the client has them.
        accumulate: Whether the client adds up squared gradients of dropped weights.
        since: The first round of those sums.
        upload: Whether this round's answer brings them.
    """

    round: int
    lr: float
    weights: Mapping[str, Tensor]
    mask_digest: str
    masks: Mapping[str, Tensor] | None = None
    accumulate: bool = False
    since: int = 1
    upload: bool = False


@dataclass(frozen=True)
class Update:
    """A client's answer.

    Attributes:
        client: Its number, from 0.
        round: That of the task.
        examples: Images that its steps saw, each as often as it was seen.
        loss: Mean loss of its steps.
        mask_digest: Of the masks that ``changes`` is packed by.
        changes: Values after the steps minus those of the task, packed like them.
        squares: Sums of squared gradients at dropped places by the weight's name, float32; None
            where they weren't asked for.
        masks: Bits of the masks that initial pruning found; of round 0 alone, whose ``changes``
            are packed by these masks and not by the task's.
    """

    client: int
    round: int
    examples: int
    loss: float
    mask_digest: str
    changes: Mapping[str, Tensor]
    squares: Mapping[str, Tensor] | None = None
    masks: Mapping[str, Tensor] | None = None


def nbytes(message: Task | Update) -> int:
    """Return the bytes of all tensors of a message: its payload, whatever carries it."""
    parts: list[Mapping[str, Tensor] | None] = [message.masks]
    if isinstance(message, Task):
        parts.append(message.weights)
    else:
        parts += [message.changes, message.squares]
    return sum(_bytes(part.values()) for part in parts if part is not None)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
