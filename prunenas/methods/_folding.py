"""What a channel that goes still passed on: constants move to the layers that read them.

A filter whose weights are all 0 answers with a constant: its bias, behind a normalisation
``beta - gamma mean / std``, and so on through activations and pooling. Whatever reads the channel
adds that constant, as its own weights have it, to each of its outputs. When the channel is taken
out this goes to the reader's bias or, where it has none, off the running mean of the batch
normalisation behind it. That changes nothing wherever the reader sees its input whole; where it
pads with zeros, its outputs at the border get less of the constant than those inside, and all of
them get the mean. Readers without a bias whose output goes to no batch normalisation lose it, and
so do those that evaluation passes by (auxiliary heads). From then on nothing reads the channel:
the weights for it are 0.
"""

from collections.abc import Callable, Mapping
from weakref import ReferenceType, ref

import torch
from torch import Tensor, nn

from prunenas.architecture import Space
from prunenas.training.outputs import logits_of

_Norm = nn.modules.batchnorm._BatchNorm


@torch.no_grad()
def fold(space: Space, network: nn.Module, kept: Mapping[str, Tensor], images: Tensor) -> None:
    """Move the constants of all channels that go to what reads them, in place.

    Args:
        space: Of the network.
        network: The dense network, the filters of channels that go at 0; ends in evaluation mode.
        kept: Indices of the channels that stay, by group; a group that isn't there keeps all.
        images: Real inputs ``(N, C, H, W)``, on which the constants are measured.
    """
    gone = _gone(space, network, kept)
    shifts: dict[str, Tensor] = {}  # what each reader's outputs lose, (out,)
    outputs: dict[str, ReferenceType[Tensor]] = {}  # not held: together they may be large
    norms: dict[str, str] = {}  # the normalisation behind such a reader

    def measure(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            # Convolutions have their channels second, linear layers last.
            axis = -1 if isinstance(layer, nn.Linear) else 1
            away = gone[name].reshape([-1] + [1] * (inputs[0].dim() - 2 if axis == 1 else 0))
            alone = layer.forward(torch.where(away, inputs[0], 0.0))
            without = layer.forward(torch.zeros_like(inputs[0][:1]))  # the bias, if there is one
            difference = (alone - without).movedim(axis, 0).flatten(1)
            shifts[name] = difference.mean(dim=1)
            outputs[name] = ref(output)

        return hook

    def meet(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            norms.update({end: name for end, output in outputs.items() if inputs[0] is output()})

        return hook

    layers = dict(network.named_modules())
    hooks = [layers[name].register_forward_hook(measure(name)) for name in gone]
    hooks += [
        layer.register_forward_pre_hook(meet(name))
        for name, layer in layers.items()
        if isinstance(layer, _Norm)
    ]
    try:
        network.eval()(images)
    finally:
        for each in hooks:
            each.remove()
    for name, shift in shifts.items():
        bias, mean = layers[name].bias, None
        if bias is None and name in norms:
            mean = layers[norms[name]].running_mean
        if isinstance(bias, Tensor):
            bias += shift
        elif isinstance(mean, Tensor):
            mean -= shift
    for name, away in gone.items():
        _read_no_more(layers[name], away)


@torch.no_grad()
def difference(one: nn.Module, other: nn.Module, images: Tensor) -> float:
    """Return the largest difference of two networks' logits, as a share of the first's largest."""
    answers = [logits_of(each.eval()(images), images=len(images))[0] for each in (one, other)]
    largest = answers[0].abs().max().clamp(min=torch.finfo(torch.float32).tiny)
    return float((answers[0] - answers[1]).abs().max() / largest)


def _read_no_more(layer: nn.Module, gone: Tensor) -> None:
    """Zero a layer's weights for some of its inputs."""
    weight = layer.get_parameter("weight")
    if getattr(layer, "transposed", False):  # (in, out / groups, ...)
        weight[gone] = 0.0
        return
    groups = int(getattr(layer, "groups", 1))  # (out, in / groups, ...)
    rows = gone.reshape(groups, -1).repeat_interleave(len(weight) // groups, dim=0)
    weight[rows] = 0.0


def _gone(space: Space, network: nn.Module, kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Which inputs of each reader go, bool of shape ``(in,)``."""
    found: dict[str, Tensor] = {}
    for group in space.groups:
        if group.name not in kept:
            continue
        away = torch.ones(group.width, dtype=torch.bool)
        away[kept[group.name]] = False
        for part in space.consumers(group.name):
            layer = network.get_submodule(part.layer)
            size = getattr(layer, "in_channels", getattr(layer, "in_features", 0))
            own = found.setdefault(part.layer, torch.zeros(int(size), dtype=torch.bool))
            own[part.start : part.start + group.width * part.repeat] |= away.repeat_interleave(
                part.repeat
            )
    return found
