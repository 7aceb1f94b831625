"""Channel selection: a layer reads some channels of a stream that others read whole."""

import torch
from torch import Tensor, nn


class ChannelSelection(nn.Module):
    """Passes ``selected`` of ``channels`` feature maps on, by their indices.

    Put between a normalisation and the convolution that reads it, it lets that convolution lose
    inputs while the stream, which other blocks share, keeps its width. How many it passes on is a
    width like any other; which ones is written in ``Architecture.selections``.

    Source: Liu et al. 2017, "Learning Efficient Convolutional Networks through Network Slimming",
    section 3 ("channel selection layer"). Theirs is a 0/1 vector among the trainable parameters;
    an index buffer needs no synchronisation and counts as no parameter.

    Args:
        channels: Feature maps that come in.
        selected: Feature maps that go out, 1..channels; evenly spaced until others are set.
        device: Of the indices.
    """

    index: Tensor

    def __init__(
        self, channels: int, selected: int, device: torch.device | str | None = None
    ) -> None:
        super().__init__()
        self.channels, self.selected = channels, selected
        self.register_buffer("index", torch.tensor(spread(channels, selected), device=device))

    def forward(self, maps: Tensor) -> Tensor:
        """``(N, channels, H, W)`` to ``(N, selected, H, W)``."""
        # All of them are no selection; but whoever traces the network must see the layer.
        if self.selected == self.channels and not torch.compiler.is_compiling():
            return maps
        return maps.index_select(1, self.index)

    def extra_repr(self) -> str:
        """What ``print(network)`` shows of it."""
        return f"{self.channels}, {self.selected}"


def spread(channels: int, selected: int) -> list[int]:
    """``selected`` evenly spaced indices of ``range(channels)``, ascending."""
    return [position * channels // selected for position in range(selected)]
