"""Before anything is allocated: does an architecture, from whatever file, fit its own figures?

The network is made on torch's meta device, where tensors have shapes and no memory. What the
constructor computes with real tensors all the same is refused where it would be large.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from prunenas.architecture import Architecture, count_flops, masked_weights
from prunenas.architecture.construction import realise
from prunenas.architecture.source import constructor
from prunenas.architecture.value import MAX_SIZE
from prunenas.errors import ExportError, PrunenasError

MAX_PARAMS = 1 << 33
"""Four times the largest network that torchvision or timm offer; 32 GiB in float32."""

_MAX_NUMBERS = 10_000  # in a constructor's arguments
_MAX_ELEMENTS = 1 << 25  # of a tensor that is computed in real memory: 128 MiB in float32

_MAX_UNCOUNTED = 1 << 20  # numbers in an input that fvcore is asked about

_FETCHING = re.compile(r"weights|pretrained|checkpoint|cache_dir|progress|url|hub")
_NAME = re.compile(r"(torchvision|timm)/[\w.]+")


def examine(architecture: Architecture, *, trust: bool = False) -> nn.Module:
    """The architecture's network without memory, if it has the figures that it claims.

    Args:
        architecture: Out of a file that anyone may have written.
        trust: Whether a source ``package.module:callable`` may be imported.

    Returns:
        The network on the meta device, in training mode.

    Raises:
        ExportError: Widths, parameters, FLOPs or what masked weights cost are others than claimed,
            or beyond any bound; or the network can't take its input.
        SourceError: The source is unknown or untrusted, or its layers are not the architecture's.
    """
    _check_arguments(architecture)
    make = constructor(architecture.source, trust=trust)
    try:
        with _Bounded():  # type: ignore[no-untyped-call]  # torch's own metaclass hook
            network = realise(make, architecture, device="meta").to("meta")
    except PrunenasError:
        raise
    except Exception as error:  # removing and selecting may fail in as many ways as networks differ
        raise ExportError(f"the architecture can't be built: {_one_line(error)}") from error
    _check_masks(architecture, network)
    params = sum(each.numel() for each in network.parameters() if each.requires_grad)
    if params != architecture.whole_params:
        raise ExportError(
            f"params must be what the layers hold, {params}, but are {architecture.whole_params}"
        )
    held = sum(tensor.numel() for tensor in network.state_dict().values())
    if held > MAX_PARAMS:
        raise ExportError(f"a network may hold {MAX_PARAMS} numbers, but this one has {held}")
    _check_widths(architecture)
    _check_flops(architecture, network, make)
    return network


def _check_masks(architecture: Architecture, network: nn.Module) -> None:
    weights = masked_weights(network)
    for name, mask in architecture.masks.items():
        if name not in weights or tuple(weights[name].shape) != mask.shape:
            raise ExportError(f"a mask must have the shape of a layer's weight, but {name} has not")


class _Bounded(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own metaclass hook
    """Refuses operators that would fill more real memory than any constructor needs."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        devices: set[str] = set()

        def on_meta(tensor: torch.Tensor) -> torch.Tensor:
            devices.add(tensor.device.type)
            return torch.empty_strided(
                tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta"
            )

        given, named_given = tree_map_only(torch.Tensor, on_meta, (tuple(args), named))
        if "device" in named:
            devices.add(torch.device(named["device"] or "cpu").type)
            named_given["device"] = torch.device("meta")
        if "meta" not in devices:
            try:
                outcome = func(*given, **named_given)
            except Exception:  # an operator whose result depends on values has none there
                outcome = None
            if isinstance(outcome, torch.Tensor) and outcome.numel() > _MAX_ELEMENTS:
                raise ExportError(
                    f"a constructor may compute with {_MAX_ELEMENTS} numbers at once, "
                    f"but this one needs {outcome.numel()}"
                )
        return func(*args, **named)


