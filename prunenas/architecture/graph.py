"""Reading a network: its exported ATen graph, and a walk that follows the channels through it."""

import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.export.graph_signature import InputKind

from prunenas.architecture.channels import Axis, Channels
from prunenas.architecture.value import Layer
from prunenas.errors import TraceError

BATCH = 2
"""Inputs in the traced batch; 1 would let a graph forget its batch axis."""


@dataclass(slots=True)
class Value:
    """A tensor of the graph, or a parameter.

    Attributes:
        shape: Its sizes in the dense network, batch included.
        axes: For each axis, the channels on it; see ``channels``.
        parameter: The name of the parameter or buffer it is, None for anything computed.
        batched: Whether it has an entry for each input; what is computed of parameters has not.
        origin: The parameter or buffer of which it is a view or a function, for messages.
    """

    shape: tuple[int, ...]
    axes: tuple[Axis, ...]
    parameter: str | None = None
    batched: bool = True
    origin: str | None = None


@dataclass(slots=True)
class LayerAxes:
    """What a layer's sizes are made of: ``fan_in`` and ``fan_out``, each an axis.

    A normalisation layer has its features in ``fan_out`` and None in ``fan_in``. ``groups`` is the
    convolution's number of groups, and ``depthwise`` whether it grows with the input's channels.
    """

    layer: Layer
    fan_in: Axis
    fan_out: Axis
    groups: int = 1
    depthwise: bool = False


@dataclass(slots=True)
class Product:
    """One operator that multiplies: its multiply-adds for one input are factor x a x b.

    A None axis stands for 1. ``module`` names the innermost module that runs the operator.
    """

    factor: int
    a: Axis = None
    b: Axis = None
    divisor: int = 1
    module: str = ""


@dataclass(slots=True)
class Cut:
    """A node that cuts channels: its outputs' sizes must follow the widths.

    Attributes:
        node: Its name in the graph.
        train: Which of the two graphs, that of training or of inference.
        shapes: For each output its sizes in the dense network.
        axes: For each output the channels on its axes.
    """

    node: str
    train: bool
    shapes: tuple[tuple[int, ...], ...]
    axes: tuple[tuple[Axis, ...], ...]


@dataclass
class Walk:
    """What following the channels through one graph found; rules write into it."""

    channels: Channels
    layers: dict[str, Layer]
    """By every name that a layer has in the network, recorded layers by their own."""
    axes: dict[str, LayerAxes] = field(default_factory=dict)
    products: list[Product] = field(default_factory=list)
    tensors: dict[str, tuple[Axis, ...]] = field(default_factory=dict)
    """Axes of parameters and buffers that no recorded layer holds, by name; see ``tensors``."""
    producers: list[tuple[str, int]] = field(default_factory=list)
    """Layers that open channels, in forward order, each with its output's rows x columns."""
    normalised: dict[str, str] = field(default_factory=dict)
    """For channel selection layers, the normalisation layer whose output they read."""
    together: list[Axis] = field(default_factory=list)
    """Axes over several of whose channels at a time a normalisation takes its statistics."""
    fixed: dict[str, str] = field(default_factory=dict)
    """Why such a tensor can't follow channels, by name."""
    cuts: list[Cut] = field(default_factory=list)
    train: bool = True
    """Whether the graph that is followed is that of training."""

    def where(self, node: torch.fx.Node) -> str:
        """Operator and layer of a node, for messages."""
        operator = str(node.target).removeprefix("aten.").partition(".")[0].strip("_")
        module = self.module(node)
        return f"layer {module!r} ({operator})" if module else f"the forward pass ({operator})"

    def fixed_tensor(self, value: Value) -> str:
        """What a tensor of fixed size is, for messages."""
        if value.origin is None:
            return "a tensor of fixed size"
        why = self.fixed.get(value.origin)
        return f"{value.origin!r}, {why}" if why else f"{value.origin!r} of fixed size"

    def kind(self, node: torch.fx.Node) -> str:
        """Class of the innermost module that runs a node."""
        stack = node.meta.get("nn_module_stack")
        return str(list(stack.values())[-1][1]).rpartition(".")[2] if stack else ""

    def module(self, node: torch.fx.Node) -> str | None:
        """Name of the innermost module that runs a node."""
        stack = node.meta.get("nn_module_stack")
        return str(list(stack.values())[-1][0]) if stack else None

    def layer_of(
        self,
        node: torch.fx.Node,
        kind: str,
        weight: Value | None,
        sizes: tuple[int, ...],
    ) -> Layer | None:
        """The recorded layer of these sizes whose weight an operator uses; None if none is known.

        Only its ``weight`` speaks for a layer, or a normalisation's running mean: a subclass may
        hold further parameters (low-rank terms, gains) and hand those to operators of their own.
        """
        if weight is not None and weight.parameter is not None:
            name, _, last = weight.parameter.rpartition(".")
            if last not in ("weight", "running_mean"):
                return None
        else:  # a weight computed on the fly (weight standardisation) still belongs to its module
            name = self.module(node) or ""
        layer = self.layers.get(name)
        return layer if layer is not None and (layer.kind, layer.sizes) == (kind, sizes) else None


