"""Building: a model's own constructor runs again while its layers' sizes are substituted.

Convolution, linear and normalisation layers take their sizes from the architecture, in the order
in which the constructor makes them; everything else is the constructor's own. The network has
exactly the right shapes *and* the initialisation that its author gave it at the new fan-in and
fan-out, which training from scratch needs: slicing an initialised network would give the variance
of the old width.
"""

import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from torch import nn

from prunenas.architecture.masking import draw_sparse, put_on
from prunenas.architecture.removal import remove
from prunenas.architecture.selection import ChannelSelection
from prunenas.architecture.source import Constructor, constructor
from prunenas.architecture.tensors import narrow
from prunenas.architecture.value import Architecture, Layer
from prunenas.errors import SourceError

# The class whose __init__ receives the sizes, the kind of layer, and the arguments that hold them.
_SIZED: tuple[tuple[type[nn.Module], str, tuple[str, ...]], ...] = (
    (nn.modules.conv._ConvNd, "conv", ("in_channels", "out_channels", "groups")),
    (nn.Linear, "linear", ("in_features", "out_features")),
    (nn.modules.batchnorm._NormBase, "norm", ("num_features",)),
    (nn.LayerNorm, "norm", ("normalized_shape",)),
    (nn.RMSNorm, "norm", ("normalized_shape",)),
    (nn.GroupNorm, "norm", ("num_channels",)),
    (nn.PReLU, "norm", ("num_parameters",)),
    (ChannelSelection, "select", ("channels", "selected")),
)

# Substitution replaces constructors of torch's classes for a moment: one thread at a time.
_lock = threading.RLock()


@dataclass(frozen=True, slots=True)
class Construction:
    """A network and its layers' sizes in the order in which the constructor made them."""

    network: nn.Module
    layers: tuple[Layer, ...]


def construct(
    make: Constructor,
    arguments: Mapping[str, Any],
    *,
    layers: tuple[Layer, ...] | None = None,
    tensors: Mapping[str, tuple[int, ...]] | None = None,
    device: str | None = None,
) -> Construction:
    """Call a constructor, with layer sizes substituted where ``layers`` is given.

    Args:
        make: The constructor.
        arguments: Its keyword arguments.
        layers: Sizes for the layers in construction order; None records the constructor's own.
        tensors: Shapes to which parameters and buffers that no layer holds are cut; see
            ``tensors``.
        device: ``"meta"`` makes the sized layers without memory or initialisation.

    Raises:
        SourceError: The constructor refuses its arguments, does not return a module, or makes
            other layers than ``layers`` says.
    """
    made: list[tuple[nn.Module, str, tuple[int, ...]]] = []
    with _lock, _substituted(made, layers, device):
        try:
            network = make(**arguments)
        except SourceError:
            raise
        except Exception as error:  # a constructor may raise anything
            text = " ".join(str(error).split())
            given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
            raise SourceError(
                f"the constructor refuses ({given}): {type(error).__name__}: {text}"
            ) from error
    if not isinstance(network, nn.Module):
        raise SourceError(
            f"a model source must return an nn.Module, but got {type(network).__name__}"
        )
    names = {id(module): name for name, module in network.named_modules()}
    recorded = tuple(Layer(names.get(id(module)), kind, sizes) for module, kind, sizes in made)
    if layers is not None and recorded != layers:
        raise _mismatch(recorded, layers)
    narrow(network, tensors or {})
    return Construction(network, recorded)


def build(architecture: Architecture, *, seed: int | None = None, trust: bool = False) -> nn.Module:
    """A network with fresh random weights: the model's own initialisation at the new widths.

    Args:
        architecture: What to build.
        seed: Seeds the initialisation and leaves the global generator as it was; None draws from
            the global generator.
        trust: Whether a source ``package.module:callable`` may be imported.

    Masked convolutions are drawn for the weights that are left; see ``masking``.

    Returns:
        The network on the CPU in training mode.

    Raises:
        SourceError: The source is unknown or untrusted, or its layers are not the architecture's.
    """
    make = constructor(architecture.source, trust=trust)
    if seed is None:
        return realise(make, architecture)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return realise(make, architecture)


def realise(make: Constructor, architecture: Architecture, device: str | None = None) -> nn.Module:
    """Build with a constructor at hand; see ``build``, and ``construct`` for ``device``."""
    network = construct(
        make,
        architecture.arguments,
        layers=architecture.layers,
        tensors=architecture.tensors,
        device=device,
    ).network
    for name, kept in architecture.selections.items():
        index = network.get_submodule(name).get_buffer("index")
        index.copy_(torch.tensor(kept, device=index.device))
    for modules in architecture.removed.values():
        remove(network, modules)
    if architecture.masks and device is None:
        put_on(network, {name: mask.tensor() for name, mask in architecture.masks.items()})
        draw_sparse(network)
    return network.train()


@contextmanager
def _substituted(
    made: list[tuple[nn.Module, str, tuple[int, ...]]],
    layers: tuple[Layer, ...] | None,
    device: str | None,
) -> Iterator[None]:
    """Route the sized layers' constructors of this thread through the substitution."""
    originals = [(owner, owner.__init__) for owner, _, _ in _SIZED]
    thread = threading.get_ident()
    for owner, kind, names in _SIZED:
        owner.__init__ = _wrapped(  # type: ignore[method-assign]
            owner.__init__, kind, names, made, layers, device, thread
        )
    try:
        yield
    finally:
        for owner, original in originals:
            owner.__init__ = original  # type: ignore[method-assign]


def _wrapped(
    original: Callable[..., None],
    kind: str,
    names: tuple[str, ...],
    made: list[tuple[nn.Module, str, tuple[int, ...]]],
    layers: tuple[Layer, ...] | None,
    device: str | None,
    thread: int,
) -> Callable[..., None]:
    signature = inspect.signature(original)

    @wraps(original)
    def initialise(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        if threading.get_ident() != thread:
            return original(self, *args, **kwargs)
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        sizes = tuple(_as_int(bound.arguments[name]) for name in names)
        if None in sizes:  # a normalisation over several axes keeps the size its author gave it
            return original(self, *args, **kwargs)
        if layers is not None:
            index = len(made)
            if index >= len(layers) or layers[index].kind != kind:
                raise SourceError(
                    f"layer {index} of the constructor is {kind}, but the architecture has "
                    + (f"{layers[index].kind}" if index < len(layers) else f"{len(layers)} layers")
                )
            sizes = layers[index].sizes
            bound.arguments.update(zip(names, sizes, strict=True))
        if device is not None and bound.arguments.get("device", "") is None:
            bound.arguments["device"] = device
        made.append((self, kind, tuple(size for size in sizes if size is not None)))
        return original(*bound.args, **bound.kwargs)

    return initialise


def _as_int(value: Any) -> int | None:
    if isinstance(value, (tuple, list, torch.Size)) and len(value) == 1:
        value = value[0]
    return int(value) if isinstance(value, int) else None


def _mismatch(recorded: tuple[Layer, ...], layers: tuple[Layer, ...]) -> SourceError:
    for made, wanted in zip(recorded, layers, strict=False):
        if made != wanted:
            return SourceError(
                f"the constructor makes {made.kind} layer {made.name!r} where the architecture "
                f"has {wanted.name!r}: they are not of the same version"
            )
    return SourceError(
        f"the constructor makes {len(recorded)} layers, but the architecture has {len(layers)}"
    )