def _check_arguments(architecture: Architecture) -> None:
    source = architecture.source
    if "/" in source and not _NAME.fullmatch(source):
        raise ExportError(
            f"a source with a slash must be torchvision/NAME or timm/NAME: {source!r}"
        )
    todo: list[Any] = [dict(architecture.arguments)]
    count = 0
    while todo:
        each = todo.pop()
        count += 1
        if isinstance(each, Mapping):
            todo += each.values()
        elif isinstance(each, (list, tuple)):
            todo += each
        elif isinstance(each, int) and abs(each) > MAX_SIZE:
            raise ExportError(f"a constructor's arguments must be at most {MAX_SIZE}, not {each}")
        if count > _MAX_NUMBERS:
            raise ExportError(f"a constructor's arguments must be at most {_MAX_NUMBERS} values")
    if "/" in source:
        for name, value in architecture.arguments.items():
            # The library would fetch something, or read another file.
            if _FETCHING.search(name) and value not in (None, False):
                raise ExportError(
                    f"an architecture must not fetch weights, but {name} is {value!r}"
                )


def _check_widths(architecture: Architecture) -> None:
    """A group is named after its first layer, whose output it is, or a part of it."""
    sizes = {
        layer.name: layer.sizes[0] if layer.kind == "norm" else layer.sizes[1]
        for layer in architecture.layers
    }
    for name, width in architecture.widths.items():
        if sizes.get(name, width) < width:
            raise ExportError(
                f"width of {name} must be at most its layer's, {sizes[name]}, but is {width}"
            )


def _check_flops(architecture: Architecture, network: nn.Module, make: Any) -> None:
    shape = architecture.input_shape
    with _watched(network, architecture.masks) as uses:
        counted = _count_without_memory(network, shape)
    if counted is not None:
        _check_uses(architecture, uses)
    if counted == architecture.whole_flops:
        return
    # fvcore is the counter of record: where the other one can't follow a network, it decides.
    inputs = prod(shape)
    if inputs > _MAX_UNCOUNTED:
        needs = "can't be counted" if counted is None else f"are {counted}"
        raise ExportError(
            f"flops must be those of one input {shape}, which {needs}, "
            f"but are {architecture.whole_flops}"
        )
    without_memory = counted is not None
    try:
        whole = realise(make, replace(architecture, masks={}))
        counted = count_flops(whole, shape)
        with _watched(whole, architecture.masks) as uses, torch.no_grad():
            if architecture.masks and not without_memory:
                whole.eval()(torch.zeros(1, *shape))
    except Exception as error:
        raise ExportError(f"a network must take its input {shape}: {_one_line(error)}") from error
    if counted != architecture.whole_flops:
        raise ExportError(
            f"flops must be what fvcore counts, {counted}, but are {architecture.whole_flops}"
        )
    if not without_memory:
        _check_uses(architecture, uses)


@contextmanager
def _watched(network: nn.Module, masks: Collection[str]) -> Iterator[dict[str, int]]:
    """Count the multiply-adds that each weight of masked layers makes in what runs in here.

    A weight makes one for each place of its layer's output: of its channel's feature map, or each
    token that a linear layer reads. What a layer does not do itself does not count.
    """
    found = dict.fromkeys(masks, 0)

    def watch(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(layer: nn.Module, inputs: Any, output: Any) -> None:
            found[name] += output.numel() // len(layer.get_parameter("weight"))

        return hook

    handles = [
        network.get_submodule(name.removesuffix(".weight")).register_forward_hook(watch(name))
        for name in masks
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _check_uses(architecture: Architecture, uses: Mapping[str, int]) -> None:
    """Without this, a file could claim that what it drops saved more than it does."""
    for name, mask in architecture.masks.items():
        if mask.uses != uses[name]:
            raise ExportError(
                f"uses of {name} must be the multiply-adds that each of its weights makes, "
                f"{uses[name]}, but are {mask.uses}"
            )


def _count_without_memory(network: nn.Module, shape: tuple[int, ...]) -> int | None:
    """Multiply-adds of one input; None where the network does not run on the meta device."""
    network.eval()
    try:
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, *shape, device="meta"))
    except Exception:  # any operator may refuse
        return None
    finally:
        network.train()
    return int(counter.get_total_flops()) // 2  # it counts a multiply-add as two


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
