"""Small dense networks the tests of methods share, and the mask that a cut must equal."""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prunenas.architecture import ChannelSelection, Space, build, trace
from prunenas.cache import Cache
from prunenas.data import Data, load
from prunenas.methods import Dense
from prunenas.training import EpochMetrics, Recipe

RECIPE = Recipe(epochs=1, batch_size=32, lr=0.05, augment=False)


def _unit(channels: int, out: int, size: int, *, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(channels, out, size, padding=size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU())


def grouped() -> nn.Module:
    """The middle convolution has four groups: its input and its output have the divisor 4."""
    layers = (_unit(1, 8, 3), _unit(8, 16, 3, groups=4), _unit(16, 12, 1))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 10))


def separable() -> nn.Module:
    """A depthwise convolution hands the first one's channels on."""
    layers = (_unit(1, 8, 3), _unit(8, 8, 3, groups=8), _unit(8, 12, 1))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 10))


class Concatenated(nn.Module):
    """The second normalisation sees two groups side by side; the first group has two of them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = _unit(1, 8, 3)
        self.second = nn.Conv2d(8, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(14)
        self.third = _unit(14, 10, 3)
        self.classifier = nn.Linear(10, 10)

    def forward(self, images: Tensor) -> Tensor:
        stem = self.first(images)
        both = torch.relu(self.norm(torch.cat((stem, self.second(stem)), dim=1)))
        logits: Tensor = self.classifier(self.third(both).mean(dim=(2, 3)))
        return logits


def half_normed() -> nn.Module:
    """The second convolution has no normalisation, so its group has no scale."""
    return nn.Sequential(
        _unit(1, 8, 3),
        *(nn.Conv2d(8, 6, 3, padding=1), nn.ReLU()),
        _unit(6, 10, 3),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(10, 10)),
    )


def transposed() -> nn.Module:
    """An upsampling layer in two groups, between two convolutions."""
    up = nn.ConvTranspose2d(8, 12, 2, stride=2, groups=2)
    last = (_unit(12, 10, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(10, 10))
    return nn.Sequential(_unit(1, 8, 3), up, nn.BatchNorm2d(12), nn.ReLU(), *last)


def flattened() -> nn.Module:
    """A linear layer reads each channel of the first at 64 places."""
    head = (nn.Flatten(), nn.Linear(8 * 64, 16), nn.ReLU(), nn.Linear(16, 10))
    return nn.Sequential(_unit(1, 8, 3), *head)


def depthwise() -> nn.Module:
    """The second convolution filters each channel of the first by itself."""
    last = (_unit(8, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(10, 10))
    return nn.Sequential(_unit(1, 8, 3), _unit(8, 8, 3, groups=8), *last)


class Selecting(nn.Module):
    """A pre-activation block that reads some of the stream's channels; the head reads others."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 12, 3, padding=1, bias=False)
        self.norm, self.selection = nn.BatchNorm2d(12), ChannelSelection(12, 12)
        self.inner = _unit(12, 10, 3)
        self.outer = nn.Conv2d(10, 12, 3, padding=1, bias=False)
        self.last, self.chosen = nn.BatchNorm2d(12), ChannelSelection(12, 12)
        self.classifier = nn.Linear(12, 10)

    def forward(self, images: Tensor) -> Tensor:
        stream = self.stem(images)
        stream = stream + self.outer(self.inner(torch.relu(self.selection(self.norm(stream)))))
        maps = torch.relu(self.chosen(self.last(stream)))
        logits: Tensor = self.classifier(maps.mean(dim=(2, 3)))
        return logits


SMALL = {"in_channels": 1, "input_size": 8}
SOURCES: dict[str, tuple[str, dict[str, Any]]] = {
    "vgg_mini": ("vgg_mini", SMALL),
    "resnet20": ("resnet20", SMALL),
    "resnet20_b": ("resnet20", {**SMALL, "shortcut": "b"}),
    "lenet5": ("lenet5", {"in_channels": 1, "input_size": 16}),
    "grouped": ("methods_networks:grouped", {}),
    "separable": ("methods_networks:separable", {}),
    "concatenated": ("methods_networks:Concatenated", {}),
    "half_normed": ("methods_networks:half_normed", {}),
    "transposed": ("methods_networks:transposed", {}),
    "selecting": ("methods_networks:Selecting", {}),
    "flattened": ("methods_networks:flattened", {}),
    "depthwise": ("methods_networks:depthwise", {}),
}
PAPERS: dict[str, tuple[str, dict[str, Any]]] = {
    name: (name, {"input_size": 32}) for name in ("vgg19", "preresnet164", "densenet40")
}
"""Network slimming's own networks: large, for slow tests."""
NORMED = tuple(name for name in SOURCES if name not in ("lenet5", "flattened"))


@cache
def space(name: str) -> Space:
    source, arguments = (SOURCES | PAPERS)[name]
    size, channels = arguments.get("input_size", 8), 3 if name in PAPERS else 1
    return trace(source, arguments=arguments, input_shape=(channels, size, size))


@cache
def digits() -> Data:
    return load("digits", train_limit=100)


def dense(
    name: str,
    folder: Path,
    *,
    recipe: Recipe = RECIPE,
    report: Callable[[str, EpochMetrics], None] | None = None,
    seed: int = 0,
) -> Dense:
    return Dense(space(name), digits(), recipe, Cache(folder), seed=seed, report=report)


def masked(name: str, state: Mapping[str, Tensor], kept: Mapping[str, Tensor]) -> nn.Module:
    """The whole dense network; channels that aren't kept are zero wherever a layer makes them."""
    network = build(space(name).dense, trust=True)
    network.load_state_dict(dict(state))
    silence(space(name), network, kept)
    return network


def silence(space: Space, network: nn.Module, kept: Mapping[str, Tensor]) -> None:
    """From now on zero all channels that aren't kept, where they are made and normalised."""
    layers = dict(network.named_modules())
    for group in space.groups:
        gone = torch.ones(group.width, dtype=torch.bool)
        gone[kept.get(group.name, torch.arange(group.width))] = False
        for part in (*space.producers(group.name), *space.norms(group.name)):
            rows = part.start + gone.repeat_interleave(part.repeat).nonzero().flatten()
            layers[part.layer].register_forward_hook(_silence(rows))


def _silence(rows: Tensor) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output.index_fill(1, rows, 0.0)

    return hook
