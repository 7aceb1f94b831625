"""Real network families at small sizes, trained as methods train them, and what is left of them.

The oracle is the dense network as the method trained it, with removed channels held at zero where
layers make and normalise them, and with removed branches adding nothing. It shares no code with
`Space.inherit`, which cuts the weights that are compared with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from methods_networks import RECIPE, silence
from torch import Tensor, nn
from torchvision.models.densenet import DenseNet as TorchvisionDenseNet
from torchvision.models.resnet import Bottleneck, ResNet

from prunenas.architecture import Space, build, trace
from prunenas.cache import Cache
from prunenas.data import Data, load
from prunenas.methods import METHODS, Dense, Derivation, Inheritance, Trained
from prunenas.methods._factors import (
    Structure,
    block_structures,
    channel_structures,
    path_structures,
    put_on,
)
from prunenas.models.densenet import DenseNet
from prunenas.models.preresnet import PreActivationResNet


@dataclass(frozen=True)
class Network:
    """A column of the table: a network, and the images that it learns from."""

    source: str
    arguments: dict[str, Any] = field(default_factory=dict)
    images: str = "digits"
    epochs: int = 2
    lr: float = RECIPE.lr


def preresnet() -> nn.Module:
    """Six pre-activation bottlenecks, each of which selects what it reads of the stream."""
    return PreActivationResNet(2, 10, 1, selection=True, gamma=1.0)


def densenet() -> nn.Module:
    """Three dense blocks of two bottlenecks each, with selections."""
    return DenseNet(2, 10, 1, bottleneck=True, selection=True, gamma=1.0)


def plain_densenet() -> nn.Module:
    """Torchvision's: its layers read all that was concatenated before them."""
    return TorchvisionDenseNet(8, (2, 3), 16, bn_size=2, num_classes=10)


def resnext() -> nn.Module:
    """Torchvision's, with one block to a stage but the first, and eight groups."""
    return ResNet(Bottleneck, [2, 1, 1, 1], groups=8, width_per_group=4, num_classes=10)


_SMALL = {"in_channels": 1, "input_size": 8}
_GOOGLENET = {"num_classes": 10, "init_weights": False}
# Deep networks: until running statistics are those of the layers before, images fade away.
_DEEP: dict[str, Any] = {"images": "mnist5k", "epochs": 6, "lr": 0.01}
NETWORKS = {
    "VGG": Network("vgg_mini", _SMALL),
    "ResNet-20 A": Network("resnet20", _SMALL),
    "ResNet-20 B": Network("resnet20", {**_SMALL, "shortcut": "b"}),
    "PreResNet": Network("exactness:preresnet"),
    "DenseNet-BC": Network("exactness:densenet"),
    "DenseNet": Network("exactness:plain_densenet", **_DEEP),
    "ResNeXt": Network("exactness:resnext", **_DEEP),
    "MobileNetV2": Network(
        "torchvision/mobilenet_v2",
        {"num_classes": 10, "width_mult": 0.25},
        **{**_DEEP, "epochs": 16},
    ),
    "GoogLeNet": Network("torchvision/googlenet", {**_GOOGLENET, "aux_logits": False}, **_DEEP),
    "GoogLeNet, heads": Network("torchvision/googlenet", _GOOGLENET, **_DEEP),
}


@cache
def data(images: str) -> Data:
    if images == "digits":
        return load("digits", train_limit=100)
    # Torchvision's stems take three channels; 100 images to validate by.
    return load("mnist5k", train_limit=100, validation=0.025, channels=3)


@cache
def space(network: str) -> Space:
    chosen = NETWORKS[network]
    shape = data(chosen.images).input_shape
    return trace(chosen.source, arguments=chosen.arguments, input_shape=shape)


@dataclass(frozen=True)
class Recorded(Dense):
    """Remembers the last state that was trained, with all that a method added to the network."""

    @cached_property
    def states(self) -> list[dict[str, Tensor]]:
        return []

    def train(self, **special: Any) -> Trained:
        trained = super().train(**special)
        self.states.append(trained.state)
        return trained


def recorded(network: str, folder: Path) -> Recorded:
    chosen = NETWORKS[network]
    recipe = RECIPE.model_copy(update={"epochs": chosen.epochs, "lr": chosen.lr})
    return Recorded(space(network), data(chosen.images), recipe, Cache(folder))


