"""Trainable factors on a network's structures: put on, stepped, read, multiplied into weights."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from prunenas.architecture import Space
from prunenas.architecture.paths import grouped_paths
from prunenas.methods._sites import Site, attach, block_sites, find_sites

_HOLDER = "structure_factors"  # the module that is added to a network


@dataclass(frozen=True)
class Structure:
    """Something that has factors.

    Attributes:
        name: Of a residual branch, or of a channel group.
        size: How many factors: one for a branch, one for each channel of a group.
        sites: What they multiply.
    """

    name: str
    size: int
    sites: tuple[Site, ...]


def block_structures(space: Space, network: nn.Module) -> tuple[Structure, ...]:
    """Return the residual branches whose output a layer's own weights can scale."""
    sites = block_sites(space, network)
    return tuple(
        Structure(name, 1, (site,)) for name, site in sites.items() if _scales(network, [site])
    )


def channel_structures(space: Space, network: nn.Module) -> tuple[Structure, ...]:
    """Return the channel groups all of whose sites have weights that a factor can go into."""
    width = {group.name: group.width for group in space.groups}
    return tuple(
        Structure(group, width[group], (*sites.first, *sites.later))
        for group, sites in find_sites(space, network).items()
        if _scales(network, (*sites.first, *sites.later))
    )


def path_structures(space: Space, network: nn.Module) -> tuple[Structure, ...]:
    """Return the grouped convolutions whose groups can be taken out; named by the layer."""
    sites = find_sites(space, network)
    width = {group.name: group.width for group in space.groups}
    found = []
    for paths in grouped_paths(space):
        if paths.outputs in sites:
            size = width[paths.outputs] // paths.count
            places = (*sites[paths.outputs].first, *sites[paths.outputs].later)
            whole = tuple(replace(site, repeat=size * site.repeat) for site in places)
            found.append(Structure(paths.layer, paths.count, whole))
    return tuple(structure for structure in found if _scales(network, structure.sites))


def _scales(network: nn.Module, sites: Iterable[Site]) -> bool:
    """Whether layers have weights of their own, output by output."""
    layers = [network.get_submodule(site.layer) for site in sites]
    return all(
        isinstance(getattr(layer, "weight", None), nn.Parameter)
        # A transposed convolution in groups keeps its outputs block by block.
        and not (getattr(layer, "transposed", False) and getattr(layer, "groups", 1) != 1)
        for layer in layers
    )


class Factors(nn.Module):
    """The factors of several structures, one after the other.

    Its buffer holds their velocity, so that a checkpoint has it. Both have shape ``(factors,)``.
    """

    velocity: Tensor

    def __init__(self, total: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.ones(total))
        self.register_buffer("velocity", torch.zeros(total))

    def forward(self, signal: Tensor) -> Tensor:
        """Pass on what comes, where a network runs all its children in turn."""
        return signal

    @torch.no_grad()
    def step(self, lr: float, sparsity: float, momentum: float) -> None:
        """Take a step of accelerated proximal gradient, and leave the optimiser nothing to do.

        Source: see ``sparse_structure``. A step whose gradient is not finite, as float16 has them
        while it looks for its scale, is left out.
        """
        gradient, self.value.grad = self.value.grad, None
        if gradient is None:
            return
        moved = self.value - lr * gradient
        shrunk = moved.sign() * (moved.abs() - lr * sparsity).clamp(min=0.0)
        velocity = shrunk - self.value + momentum * self.velocity
        value = (shrunk + momentum * velocity).clamp(min=0.0)
        usable = torch.isfinite(gradient).all()
        self.velocity.copy_(torch.where(usable, velocity, self.velocity))
        self.value.copy_(torch.where(usable, value, self.value))


def put_on(network: nn.Module, structures: Sequence[Structure]) -> None:
    """Multiply the structures by factors that start at 1, from now on."""
    factors = Factors(sum(structure.size for structure in structures))
    network.add_module(_HOLDER, factors)
    places = _places(structures)
    attach(
        network,
        {structure.name: structure.sites for structure in structures},
        lambda name: factors.value[places[name]],
    )


def step(network: nn.Module, lr: float, sparsity: float, momentum: float) -> None:
    """Step the factors of a network that has them; see ``Factors.step``."""
    factors = network.get_submodule(_HOLDER)
    assert isinstance(factors, Factors)
    factors.step(lr, sparsity, momentum)


def read(state: Mapping[str, Tensor], structures: Sequence[Structure]) -> dict[str, Tensor]:
    """Return the factors in a state dict by structure, float64 of shape ``(structure.size,)``."""
    value = state[f"{_HOLDER}.value"].double()
    return {name: value[place] for name, place in _places(structures).items()}


def without_factors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the network's own part of a state dict."""
    return {name: t for name, t in state.items() if not name.startswith(f"{_HOLDER}.")}


def _places(structures: Sequence[Structure]) -> dict[str, slice]:
    places, start = {}, 0
    for structure in structures:
        places[structure.name] = slice(start, start + structure.size)
        start += structure.size
    return places


@torch.no_grad()
def fold(
    network: nn.Module, structures: Sequence[Structure], factors: Mapping[str, Tensor]
) -> None:
    """Multiply factors into the weights and biases of the layers they act behind, in place."""
    for structure in structures:
        for site in structure.sites:
            layer = network.get_submodule(site.layer)
            end = site.start + structure.size * site.repeat
            own = factors[structure.name].repeat_interleave(site.repeat)
            weight, bias = layer.get_parameter("weight"), getattr(layer, "bias", None)
            rows = _rows(layer, weight)[..., site.start : end]
            rows.mul_(own.to(rows))
            if bias is not None:
                bias[site.start : end].mul_(own.to(bias))


def _rows(layer: nn.Module, weight: Tensor) -> Tensor:
    """A view of a layer's weight with its outputs on the last axis."""
    return weight.movedim(1 if getattr(layer, "transposed", False) else 0, -1)
