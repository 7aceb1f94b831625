"""What each ATen operator does to the channels: a table of small functions.

A rule gets the operator's arguments by name (tensors as ``Value``), the shape of each output, and
the walk it may write into; it returns the axes of the output, or a list of them. An operator
without a rule is never taken for element-wise: the channels that go in are frozen, with the
operator and its layer as the reason.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils.flop_counter import FlopCounterMode

from prunenas.architecture.channels import Axis, Run
from prunenas.architecture.flops import COUNTED
from prunenas.architecture.graph import BATCH, LayerAxes, Product, Value, Walk

Shape = tuple[int, ...]
Axes = tuple[Axis, ...]
Arguments = Mapping[str, Any]
Rule = Callable[[Arguments, Sequence[Shape], Walk, torch.fx.Node], Axes | list[Axes]]


def apply(node: torch.fx.Node, values: Mapping[torch.fx.Node, Any], walk: Walk) -> Any:
    """The value or list of values that an operator returns, by its rule."""
    if node.target is operator.getitem:
        source, index = node.args[0], node.args[1]
        assert isinstance(source, torch.fx.Node)
        found = values[source]
        return found[index] if isinstance(found, list) and isinstance(index, int) else None
    example: Any = node.meta.get("val")
    many = isinstance(example, (list, tuple))
    outputs = [e for e in (example if many else [example]) if isinstance(e, torch.Tensor)]
    shapes = [tuple(output.shape) for output in outputs]
    if not shapes:
        return None
    schema = getattr(node.target, "_schema", None)
    given = torch.fx.node.map_arg((node.args, node.kwargs), lambda n: values[n])
    if schema is None:
        arguments: Arguments = {str(i): value for i, value in enumerate(given[0])}
        rule: Rule = _opaque
    else:
        names = [argument.name for argument in schema.arguments]
        defaults = {a.name: a.default_value for a in schema.arguments if a.has_default_value()}
        arguments = {**defaults, **dict(zip(names, given[0], strict=False)), **given[1]}
        name = schema.name.removeprefix("aten::").rstrip("_")
        # torch.max(a, b) shares its name with the maximum over an axis.
        rule = _pointwise if schema.overload_name == "other" else RULES.get(name, _opaque)
        if rule is _opaque and torch.Tag.pointwise in getattr(node.target, "tags", ()):
            rule = _pointwise
    batched = any(value.batched for value in _tensors(arguments)) or (
        rule in (_new, _expand, _repeat) and shapes[0][:1] == (BATCH,)
    )
    axes = rule(arguments, shapes, walk, node)
    if many:
        listed = axes if isinstance(axes, list) else [axes] * len(shapes)
        return [
            Value(shape, axis, batched=batched) for shape, axis in zip(shapes, listed, strict=True)
        ]
    assert isinstance(axes, tuple)
    return Value(shapes[0], axes, batched=batched)


def _tensors(arguments: Arguments) -> list[Value]:
    found: list[Value] = []
    for value in arguments.values():
        if isinstance(value, Value):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found.extend(v for v in value if isinstance(v, Value))
    return found


def _plain(shape: Shape) -> Axes:
    return (None,) * len(shape)


def _opaque(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> list[Axes]:
    reason = f"{walk.where(node)} has no rule for channels"
    for value in _tensors(a):
        for axis in value.axes:
            walk.channels.freeze(axis, reason)
    multiplied = _multiplied(node)
    if multiplied:  # by frozen sizes alone
        walk.products.append(Product(_for_one(multiplied, *_tensors(a))))
    axes = [_plain(shape) for shape in shapes]
    return axes if isinstance(node.meta.get("val"), (list, tuple)) else axes[0]  # type: ignore[return-value]


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


def _for_one(count: int, *operands: Value) -> int:
    """What of a count in the traced batch falls to one input; parameters' own products fully."""
    return count // BATCH if any(operand.batched for operand in operands) else count


