"""Where a factor on a group's channels acts, so that a factor of 0 is as good as their removal.

Behind the normalisation that follows the layer that makes a channel: before it, a channel of zeros
would come out as the normalisation's shift. Where no normalisation follows, or something else reads
what the layer makes as well, behind the layer itself; and behind every further normalisation that
the channel passes (those of pre-activation blocks and of concatenated features).
"""

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from prunenas.architecture import Space
from prunenas.architecture.inheritance import Slice

_BATCH = 2  # the least that batch normalisation can train on
_PASSING = {"Identity", "Dropout", "Dropout2d", "StochasticDepth", "DropPath"}  # in eval mode


@dataclass(frozen=True)
class Site:
    """Entries of a layer's output that are a group's channels.

    Entry ``start + channel * repeat + j`` with ``0 <= j < repeat`` along ``axis`` is ``channel``'s.
    """

    layer: str
    start: int
    repeat: int
    axis: int


@dataclass(frozen=True)
class Sites:
    """Where the factors of one group act.

    Attributes:
        first: For every layer that makes the channels the place behind which they are first read.
        later: Normalisations that they pass after that.
    """

    first: tuple[Site, ...]
    later: tuple[Site, ...]


def find_sites(space: Space, network: nn.Module) -> dict[str, Sites]:
    """Return the sites of every free group whose layers all run as modules of the network.

    One batch goes forward through a copy of the network, in training mode.
    """
    names = [space.producers(group.name) + space.norms(group.name) for group in space.groups]
    seen = _look(network, space.input_shape, {part.layer for parts in names for part in parts})
    found = {}
    for group in space.groups:
        producers, norms = space.producers(group.name), space.norms(group.name)
        if not all(part.layer in seen.axes for part in (*producers, *norms)):
            continue
        own = {part.layer: part for part in norms}
        behind = [seen.behind(part.layer, own) for part in producers]
        first = dict.fromkeys(
            part if norm is None else own[norm]
            for part, norm in zip(producers, behind, strict=True)
        )
        # A channel selection's channels are made by no layer but read off a normalisation.
        first = first or dict.fromkeys(norms)
        later = [part for part in norms if part not in first]
        found[group.name] = Sites(seen.sites(first), seen.sites(later))
    return found


def block_sites(space: Space, network: nn.Module) -> dict[str, Site]:
    """Return for each residual branch the layer that ends it, with one factor for all its output.

    A branch that doesn't end in a normalisation, convolution or linear layer isn't there.
    """
    ends = {block.name: _end(network, block.modules) for block in space.blocks}
    seen = _look(network, space.input_shape, {end for end in ends.values() if end is not None})
    return {
        name: Site(end, 0, seen.made[end][0].shape[seen.axes[end]], seen.axes[end])
        for name, end in ends.items()
        if end is not None and end in seen.axes
    }


def _end(network: nn.Module, modules: Sequence[str]) -> str | None:
    """The layer whose output, but for dropout, is a branch's."""
    for name in reversed(modules):
        module = network.get_submodule(name)
        while isinstance(module, nn.Sequential) and len(module):
            last = next(reversed(dict(module.named_children())))
            name, module = f"{name}.{last}", module.get_submodule(last)
        if type(module).__name__ not in _PASSING:
            return name if _sized(module) is not None else None
    return None


def attach(
    network: nn.Module,
    sites: Mapping[str, Iterable[Site]],
    factors: Callable[[str], Tensor],
) -> None:
    """Multiply a network's channels by factors from now on, by forward hooks.

    Args:
        network: Its modules' names stay as they are.
        sites: By group, where.
        factors: Asked for a group's factors, one for each channel, in each forward pass.
    """
    layers: dict[str, list[tuple[Site, str]]] = {}
    for group, places in sites.items():
        for site in places:
            layers.setdefault(site.layer, []).append((site, group))
    for layer, acting in layers.items():
        acting.sort(key=lambda pair: pair[0].start)
        network.get_submodule(layer).register_forward_hook(_multiply(acting, factors))