@dataclass(frozen=True)
class Row:
    """A row of the table: a method, how it is used, how little it shall leave, what it removes."""

    method: str
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    share: float = 0.5
    removes: str = "channels"

    def derive(self, source: Dense) -> Derivation:
        method = METHODS[self.method](**self.hyperparameters)
        # A deep network that has lost half of its channels says the same to all images.
        share = self.share if source.data.name == "digits" else (1 + self.share) / 2
        return method.derive(source, flops=int(share * source.space.dense.flops), seed=1)


ROWS = {
    # Methods that drop weights cut nothing: their network is the masked one.
    **{name: Row(name) for name, method in METHODS.items() if method.granularity != "weight"},
    "thinet": Row("thinet", {"images_per_class": 2}),
    "channel_regression": Row("channel_regression", {"images": 16}),
    "sparse_structure": Row("sparse_structure", {"structures": "channels"}),
    "netadapt": Row("netadapt", {"step": 0.1, "images": 8}, 0.8),
    "sparse_structure (blocks)": Row("sparse_structure", {"structures": "blocks"}, 0.75, "blocks"),
    "sparse_structure (groups)": Row("sparse_structure", {"structures": "groups"}, 0.95, "groups"),
    "network_slimming (drop)": Row("network_slimming", {"empty": "drop"}, 0.17, "empty blocks"),
}


def applies(row: str, network: str) -> bool:
    """Whether a cell of the table is measured."""
    return {
        "channels": True,
        "groups": network == "ResNeXt",
        "blocks": bool(space(network).blocks),
        # In the deeper ones no branch goes empty before the images do.
        "empty blocks": network in ("ResNet-20 A", "ResNet-20 B", "PreResNet"),
    }[ROWS[row].removes]


def oracle(
    row: Row, source: Recorded, derived: Derivation, inherited: Inheritance, *, folded: bool = False
) -> nn.Module:
    """The dense network as the method left it, with all that was removed held at zero.

    Args:
        row: How the method was used.
        source: What it was given.
        derived: What it answered.
        inherited: What survived; made last of all, so that its training is the last one recorded.
        folded: Whether factors of sparse structure selection are taken as multiplied into the
            weights, in single precision, instead of acting beside them.
    """
    network = source.network()
    if inherited.rebuilt is not None:
        network.load_state_dict(inherited.rebuilt)
    elif row.method != "sparse_structure":
        own = network.state_dict()
        network.load_state_dict({name: source.states[-1][name] for name in own})
    elif folded:
        whole = replace(row, share=1.0).derive(source)
        assert whole.architecture == source.space.dense
        network.load_state_dict(whole.weights() or {})
    else:
        put_on(network, _structures(row, source))
        network.load_state_dict(source.states[-1])
    silence(source.space, network, inherited.kept)
    without_branches(source.space, network, derived.architecture.removed)
    return network


def _structures(row: Row, source: Dense) -> tuple[Structure, ...]:
    find = {
        "blocks": block_structures,
        "channels": channel_structures,
        "groups": path_structures,
    }[row.hyperparameters["structures"]]
    return find(source.space, source.network())


def without_branches(space: Space, network: nn.Module, removed: Mapping[str, Any]) -> None:
    """From now on these residual branches add zeros to their stream."""
    for block in space.blocks:
        if block.name in removed:
            end = network.get_submodule(block.modules[-1])
            end.register_forward_hook(lambda layer, inputs, output: torch.zeros_like(output))


def small(derived: Derivation, weights: Mapping[str, Tensor]) -> nn.Module:
    """The pruned network with these weights."""
    network = build(derived.architecture, trust=True)
    network.load_state_dict(weights, strict=True)
    return network


@torch.no_grad()
def outputs(network: nn.Module, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Logits of eight random images in evaluation mode, those of auxiliary heads beside them."""
    images = torch.randn(8, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    network.to(dtype).eval()
    # Asked for its auxiliary heads, while all layers go on as in evaluation.
    network.training = hasattr(network, "aux_logits")
    answer = network(images.to(dtype))
    if not isinstance(answer, Tensor):
        answer = torch.cat([head for head in answer if head is not None], dim=1)
    return answer.double()


def distance(first: nn.Module, second: nn.Module, shape: tuple[int, ...], dtype: Any) -> float:
    """The largest difference of two networks' outputs, as a share of the largest output."""
    one, other = (outputs(network, shape, dtype) for network in (first, second))
    scale = other.abs().max()
    # No dead network: the images make a difference, if only that after a deep cut.
    assert (other - other.mean(dim=0)).abs().max() > 1e-4 * scale
    return float((one - other).abs().max() / scale)