def _same(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    """Same shape as the first tensor: dropout, softmax, clone."""
    del walk, node
    tensors = _tensors(a)
    return tensors[0].axes if tensors and tensors[0].shape == shapes[0] else _plain(shapes[0])


def _new(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    """A new tensor of a size that the graph writes out."""
    del a, walk, node
    return _plain(shapes[0])


def _pointwise(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    """Element by element with broadcasting: axes of equal length carry the same channels."""
    return tuple(
        _broadcast(_tensors(a), position, len(shapes[0]), size, walk, node)
        for position, size in enumerate(shapes[0])
    )


def _broadcast(
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
            fixed = fixed or (f"parameter {tensor.parameter!r}" if tensor.parameter else "a tensor")
        elif result is None:
            result = axis
        else:
            walk.channels.join(result, axis, f"{walk.where(node)} joins channels in another order")
    if fixed is not None and result is not None:
        walk.channels.freeze(result, f"{walk.where(node)} meets {fixed} of fixed size")
    return result


def _convolution(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    x, weight, groups = a["input"], a["weight"], int(a["groups"])
    transposed = "transpose" in str(node.target)
    shape = shapes[0]
    size_in, size_out = x.shape[1], shape[1]
    fan_in = _channels(x.axes[1], size_in, walk, node)
    layer = walk.layer_of(node, "conv", weight, (size_in, size_out, groups))
    fan_out: Axis
    depthwise = groups > 1 and groups == size_in and size_out % size_in == 0
    if layer is None:
        walk.channels.freeze(fan_in, f"{walk.where(node)} {_FOREIGN}")
        fan_out = walk.channels.new(size_out, frozen=f"{walk.where(node)} {_FOREIGN}")
    elif layer.name in walk.axes:  # the same weights a second time
        known = walk.axes[layer.name]
        walk.channels.join(known.fan_in, fan_in, f"{walk.where(node)} is used twice")
        fan_out = known.fan_out
    else:
        if depthwise:
            times = size_out // size_in
            fan_out = tuple(Run(group, repeat * times) for group, repeat in fan_in or ())
        else:
            fan_out = walk.channels.new(size_out)
            walk.producers.append((str(layer.name), prod(shape[2:])))
            if groups > 1:
                walk.channels.divide(fan_in, groups, walk.where(node), blocks=True)
                walk.channels.divide(fan_out, groups, walk.where(node), blocks=True)
        walk.axes[str(layer.name)] = LayerAxes(layer, fan_in, fan_out, groups, depthwise)
    places = prod(x.shape[2:]) * x.shape[0] if transposed else prod(shape[2:]) * shape[0]
    factor = _for_one(places * prod(weight.shape[2:]), x, weight)
    if depthwise:
        walk.products.append(Product(factor, None, fan_out))
    else:
        walk.products.append(Product(factor, fan_in, fan_out, groups))
    return (x.axes[0], fan_out, *_plain(shape[2:]))


def _linear(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    x, weight = a["input"], a["weight"]
    for axis in x.axes[:-1]:
        walk.channels.freeze(axis, f"{walk.where(node)} mixes another axis than the channels")
    fan_in = _channels(x.axes[-1], x.shape[-1], walk, node)
    size_out = shapes[0][-1]
    layer = walk.layer_of(node, "linear", weight, (x.shape[-1], size_out))
    if layer is None:
        for axis in (fan_in, *weight.axes):
            walk.channels.freeze(axis, f"{walk.where(node)} {_FOREIGN}")
        fan_out = walk.channels.new(size_out, frozen=f"{walk.where(node)} {_FOREIGN}")
    elif layer.name in walk.axes:
        known = walk.axes[layer.name]
        walk.channels.join(known.fan_in, fan_in, f"{walk.where(node)} is used twice")
        fan_out = known.fan_out
    else:
        fan_out = walk.channels.new(size_out)
        walk.producers.append((str(layer.name), 1))
        walk.axes[str(layer.name)] = LayerAxes(layer, fan_in, fan_out)
    walk.products.append(Product(_for_one(prod(x.shape[:-1]), x, weight), fan_in, fan_out))
    return (*x.axes[:-1], fan_out)


_FOREIGN = "uses a weight that no layer made by the constructor holds (a parameter, a copied layer)"


def _channels(axis: Axis, size: int, walk: Walk, node: torch.fx.Node) -> Axis:
    """The axis, or a frozen one where the graph lost track of the channels."""
    if axis is not None:
        return axis
    return walk.channels.new(size, frozen=f"{walk.where(node)} reads an axis of fixed size")


def _norm(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    """Normalisation with one scale and shift for each entry of the channel axis 1."""
    del shapes
    x: Value = a["input"] if "input" in a else a["self"]
    _features(x.axes[1] if len(x.axes) > 1 else None, a, walk, node)
    if "num_groups" in a and len(x.axes) > 1:
        walk.channels.divide(x.axes[1], int(a["num_groups"]), walk.where(node))
    return x.axes


def _layer_norm(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    """Normalisation over the last axis, or over several last ones, which keep their sizes."""
    del shapes
    x: Value = a["input"]
    if len(a["normalized_shape"]) == 1:
        _features(x.axes[-1], a, walk, node)
    else:
        for axis in x.axes[-len(a["normalized_shape"]) :]:
            walk.channels.freeze(axis, f"{walk.where(node)} normalises over several axes")
    return x.axes


def _prelu(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    if prod(a["weight"].shape) > 1:
        return _norm(a, shapes, walk, node)
    axes: Axes = a["self"].axes
    return axes


def _features(axis: Axis, a: Arguments, walk: Walk, node: torch.fx.Node) -> None:
    if axis is None:
        return
    weight = a.get("weight")
    tensors = [weight, a.get("running_mean")]
    held = next((t for t in tensors if isinstance(t, Value)), None)
    layer = walk.layer_of(node, "norm", held, (walk.channels.size(axis),))
    if layer is None:
        if held is not None:
            walk.channels.freeze(axis, f"{walk.where(node)} {_FOREIGN}")
    elif layer.name in walk.axes:
        walk.channels.join(walk.axes[layer.name].fan_out, axis, f"{walk.where(node)} is used twice")
    else:
        walk.axes[str(layer.name)] = LayerAxes(layer, None, axis)


def _cat(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    tensors: list[Value] = list(a["tensors"])
    rank = len(shapes[0])
    dim = int(a.get("dim", 0)) % rank
    axes: list[Axis] = []
    for position, size in enumerate(shapes[0]):
        if position != dim:
            axes.append(_broadcast(tensors, position, rank, size, walk, node))
        elif all(tensor.axes[position] is None for tensor in tensors):
            axes.append(None)
        else:
            runs: list[Run] = []
            for tensor in tensors:
                runs += _channels(tensor.axes[position], tensor.shape[position], walk, node) or ()
            axes.append(tuple(runs))
    return tuple(axes)


def _reshape(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    """View, flatten, squeeze: axes merge or stay; channels that are taken apart are frozen."""
    x: Value = a["self"] if "self" in a else a["input"]
    result: list[Axis] = []
    for inner, outer in _blocks(x.shape, shapes[0]):
        axes = [x.axes[i] for i in inner]
        sizes = [x.shape[i] for i in inner]
        carrying = [i for i, axis in enumerate(axes) if axis is not None and sizes[i] > 1]
        targets = [size for size in outer if size > 1]
        if not carrying:
            result += [None] * len(outer)
        elif len(carrying) == 1 and len(targets) == 1:
            channels = axes[carrying[0]] or ()
            before = prod(sizes[: carrying[0]])
            after = prod(sizes[carrying[0] + 1 :])
            merged = tuple(Run(group, repeat * after) for group, repeat in channels) * before
            result += [merged if size > 1 else None for size in outer]
        else:
            for axis in axes:
                walk.channels.freeze(axis, f"{walk.where(node)} takes channels apart")
            result += [None] * len(outer)
    return tuple(result)


def _blocks(old: Shape, new: Shape) -> list[tuple[list[int], list[int]]]:
    """Cut two shapes of equal product into the shortest blocks of equal product.

    Returns pairs of (positions in ``old``, sizes in ``new``).
    """
    blocks: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        inner, outer = [i] if i < len(old) else [], [new[j]] if j < len(new) else []
        left = old[i] if inner else 1
        right = new[j] if outer else 1
        i, j = i + len(inner), j + len(outer)
        while left != right:
            if left < right:
                inner.append(i)
                left *= old[i]
                i += 1
            else:
                outer.append(new[j])
                right *= new[j]
                j += 1
        blocks.append((inner, outer))
    return blocks


def _permute(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    x: Value = a["self"] if "self" in a else a["input"]
    rank = len(x.shape)
    order = list(range(rank))
    if "dims" in a:
        order = [int(dim) % rank for dim in a["dims"]]
    elif "dim0" in a:
        first, second = int(a["dim0"]) % rank, int(a["dim1"]) % rank
        order[first], order[second] = second, first
    elif "source" in a:  # movedim
        sources, targets = (
            [int(d) % rank for d in (dims if isinstance(dims, (list, tuple)) else [dims])]
            for dims in (a["source"], a["destination"])
        )
        order = [dim for dim in order if dim not in sources]
        for target, source in sorted(zip(targets, sources, strict=True)):
            order.insert(target, source)
    elif rank == 2 or str(node.target).startswith("aten.mT"):
        order[-2:] = [rank - 1, rank - 2]
    else:
        return _opaque(a, shapes, walk, node)  # type: ignore[return-value]
    return tuple(x.axes[i] for i in order)


def _reduce(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    """Mean, sum, maximum over some axes: the others stay."""
    del walk, node
    x: Value = a["self"] if "self" in a else a["input"]
    dims = a.get("dim")
    listed = [] if dims is None else dims if isinstance(dims, (list, tuple)) else [dims]
    gone = {int(dim) % len(x.shape) for dim in listed} or set(range(len(x.shape)))
    if a.get("keepdim"):
        return tuple(None if i in gone else axis for i, axis in enumerate(x.axes))
    kept = tuple(axis for i, axis in enumerate(x.axes) if i not in gone)
    return kept if len(kept) == len(shapes[0]) else _plain(shapes[0])


def _pool(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    """Pooling and resizing work on rows and columns alone; (N, C, ...) stay."""
    del walk, node
    x: Value = a["self"] if "self" in a else a["input"]
    return (*x.axes[:2], *_plain(shapes[0][2:]))


def _pad(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    """Padding along the channels adds channels of a fixed number (ResNet's shortcut A)."""
    x: Value = a["self"]
    axes = list(x.axes)
    for index in range(len(a["pad"]) // 2):
        position = len(axes) - 1 - index
        before, after = int(a["pad"][2 * index]), int(a["pad"][2 * index + 1])
        if axes[position] is None or (before == 0 and after == 0):
            continue
        if before < 0 or after < 0 or a.get("mode", "constant") != "constant":
            walk.channels.freeze(axes[position], f"{walk.where(node)} cuts or mirrors channels")
            axes[position] = None
            continue
        runs = axes[position] or ()
        reason = f"{walk.where(node)} adds a fixed number of channels"
        head = walk.channels.new(before, frozen=reason) or () if before else ()
        tail = walk.channels.new(after, frozen=reason) or () if after else ()
        axes[position] = (*head, *runs, *tail)
    del shapes
    return tuple(axes)


def _cut(
    a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node
) -> Axes | list[Axes]:
    """Slice, chunk, split: whole axes stay; channels that are divided are frozen."""
    x: Value = a["self"]
    result: list[Axes] = []
    for shape in shapes:
        axes = list(x.axes)
        for position, (old, new) in enumerate(zip(x.shape, shape, strict=True)):
            if old != new and axes[position] is not None:
                walk.channels.freeze(axes[position], f"{walk.where(node)} divides channels")
                axes[position] = None
        result.append(tuple(axes))
    return result if isinstance(node.meta.get("val"), (list, tuple)) else result[0]


def _select(
    a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node
) -> Axes | list[Axes]:
    """One entry of an axis, or all of them one by one."""
    x: Value = a["self"]
    dim = int(a.get("dim", 0)) % len(x.shape)
    walk.channels.freeze(x.axes[dim], f"{walk.where(node)} picks single channels")
    kept = tuple(axis for i, axis in enumerate(x.axes) if i != dim)
    return [kept] * len(shapes) if isinstance(node.meta.get("val"), (list, tuple)) else kept


def _expand(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    x: Value = a["self"]
    if isinstance(a.get("other"), Value):  # expand_as: to another tensor's channels
        return _pointwise({"self": x, "other": a["other"]}, shapes, walk, node)
    lead = len(shapes[0]) - len(x.shape)
    return tuple(
        x.axes[i - lead] if i >= lead and x.shape[i - lead] == size else None
        for i, size in enumerate(shapes[0])
    )


def _matmul(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    """Batched matrix product (..., M, K) x (..., K, N)."""
    factors = ("self", "other", "mat1", "mat2")
    x, y = [value for name, value in a.items() if name in factors][-2:]
    shape = shapes[0]
    if len(x.shape) < 2 or len(y.shape) < 2:
        for axis in (*x.axes, *y.axes):
            walk.channels.freeze(axis, f"{walk.where(node)} multiplies by a vector")
        walk.products.append(Product(_for_one(prod(shape) * x.shape[-1], x, y)))
        return _plain(shape)
    for axis in (*x.axes[:-2], *y.axes[:-2], x.axes[-2]):
        walk.channels.freeze(axis, f"{walk.where(node)} has channels among its rows")
    inner = [x.axes[-1], y.axes[-2]]
    if None in inner:
        for axis in inner:
            walk.channels.freeze(axis, f"{walk.where(node)} meets a tensor of fixed size")
    else:
        walk.channels.join(inner[0], inner[1], f"{walk.where(node)} joins channels")
    factor = _for_one(prod(shape[:-1]), x, y)
    fan_in = inner[0] if inner[0] is not None else inner[1]
    if fan_in is None:
        factor *= x.shape[-1]
    if y.axes[-1] is None:
        factor *= shape[-1]
    walk.products.append(Product(factor, fan_in, y.axes[-1]))
    return (*_plain(shape[:-1]), y.axes[-1])


def _addmm(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    """A matrix product to which a tensor is added."""
    factors = {("self" if "1" in k else "other"): a[k] for k in a if k[:3] in ("mat", "bat")}
    product = Value(shapes[0], _matmul(factors, shapes, walk, node))
    return _pointwise({"self": a["self"], "other": product}, shapes, walk, node)


def _attention(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    """softmax(q k') v for each head: q and k share their features, the output has those of v."""
    q, k, v = a["query"], a["key"], a["value"]
    for tensor in (q, k, v, *(value for value in [a.get("attn_mask")] if value is not None)):
        features = tensor in (q, k, v) and tensor.axes[-1] is not None
        for axis in tensor.axes[: -1 if features else None]:
            walk.channels.freeze(axis, f"{walk.where(node)} has channels among its rows")
    if q.axes[-1] is None or k.axes[-1] is None:
        for tensor in (q, k):
            walk.channels.freeze(
                tensor.axes[-1], f"{walk.where(node)} meets a tensor of fixed size"
            )
    else:
        walk.channels.join(q.axes[-1], k.axes[-1], f"{walk.where(node)} joins channels")
    pairs = _for_one(prod(shapes[0][:-1]) * k.shape[-2], q, k, v)
    for tensor in (k, v):
        axis = tensor.axes[-1]
        walk.products.append(Product(pairs * (tensor.shape[-1] if axis is None else 1), axis))
    return (*_plain(shapes[0][:-1]), v.axes[-1])


def _moved(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    """Flip and roll: an axis whose channels change places is frozen."""
    x: Value = a["self"]
    for dim in a["dims"] or range(len(x.shape)):
        walk.channels.freeze(x.axes[int(dim)], f"{walk.where(node)} moves channels")
    del shapes
    return x.axes


def _squeeze(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    """Axes of length 1 go."""
    x: Value = a["self"]
    rank = len(x.shape)
    dims = a.get("dim", range(rank))
    gone = {int(d) % rank for d in (dims if isinstance(dims, (list, tuple, range)) else [dims])}
    for i in gone:
        if x.shape[i] > 1:
            walk.channels.freeze(
                x.axes[i], f"{walk.where(node)} drops the axis of a single channel"
            )
    del shapes
    return tuple(axis for i, axis in enumerate(x.axes) if i not in gone or x.shape[i] > 1)


def _stack(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    """A new axis on which equal tensors lie."""
    tensors: list[Value] = list(a["tensors"])
    rank = len(tensors[0].shape)
    dim = int(a.get("dim", 0)) % len(shapes[0])
    axes = [
        _broadcast(tensors, position, rank, size, walk, node)
        for position, size in enumerate(tensors[0].shape)
    ]
    return (*axes[:dim], None, *axes[dim:])


def _repeat(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    """All entries of an axis several times, one after the other."""
    del node, walk
    x: Value = a["self"]
    lead = len(shapes[0]) - len(x.shape)
    axes: list[Axis] = [None] * lead
    for axis, old, new in zip(x.axes, x.shape, shapes[0][lead:], strict=True):
        axes.append(axis * (new // old) if axis is not None and old > 1 else None)
    return tuple(axes)


def _pixel_shuffle(a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node) -> Axes:
    """Every r x r channels become one channel of r x r as many places."""
    x: Value = a["self"]
    if x.axes[-3] is None:
        return _plain(shapes[0])
    merged = walk.channels.new(shapes[0][-3]) or ()
    apart = tuple(Run(group, int(a["upscale_factor"]) ** 2) for group, _ in merged)
    walk.channels.join(x.axes[-3], apart, f"{walk.where(node)} merges channels of several groups")
    return (*x.axes[:-3], merged, None, None)


def _pixel_unshuffle(
    a: Arguments, shapes: Sequence[Shape], walk: Walk, node: torch.fx.Node
) -> Axes:
    """Every channel becomes r x r channels."""
    del walk, node
    x: Value = a["self"]
    if x.axes[-3] is None:
        return _plain(shapes[0])
    times = int(a["downscale_factor"]) ** 2
    return (*x.axes[:-3], tuple(Run(g, r * times) for g, r in x.axes[-3]), None, None)


def _table() -> dict[str, Rule]:
    groups: list[tuple[Rule, str]] = [
        (_convolution, "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d"),
        (_linear, "linear"),
        (_norm, "batch_norm instance_norm group_norm"),
        (_layer_norm, "layer_norm rms_norm"),
        (_prelu, "prelu _prelu_kernel"),
        (_cat, "cat concat concatenate"),
        (_reshape, "view reshape _unsafe_view flatten unflatten unsqueeze view_as reshape_as"),
        (_squeeze, "squeeze"),
        (_permute, "permute transpose swapaxes swapdims movedim moveaxis t numpy_T mT"),
        (
            _reduce,
            "mean sum amax amin prod var std var_mean std_mean norm linalg_vector_norm max min "
            "logsumexp argmax argmin median any all",
        ),
        (
            _pool,
            "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d lp_pool2d "
            "max_pool2d_with_indices adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d "
            "adaptive_max_pool2d upsample_nearest2d upsample_bilinear2d upsample_bicubic2d "
            "upsample_nearest1d upsample_linear1d upsample_nearest3d upsample_trilinear3d "
            "_upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d "
            "_upsample_bilinear2d_aa _upsample_bicubic2d_aa lp_pool3d "
            "adaptive_max_pool1d adaptive_max_pool3d reflection_pad2d replication_pad2d",
        ),
        (_pad, "pad constant_pad_nd"),
        (_cut, "slice narrow chunk split split_with_sizes tensor_split"),
        (_select, "select unbind"),
        (_expand, "expand expand_as broadcast_to"),
        (_matmul, "matmul bmm mm"),
        (_addmm, "addmm baddbmm"),
        (_attention, "scaled_dot_product_attention"),
        (_moved, "flip roll"),
        (_stack, "stack"),
        (_repeat, "repeat tile"),
        (_pixel_shuffle, "pixel_shuffle"),
        (_pixel_unshuffle, "pixel_unshuffle"),
        (_pointwise, "copy log_sigmoid"),
        (
            _same,
            "dropout feature_dropout alpha_dropout feature_alpha_dropout softmax log_softmax "
            "contiguous clone detach alias lift_fresh_copy hardswish hardsigmoid hardtanh "
            "bernoulli zeros_like ones_like empty_like rand_like randn_like full_like to "
            "type_as float celu selu elu cumsum uniform normal fill zero",
        ),
        (_new, "empty zeros ones full rand randn arange scalar_tensor bernoulli_like eye"),
    ]
    return {name: rule for rule, names in groups for name in names.split()}


RULES: Mapping[str, Rule] = _table()
"""From operator name (without ``aten::`` and the ``_`` of in-place forms) to its rule."""
