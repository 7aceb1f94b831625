"""Why an update can't be used: whoever sends it may be broken, or mean ill."""

import math
from collections.abc import Iterable, Iterator, Mapping
from statistics import median

import torch
from torch import Tensor

from prunenas.errors import FederatedError
from prunenas.federated.messages import Task, Update
from prunenas.federated.packing import Packing


def refusal(
    update: Update,
    task: Task | None,
    *,
    packing: Packing,
    shapes: Mapping[str, torch.Size],
    most: int,
) -> str | None:
    """Return what is wrong with an update, one line that names the client; None if nothing is.

    Args:
        update: What came.
        task: What its client was told in this round; None where it was told nothing.
        packing: The masks of the round.
        shapes: Of the whole tensors that travel.
        most: Examples that its task can be about; more would outweigh others.
    """
    why = next(_mistakes(update, task, packing, shapes, most), None)
    return None if why is None else f"client {update.client}: {why}"


def outliers(
    what: str, sizes: Mapping[int, float], times: float, before: float | None = None
) -> dict[int, str]:
    """Return by client which of a round's sizes are far above the usual, one line each.

    Args:
        what: The size, in words.
        sizes: By client, >= 0.
        times: How often the usual is too much.
        before: The usual size of the round before. Taken where there are fewer than three sizes;
            else, and without it, the usual is their median.
    """
    usual = before if before is not None and len(sizes) < 3 else median(sizes.values() or [0])
    limit = times * usual
    return {
        client: f"client {client}: {what} must be at most {limit:.3g}, "
        f"{times:g} times the usual, but is {size:.3g}"
        for client, size in sizes.items()
        if size > limit > 0
    }


def norm(tensors: Iterable[Tensor]) -> float:
    """Return the Euclidean norm of all tensors together."""
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors))


def root(squares: Iterable[Tensor]) -> float:
    """Return the root of the sum of all tensors together, which are >= 0."""
    return math.sqrt(sum(float(square.double().sum()) for square in squares))


def _mistakes(
    update: Update,
    task: Task | None,
    packing: Packing,
    shapes: Mapping[str, torch.Size],
    most: int,
) -> Iterator[str]:
    if task is None:
        yield "was not asked"
        return
    if update.round != task.round:
        yield f"must answer round {task.round}, but answers {update.round}"
        return
    if not 1 <= update.examples <= most:
        yield f"must have trained on 1 to {most} images, but on {update.examples}"
    if not math.isfinite(update.loss):
        yield f"its loss must be a number, but is {update.loss}"
    if task.round == 0:
        try:
            masked = {name: shapes[name] for name in packing.masks}
            packing = Packing.from_bits(update.masks or {}, masked)
        except FederatedError as error:
            yield str(error)
            return
        if empty := [name for name, kept in packing.counts().items() if not kept]:
            yield f"its masks must keep a weight of each layer, but keep none of {empty[0]}"
    elif update.masks is not None:
        yield "sent masks, but was not asked for any"
    if update.mask_digest != packing.digest:
        yield f"must have the masks {packing.digest}, but has {update.mask_digest[:40]!r}"
        return
    whole = {name: packing.shape(name, shape) for name, shape in shapes.items()}
    yield from _tensors("change", update.changes, whole)
    yield from _squares(update, task, packing)


def _squares(update: Update, task: Task, packing: Packing) -> Iterator[str]:
    if task.upload != (update.squares is not None):
        yield "sent squared gradients unasked" if update.squares else "sent no squared gradients"
    elif update.squares is not None:
        kept = packing.counts()
        places = {name: (packing.masks[name].numel() - kept[name],) for name in packing.kept}
        yield from _tensors("squared gradient", update.squares, places)
        for name, values in update.squares.items():
            if bool((values < 0).any()):
                yield f"squared gradients must be at least 0, but those of {name} are not"


def _tensors(
    what: str, tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[str]:
    if tensors.keys() != shapes.keys():
        odd = sorted(tensors.keys() ^ shapes.keys())
        yield f"must send a {what} of each tensor and no others, not so: {odd[0][:80]!r}"
        return
    for name, shape in shapes.items():
        tensor = tensors[name]
        if tuple(tensor.shape) != tuple(shape) or tensor.dtype != torch.float32:
            yield (
                f"the {what} of {name} must be float32 of {tuple(shape)}, "
                f"but is {str(tensor.dtype).removeprefix('torch.')} of {tuple(tensor.shape)}"
            )
            return
        if not bool(torch.isfinite(tensor).all()):
            yield f"the {what} of {name} must be finite, but is not"
            return
