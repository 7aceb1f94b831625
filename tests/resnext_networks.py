"""A small ResNeXt, and a grouped convolution whose channels are normalised together."""

from functools import cache

import torch
from torch import Tensor, nn

from prunenas.architecture import Space, trace


def unit(channels: int, out: int, size: int, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(channels, out, size, padding=size // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out), nn.ReLU()]


class Block(nn.Module):
    """Three convolutions, the middle one in four groups; a projection where widths differ."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        layers = [*unit(channels, 8, 1), *unit(8, 8, 3, groups=4), *unit(8, out, 1)[:2]]
        self.branch = nn.Sequential(*layers)
        projection = nn.Sequential(*unit(channels, out, 1)[:2])
        self.projection = nn.Identity() if channels == out else projection

    def forward(self, signal: Tensor) -> Tensor:
        return torch.relu(self.branch(signal) + self.projection(signal))


class ResNeXt(nn.Module):
    """A grouped stem outside of any branch, and three blocks, the second with a projection."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*unit(1, 8, 3), *unit(8, 12, 3, groups=4), *unit(12, 12, 1))
        self.blocks = nn.Sequential(Block(12, 12), Block(12, 16), Block(16, 16))
        self.classifier = nn.Linear(16, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.blocks(self.stem(images)).mean(dim=(2, 3)))
        return logits


STEM = "stem.3"
GROUPED = tuple(f"blocks.{index}.branch.3" for index in range(3))


class Together(nn.Module):
    """A grouped convolution before one of the normalisations that see several channels."""

    def __init__(self, kind: str, before: bool) -> None:
        super().__init__()
        norms = {"batch": nn.BatchNorm2d(8), "instance": nn.InstanceNorm2d(8, affine=True)}
        norms |= {"plain": nn.GroupNorm(2, 8, affine=False)}  # without weights it is no layer
        for count in (1, 2, 4):
            norms[f"group {count}"] = nn.GroupNorm(count, 8)
        first, second = (norms[kind], nn.ReLU()) if before else (nn.ReLU(), norms[kind])
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), first)
        self.grouped = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=4), second)
        self.classifier = nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.grouped(self.stem(images)).mean(dim=(2, 3)))
        return logits


@cache
def resnext() -> Space:
    return trace("resnext_networks:ResNeXt", input_shape=(1, 8, 8))


def together(kind: str, *, before: bool) -> Space:
    arguments = {"kind": kind, "before": before}
    return trace("resnext_networks:Together", arguments=arguments, input_shape=(1, 8, 8))
