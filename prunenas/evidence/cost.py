"""What a comparison's trainings cost, before any of them has run."""

from collections.abc import Iterable
from dataclasses import dataclass

from prunenas.evidence.cells import Cell
from prunenas.methods import METHODS
from prunenas.spec import Comparison
from prunenas.training import scratch_epochs

_PASSES = 3
"""A training step is a forward pass and a backward one, which takes two products where the forward
pass takes one: by the weights and by the inputs."""


@dataclass(frozen=True)
class Cost:
    """What the trainings of a network's table cost; what methods train to find theirs comes on top.

    Attributes:
        networks: How many are trained and tested.
        dense_trainings: All of them, in trainings of the dense network by the same recipe.
        multiply_adds: Of all forward and backward passes.
    """

    networks: int
    dense_trainings: float
    multiply_adds: float


def cost(comparison: Comparison, cells: Iterable[Cell], *, dense_flops: int, images: int) -> Cost:
    """Return what cells cost.

    A masked network costs what the dense one does, since PyTorch multiplies with its zeros.

    Args:
        comparison: Whose they are.
        cells: Those that are to be trained.
        dense_flops: Fused multiply-adds of the dense network for one input.
        images: That are trained on in an epoch.
    """
    networks, total = 0, 0.0
    for cell in cells:
        if cell.arm == "ticket" and not _masked(cell):
            continue  # narrow networks have no original weights
        networks += 1
        total += _epochs(comparison, cell) * _share(cell) / comparison.train.epochs
    each = _PASSES * dense_flops * images * comparison.train.epochs
    return Cost(networks, total, total * each)


def _epochs(comparison: Comparison, cell: Cell) -> int:
    recipe = comparison.train
    if cell.flops_ratio is None:
        return recipe.epochs
    if cell.arm == "fine_tuned":
        return comparison.fine_tuning().epochs
    protocol = cell.arm if cell.arm in ("scratch_e", "scratch_b") else recipe.protocol
    parts = 1_000_000  # FLOPs are not known yet, but their share is
    return scratch_epochs(
        protocol,
        recipe.epochs,
        dense_flops=parts,
        flops=round(cell.flops_ratio * parts),
        cap=recipe.scratch_b_cap,
    )


def _share(cell: Cell) -> float:
    """Of a dense step's multiply-adds."""
    if cell.flops_ratio is None:
        return 1.0
    if cell.contender is None:
        return cell.flops_ratio
    return 1.0 if _masked(cell) else cell.flops_ratio


def _masked(cell: Cell) -> bool:
    if cell.contender is None:
        return False
    narrow = bool(cell.contender.hyperparameters.get("narrow"))
    return METHODS[cell.contender.method].granularity == "weight" and not narrow
