"""How a convolution or linear layer reads the channels of a group, at single output positions.

Before its bias, a layer's output o at a place p is a sum over the channels c that it reads::

    y[p, o] = sum_c sum_d columns[p, c, d] * weight[o, c, d]

``columns[p, c]`` is what the layer sees of channel c there: its receptive field, once for each
place where the channel lies on the layer's input axis. Methods that reconstruct a layer's output
from fewer channels (ThiNet, channel regression) need nothing else of it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from prunenas.architecture import ChannelGroup, Slice, Space
from prunenas.errors import MethodError

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class Reader:
    """A layer that reads a group's channels.

    Attributes:
        name: The layer's name.
        layer: A convolution, plain or transposed, or a linear layer.
        slices: Where the channels lie on its input axis; more than once where a network
            concatenates a group with itself.
        channels: C, channels of the group.
    """

    name: str
    layer: nn.Module
    slices: tuple[Slice, ...]
    channels: int

    @property
    def blocks(self) -> int:
        """Equal parts of the outputs, each of which reads only its own part of the inputs."""
        return int(getattr(self.layer, "groups", 1))

    @property
    def outputs(self) -> int:
        """O, the layer's output channels."""
        return int(getattr(self.layer, "out_channels", 0) or getattr(self.layer, "out_features", 0))

    @property
    def depth(self) -> int:
        """D, entries of a filter that read one channel."""
        kernel = getattr(self.layer, "kernel_size", ())
        return sum(part.repeat for part in self.slices) * int(torch.Size(kernel).numel())

    def weight(self) -> Tensor:
        """Return what of the filters reads the group, (O, C, D); 0 across blocks."""
        full = self._full()
        parts = [
            full[:, part.start : part.start + self.channels * part.repeat].reshape(
                len(full), self.channels, -1
            )
            for part in self.slices
        ]
        return torch.cat(parts, dim=2) if len(parts) > 1 else parts[0]

    def set_weight(self, weight: Tensor) -> None:
        """Write what `weight` returned, changed, into the layer."""
        full = self._full().clone()
        sizes = [self.depth * part.repeat // self._repeats for part in self.slices]
        for part, piece in zip(
            self.slices, torch.split(weight.to(full), sizes, dim=2), strict=True
        ):
            columns = slice(part.start, part.start + self.channels * part.repeat)
            full[:, columns] = piece.reshape(full[:, columns].shape)
        self._store(full)

    def scale(self, factors: Tensor) -> None:
        """Multiply the weights that read channel c by ``factors[c]``, of shape (C,)."""
        full = self._full()  # a view of the weights where it can be: a linear layer may be large
        for part in self.slices:
            columns = slice(part.start, part.start + self.channels * part.repeat)
            full[:, columns] *= factors.to(full).repeat_interleave(part.repeat)[:, None]
        self._store(full)

    def places(self, output: Tensor) -> int:
        """L, how many places an output of the layer has for one image."""
        if isinstance(self.layer, nn.Linear):
            return output.shape[1:-1].numel()
        return output.shape[2:].numel()

    def at(self, output: Tensor, places: Tensor) -> Tensor:
        """Return (N, P, O): the output at places (N, P) of each image, each in 0..L-1."""
        images = torch.arange(len(output), device=output.device)[:, None]
        if isinstance(self.layer, nn.Linear):
            return output.reshape(len(output), -1, output.shape[-1])[images, places]
        return output.flatten(2).movedim(1, -1)[images, places]

    def columns(self, inputs: Tensor, output: Tensor, places: Tensor) -> Tensor:
        """Return (N, P, C, D): what the layer sees of each channel at places (N, P).

        Args:
            inputs: The layer's input for N images.
            output: Its output for them; only the shape is read.
            places: Each in 0..L-1, see `places`.
        """
        parts = [self._columns(inputs, output, places, part) for part in self.slices]
        return torch.cat([p.reshape(*places.shape, self.channels, -1) for p in parts], dim=3)

    @property
    def _repeats(self) -> int:
        return sum(part.repeat for part in self.slices)

    def _columns(self, inputs: Tensor, output: Tensor, places: Tensor, part: Slice) -> Tensor:
        first, count = part.start, self.channels * part.repeat
        images = torch.arange(len(inputs), device=inputs.device)[:, None]
        layer = self.layer
        if isinstance(layer, nn.Linear):
            tokens = inputs.reshape(len(inputs), -1, inputs.shape[-1])
            return tokens[images, places, first : first + count]
        assert isinstance(layer, (*CONVOLUTIONS, *TRANSPOSED))
        channels = inputs.narrow(1, first, count)
        kernel, dilation = layer.kernel_size, layer.dilation
        if isinstance(layer, TRANSPOSED):
            maps = _stuffed(layer, channels, output.shape[2:])
            strides: Sequence[int] = [1] * len(kernel)
        else:
            maps = _padded(layer, channels)
            strides = layer.stride
        where = torch.unravel_index(places, output.shape[2:])
        dims = len(kernel)
        index = [images[(..., *[None] * dims)]]
        for axis, place in enumerate(where):
            offsets = torch.arange(kernel[axis], device=places.device) * dilation[axis]
            shape = [1] * dims
            shape[axis] = -1
            index.append(place[(..., *[None] * dims)] * strides[axis] + offsets.reshape(shape))
        seen = maps.movedim(1, -1)[tuple(index)]  # (N, P, *kernel, count)
        return seen.movedim(-1, 2).flatten(3)

    def _full(self) -> Tensor:
        """All filters as (O, I, K): transposed ones turned round, grouped ones with zeros."""
        weight = self.layer.get_parameter("weight").detach()
        if not isinstance(self.layer, TRANSPOSED) and self.blocks == 1:
            return weight.reshape(*weight.shape[:2], -1)
        blocks, kernels = self.blocks, weight.flatten(2) if weight.dim() > 2 else weight[..., None]
        if isinstance(self.layer, TRANSPOSED):  # (I, O / blocks, K), read backwards
            kernels = kernels.reshape(blocks, -1, *kernels.shape[1:]).transpose(1, 2).flip(3)
        else:
            kernels = kernels.reshape(blocks, -1, *kernels.shape[1:])
        _, out, into, size = kernels.shape
        full = kernels.new_zeros(blocks, out, blocks, into, size)
        each = torch.arange(blocks)
        full[each, :, each] = kernels
        return full.reshape(blocks * out, blocks * into, size)

    def _store(self, full: Tensor) -> None:
        weight = self.layer.get_parameter("weight")
        blocks = self.blocks
        out, into, size = full.shape
        each = torch.arange(blocks)
        split = full.reshape(blocks, out // blocks, blocks, into // blocks, size)
        kernels = split[each, :, each] if blocks > 1 else split[:, :, 0]
        if isinstance(self.layer, TRANSPOSED):
            kernels = kernels.flip(3).transpose(1, 2)
        with torch.no_grad():
            weight.copy_(kernels.reshape(weight.shape))


def readers(space: Space, group: ChannelGroup, network: nn.Module) -> tuple[Reader, ...]:
    """Return the layers that read a group's channels, in order of the forward pass.

    Raises:
        MethodError: One of them has no weights that could be rescaled.
    """
    found: dict[str, list[Slice]] = {}
    for part in space.consumers(group.name):
        found.setdefault(part.layer, []).append(part)
    result = []
    for name, slices in found.items():
        layer = network.get_submodule(name)
        kinds = (nn.Linear, *CONVOLUTIONS, *TRANSPOSED)
        if not isinstance(layer, kinds) or "weight" not in dict(layer.named_parameters()):
            raise MethodError(
                "a layer that reads pruned channels must be a convolution or linear layer with a "
                f"weight of its own, but {name} of {space.source} is a {type(layer).__name__}"
            )
        result.append(Reader(name, layer, tuple(slices), group.width))
    return tuple(result)


See = Callable[[Reader, Tensor, Tensor], None]
"""Told of a reader's input and output."""


@contextmanager
def watched(readers: Sequence[Reader], see: See) -> Iterator[None]:
    """Tell ``see`` whenever one of the layers has run."""
    handles = [reader.layer.register_forward_hook(_hook(reader, see)) for reader in readers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(reader: Reader, see: See) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        see(reader, inputs[0], output)

    return hook


def _padded(layer: nn.Module, maps: Tensor) -> Tensor:
    assert isinstance(layer, CONVOLUTIONS)
    around: list[int] = []
    for axis in reversed(range(len(layer.kernel_size))):  # functional.pad begins at the last axis
        if layer.padding == "valid":
            around += [0, 0]
        elif layer.padding == "same":
            total = layer.dilation[axis] * (layer.kernel_size[axis] - 1)
            around += [total // 2, total - total // 2]
        else:
            around += [int(layer.padding[axis])] * 2
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return functional.pad(maps, around, mode=mode) if any(around) else maps


def _stuffed(layer: nn.Module, maps: Tensor, sizes: Sequence[int]) -> Tensor:
    """The input with zeros between its entries, which a plain convolution of stride 1 reads."""
    assert isinstance(layer, TRANSPOSED)
    strides = layer.stride
    apart = [(size - 1) * stride + 1 for size, stride in zip(maps.shape[2:], strides, strict=True)]
    wide = maps.new_zeros(*maps.shape[:2], *apart)
    steps = (slice(None, None, stride) for stride in strides)
    wide[(slice(None), slice(None), *steps)] = maps
    around: list[int] = []
    for axis in reversed(range(len(apart))):
        reach = layer.dilation[axis] * (layer.kernel_size[axis] - 1)
        before = reach - int(layer.padding[axis])
        around += [before, sizes[axis] + reach - apart[axis] - before]
    return functional.pad(wide, around)
