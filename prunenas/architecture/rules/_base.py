"""What rules are made of: their form, and what several of them do."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils.flop_counter import FlopCounterMode

from prunenas.architecture.channels import Axis
from prunenas.architecture.flops import COUNTED
from prunenas.architecture.graph import BATCH, Product, Value, Walk

Shape = tuple[int, ...]
Axes = tuple[Axis, ...]
Arguments = Mapping[str, Any]
Rule = Callable[[Arguments, Sequence[Shape], Walk, torch.fx.Node], Axes | list[Axes]]

ORDERS = "combines tensors whose channels lie in different orders"
"""Why channels are frozen that would have to be the same and are not."""

FOREIGN = "uses a weight that no layer made by the constructor holds (a parameter, a copied layer)"
"""Why channels that such an operator reads are frozen."""


def foreign(walk: Walk, node: torch.fx.Node) -> str:
    """Why channels that meet the weight of no layer are frozen."""
    if walk.kind(node) == "MultiheadAttention":
        return f"{walk.where(node)} is nn.MultiheadAttention: it fixes its features and its heads"
    return f"{walk.where(node)} {FOREIGN}"


def operands(arguments: Arguments) -> list[Value]:
    found: list[Value] = []
    for value in arguments.values():
        if isinstance(value, Value):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found.extend(v for v in value if isinstance(v, Value))
    return found


def plain(shape: Shape) -> Axes:
    return (None,) * len(shape)


def opaque(
    a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node
) -> Axes | list[Axes]:
    reason = f"{walk.where(node)} does to its channels what no rule describes"
    for value in operands(a):
        for axis in value.axes:
            walk.channels.freeze(axis, reason)
    multiplied = _multiplied(node)
    if multiplied:  # by frozen sizes alone
        walk.products.append(Product(for_one(multiplied, *operands(a))))
    axes = [plain(shape) for shape in shapes]
    return axes if isinstance(node.meta.get("val"), (list, tuple)) else axes[0]


def _multiplied(node: torch.fx.Node) -> int:
    """Multiply-adds of an operator such as einsum in the traced batch, by torch's own counter."""
    name = str(node.target).removeprefix("aten.").partition(".")[0].rstrip("_")
    if name not in COUNTED:
        return 0
    args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), lambda n: n.meta["val"])
    function: Any = node.target
    fake = next(v for v in _leaves((args, kwargs)) if isinstance(v, FakeTensor))
    with fake.fake_mode, torch.no_grad(), FlopCounterMode(display=False) as counter:
        function(*args, **kwargs)
    return int(counter.get_total_flops()) // 2


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        value = tuple(value.values())
    return [x for v in value for x in _leaves(v)] if isinstance(value, (list, tuple)) else [value]


def for_one(count: int, *operands: Value) -> int:
    """What of a count in the traced batch falls to one input; parameters' own products fully."""
    return count // BATCH if any(operand.batched for operand in operands) else count


def fixed_axis(axis: Axis, size: int, walk: Walk, node: torch.fx.Node) -> Axis:
    """The axis, or a frozen one where the graph lost track of the channels."""
    if axis is not None:
        return axis
    return walk.channels.new(
        size, frozen=f"{walk.where(node)} reads channels of which no layer is known"
    )


def settled(value: Any, walk: Walk, node: torch.fx.Node) -> Any:
    """An argument for a rule that knows layers' channels alone.

    Sizes of a parameter that have not met channels stay as they are from here on.
    """
    if isinstance(value, (list, tuple)):
        return [settled(v, walk, node) for v in value]
    if not isinstance(value, Value) or not any(map(walk.channels.is_loose, value.axes)):
        return value
    return replace(value, axes=tuple(fixed_size(axis, walk, node) for axis in value.axes))


def fixed_size(axis: Axis, walk: Walk, node: torch.fx.Node) -> Axis:
    """The axis; None where it holds a parameter's own size, which is then fixed for good."""
    if not walk.channels.is_loose(axis):
        return axis
    walk.channels.freeze(axis, f"{walk.where(node)} needs a parameter at its full size")
    return None


def broadcast(
    tensors: list[Value], position: int, rank: int, size: int, walk: Walk, node: torch.fx.Node
) -> Axis:
    result: Axis = None
    fixed: str | None = None
    for tensor in tensors:
        own = position - (rank - len(tensor.shape))
        if own < 0 or tensor.shape[own] != size or size == 1:
            continue
        axis = tensor.axes[own]
        if axis is None:
            fixed = fixed or walk.fixed_tensor(tensor)
        elif result is None:
            result = axis
        else:
            walk.channels.join(result, axis, f"{walk.where(node)} {ORDERS}")
    if fixed is not None and result is not None:
        walk.channels.freeze(result, f"{walk.where(node)} combines its channels with {fixed}")
        result = None if walk.channels.is_loose(result) else result
    return result