def _multiply(
    acting: list[tuple[Site, str]], factors: Callable[[str], Tensor]
) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    def hook(layer: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        axis = acting[0][0].axis % output.dim()
        pieces, end = [], 0
        for site, group in acting:
            own = factors(group).to(output.dtype).repeat_interleave(site.repeat)
            pieces += [own.new_ones(site.start - end), own]
            end = site.start + len(own)
        pieces.append(output.new_ones(output.shape[axis] - end))
        shape = [1] * output.dim()
        shape[axis] = -1
        return output * torch.cat(pieces).reshape(shape)

    return hook


@dataclass
class _Seen:
    """What one forward pass showed of some layers."""

    axes: dict[str, int] = field(default_factory=dict)
    made: dict[str, list[Tensor]] = field(default_factory=dict)
    makers: dict[str, list[Any]] = field(default_factory=dict)  # autograd's nodes of `made`
    read: dict[str, list[Tensor]] = field(default_factory=dict)
    readers: Counter[Any] = field(default_factory=Counter)  # of each autograd node

    def behind(self, layer: str, norms: Iterable[str]) -> str | None:
        """The one of these layers that reads what ``layer`` makes, if nothing else reads it."""
        if len(self.made[layer]) > 1 or self.readers[self.makers[layer][0]] != 1:
            return None
        made = self.made[layer][0]
        return next((norm for norm in norms if any(made is read for read in self.read[norm])), None)

    def sites(self, parts: Iterable[Slice]) -> tuple[Site, ...]:
        return tuple(Site(p.layer, p.start, p.repeat, self.axes[p.layer]) for p in parts)


def _look(network: nn.Module, shape: tuple[int, ...], layers: Iterable[str]) -> _Seen:
    seen = _Seen()
    network = copy.deepcopy(network).cpu().train()  # statistics of the original stay as they are

    def watch(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(layer: nn.Module, inputs: Any, output: Any) -> None:
            axis = _axis(layer, output)
            if axis is not None and inputs:
                seen.axes[name] = axis
                seen.made.setdefault(name, []).append(output)
                seen.makers.setdefault(name, []).append(output.grad_fn)
                seen.read.setdefault(name, []).append(inputs[0])

        return hook

    for name in layers:
        network.get_submodule(name).register_forward_hook(watch(name))
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        output = network(torch.zeros(_BATCH, *shape))
    for node in _nodes(output):
        seen.readers.update(source for source, _ in node.next_functions if source is not None)
    return seen


def _axis(layer: nn.Module, output: Any) -> int | None:
    """The axis of a layer's output that its channels lie on; None if they can't be seen."""
    if not isinstance(output, Tensor) or output.dim() < 2:
        return None
    size = _sized(layer)
    shape: list[int] = list(output.shape)
    order = (-1, 1) if isinstance(layer, (nn.Linear, nn.LayerNorm)) else (1, -1)
    return next((axis for axis in order if shape[axis] == size), None)


def _sized(layer: nn.Module) -> int | None:
    """How many outputs a convolution, linear or normalisation layer has; None for others."""
    for name in ("out_channels", "out_features", "num_features", "num_channels"):
        if hasattr(layer, name):
            return int(getattr(layer, name))
    shape: tuple[int, ...] = getattr(layer, "normalized_shape", ())
    return int(shape[0]) if len(shape) == 1 else None


def _nodes(output: Any) -> Iterator[Any]:
    """Every autograd node that an output depends on, once."""
    waiting = [tensor.grad_fn for tensor in _tensors(output) if tensor.grad_fn is not None]
    known = set(waiting)
    while waiting:
        node = waiting.pop()
        yield node
        for source, _ in node.next_functions:
            if source is not None and source not in known:
                known.add(source)
                waiting.append(source)


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        yield from (tensor for value in output.values() for tensor in _tensors(value))
    elif isinstance(output, (tuple, list)):
        yield from (tensor for value in output for tensor in _tensors(value))
