"""Cutting one group after the other, front to back, each in the network that is left so far.

A channel is gone once no layer reads it: the weights that would are zero, and the network computes
what the pruned one does. That needs no rebuilding between groups, and the cut at the end is exact.
(Normalisations over channels, group and layer norm, are the exception: they go on seeing channels
that are gone until the cut.)
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from prunenas.architecture import Architecture, ChannelGroup, build
from prunenas.methods._base import Inheritance
from prunenas.methods._steps import Step, last_step
from prunenas.methods.dense import Dense
from prunenas.training import EpochMetrics, Recipe, train

Cut = Callable[[nn.Module, ChannelGroup, int, Tensor | None], Tensor]
"""Cuts one group: network (changed in place), group, width, channels that are given; returns kept.
"""

After = Callable[[nn.Module, Mapping[str, Tensor]], None]
"""Told of the network and of the channels kept so far, after each group."""


def front_to_back(
    dense: Dense,
    architecture: Architecture,
    cut: Cut,
    after: After | None = None,
    *,
    random: torch.Generator,
    key: Mapping[str, Any],
    what: str,
) -> Inheritance:
    """Cut a trained dense network to an architecture's widths, group by group.

    What comes of it is kept, and taken up after the last group that is done.

    Args:
        dense: Trained for it if it isn't yet.
        architecture: Says how many channels each group keeps.
        cut: Chooses a group's channels, and changes the weights that read them: to zero for those
            that go.
        after: Called after each group that was cut.
        random: What ``cut`` draws from.
        key: JSON values that ``cut`` and ``after`` depend on.
        what: The work's name, in reports.
    """
    space = dense.space
    given = space.selected(architecture)  # those of channel selections are the architecture's
    kept = {group.name: torch.arange(group.width) for group in space.groups}
    cutting = [group for group in space.groups if architecture.widths[group.name] < group.width]
    if not cutting:
        state = dense.state()
        return Inheritance(kept, space.inherit(state, kept), state)

    def steps(begun: Step | None) -> Iterator[Step]:
        network, first = trained(dense), 0
        if begun is not None:
            first = begun.done
            network.load_state_dict(_within(begun.tensors, _NETWORK))
            kept.update(_within(begun.tensors, _KEPT))
            random.set_state(begun.tensors[_RANDOM])
        for done, group in enumerate(cutting[first:], first + 1):
            width = architecture.widths[group.name]
            kept[group.name] = cut(network, group, width, given.get(group.name))
            if after is not None:
                after(network, kept)
            tensors = {
                **{_NETWORK + name: value for name, value in network.state_dict().items()},
                **{_KEPT + each.name: kept[each.name] for each in cutting[:done]},
                _RANDOM: random.get_state(),
            }
            yield Step(done, len(cutting), tensors)

    last = last_step(
        dense, steps, key={**key, "architecture": architecture.digest}, what=what
    ).tensors
    rebuilt = {name: value.detach().cpu() for name, value in _within(last, _NETWORK).items()}
    kept.update(_within(last, _KEPT))
    return Inheritance(kept, space.inherit(rebuilt, kept), rebuilt)


_NETWORK, _KEPT, _RANDOM = "network.", "kept.", "random"  # names of a step's tensors


def _within(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def trained(dense: Dense) -> nn.Module:
    """Return the trained dense network on its device, in evaluation mode."""
    network = dense.network()
    network.load_state_dict(dense.state())
    return network.to(dense.device).eval()


def finetune(
    dense: Dense, network: nn.Module, kept: Mapping[str, Tensor], recipe: Recipe, seed: int
) -> None:
    """Train what is left of a dense network, and write it back into the network.

    Args:
        dense: Whose data, device and report are used.
        network: The dense network with its weights; ends in evaluation mode.
        kept: Channels left of each group.
        recipe: How.
        seed: Of the batch order.
    """
    space = dense.space
    state = network.state_dict()
    widths = {name: len(indices) for name, indices in kept.items()}
    small = build(space.architecture(widths=widths, kept=kept), trust=True)
    small.load_state_dict(space.inherit(state, kept))

    def tell(metrics: EpochMetrics) -> None:
        if dense.report is not None:
            dense.report("fine-tuning", metrics)

    train(small, dense.data, recipe, seed=seed, device=dense.device, report=tell)
    # The same cut of the tensors' own positions says where each entry came from.
    positions = space.inherit(
        {name: torch.arange(value.numel()).reshape(value.shape) for name, value in state.items()},
        kept,
    )
    for name, value in small.state_dict().items():
        place = positions[name].flatten().to(state[name].device)
        state[name].view(-1)[place] = value.flatten().to(state[name])
    network.eval()