def export(network: nn.Module, input_shape: tuple[int, ...], *, train: bool) -> Any:
    """The network's ATen graph (``torch.export``, nothing decomposed) on the meta device.

    Raises:
        TraceError: The network does not run on such an input, or Python control flow in it
            depends on values.
    """
    network.train(train)
    example = torch.empty((BATCH, *input_shape), device="meta")
    try:
        with _quietly():
            return torch.export.export(network, (example,), strict=False)
    except Exception as error:  # tracing runs the network, which may raise anything
        text = " ".join(str(error).split())
        shape = "×".join(map(str, input_shape))
        raise TraceError(
            f"the network can't be traced on an input of {shape}: "
            f"{type(error).__name__}: {text[:300]}"
        ) from error


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep what torch says while it traces (deprecations, half a graph) from the user's terminal.

    Where tracing fails, the error says why.
    """
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def node_shapes(program: Any) -> dict[str, list[list[tuple[int, ...]]]]:
    """Sizes of all outputs of the nodes of a graph and of those within it, by the node's name."""
    found: dict[str, list[list[tuple[int, ...]]]] = {}
    for module in program.graph_module.modules():
        for node in getattr(module, "graph", torch.fx.Graph()).nodes:
            value = node.meta.get("val")
            outputs = value if isinstance(value, (list, tuple)) else [value]
            shapes = [tuple(v.shape) for v in outputs if isinstance(v, torch.Tensor)]
            found.setdefault(node.name, []).append(shapes)
    return found


def follow(program: Any, walk: Walk, rules: Any) -> None:
    """Walk an exported graph in order; each operator's rule says what it does to the channels."""
    kinds = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
    inputs = {
        node: _input(kinds.get(node.name), node, walk)
        for node in program.graph.nodes
        if node.op == "placeholder"
    }
    for value in _flat(_run(program.graph_module, inputs, walk, rules)):
        for axis in value.axes:
            walk.channels.freeze(axis, "the network's output")


def _run(module: Any, inputs: Mapping[torch.fx.Node, Any], walk: Walk, rules: Any) -> Any:
    """The values that a graph returns; inputs are those of its placeholders."""
    values: dict[torch.fx.Node, Any] = dict(inputs)
    for node in module.graph.nodes:
        if node.op == "get_attr":  # a lifted constant has no channels
            held = getattr(module, str(node.target), None)
            values[node] = held if isinstance(held, torch.fx.GraphModule) else None
        elif node.op == "call_function":
            given = [values[n] if isinstance(n, torch.fx.Node) else n for n in node.args]
            inner = next((v for v in given if isinstance(v, torch.fx.GraphModule)), None)
            if inner is not None and str(node.target) in _WRAPPERS:
                places = [n for n in inner.graph.nodes if n.op == "placeholder"]
                rest = given[given.index(inner) + 1 :]
                found = _run(inner, dict(zip(places, rest, strict=True)), walk, rules)
                values[node] = list(found) if isinstance(found, (list, tuple)) else found
            else:
                values[node] = rules(node, values, walk)
        elif node.op == "output":
            return torch.fx.node.map_arg(node.args[0], lambda n: values[n])
    return None


_WRAPPERS = ("wrap_with_set_grad_enabled", "wrap_with_autocast")
"""What a block under torch.no_grad or torch.autocast becomes: a graph within the graph."""


def _input(spec: Any, node: torch.fx.Node, walk: Walk) -> Value | None:
    example = node.meta.get("val")
    if not isinstance(example, torch.Tensor):
        return None
    shape = tuple(example.shape)
    is_user = spec is None or spec.kind == InputKind.USER_INPUT
    axes: tuple[Axis, ...] = (None,) * len(shape)
    if is_user and len(shape) > 1:
        axes = (None, walk.channels.new(shape[1], frozen="the network's input"), *axes[2:])
    elif not is_user and spec.kind in (InputKind.PARAMETER, InputKind.BUFFER):
        axes = walk.tensors.get(spec.target, axes)
    name = None if is_user else spec.target
    return Value(shape, axes, name, batched=is_user, origin=name)


def _flat(values: Any) -> list[Value]:
    if isinstance(values, Value):
        return [values]
    if isinstance(values, (tuple, list)):
        return [found for value in values for found in _flat(value)]
    if isinstance(values, dict):
        return [found for value in values.values() for found in _flat(value)]
    return []
