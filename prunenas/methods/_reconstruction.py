"""What a layer would have to make of a group's channels: sums over samples, and what they decide.

The input is the already pruned network's, the target the dense network's, so that a layer makes up
for what the layers before it have lost.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from prunenas.architecture import Space
from prunenas.methods._least_squares import refit
from prunenas.methods._reading import Reader, watched
from prunenas.methods._sampling import Sample, batch_size, draw, draw_distinct
from prunenas.methods._shortcuts import Shortcuts, in_branches, shortcuts


@dataclass
class Target:
    """Sums over samples for one layer that reads a group of C channels, D entries of each.

    With ``X`` the columns (samples x C * D) and ``Y`` what the layer should make of them.

    Attributes:
        reader: The layer.
        whole: Whether all weights are free. Otherwise there is one factor for each channel, ``X``
            has C columns, what each channel adds to a sampled output, and ``Y`` that output.
        gram: ``X'X``.
        cross: ``X'Y``.
        scale: What the layer's outputs are multiplied with before they are added to a stream, (O,);
            the error is that of the product.
        share: How many outputs a sampled one stands for.
    """

    reader: Reader
    whole: bool
    gram: Tensor = field(init=False)
    cross: Tensor = field(init=False)
    scale: Tensor | None = None
    share: float = 1.0

    def __post_init__(self) -> None:
        device = self.reader.weight().device
        size = self.reader.channels * (self.reader.depth if self.whole else 1)
        outputs = self.reader.outputs if self.whole else 1
        self.gram = torch.zeros(size, size, dtype=torch.float64, device=device)
        self.cross = torch.zeros(size, outputs, dtype=torch.float64, device=device)

    @staticmethod
    def size(reader: Reader) -> int:
        """Bytes of the sums where all weights are free."""
        size = reader.channels * reader.depth
        return 8 * size * (size + reader.outputs)

    def add(self, columns: Tensor, wanted: Tensor) -> None:
        """Add samples: columns (N, P, C, D) of float32 and outputs (N, P, O) wanted of them."""
        rows = columns.flatten(0, 1).flatten(1).double()
        self.gram.addmm_(rows.T, rows)
        self.cross.addmm_(rows.T, wanted.flatten(0, 1).double())

    def for_channels(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the problem of one factor for each channel.

        Returns:
            ``Z'Z`` (C, C) and ``Z'Y`` (C,) of ``Z``, what each channel adds to all outputs, and
            the squared norms (C,) of the weights that read each channel.
        """
        weight = self.reader.weight()
        if self.scale is not None:
            weight = weight * self.scale[:, None, None]
        norms = weight.square().sum(dim=(0, 2)).double()
        if not self.whole:
            return self.share * self.gram, self.share * self.cross[:, 0], norms
        channels, depth = self.reader.channels, self.reader.depth
        flat = weight.flatten(1).double()
        # <X_i W_i, X_j W_j> = <X_i'X_j, W_i W_j'>, so no sample is needed again.
        gram = (flat.T @ flat).mul_(self.gram)
        gram = gram.reshape(channels, depth, channels, depth).sum(dim=(1, 3))
        if self.scale is not None:
            flat = flat * self.scale[:, None]
        return gram, (self.cross * flat.T).sum(dim=1).reshape(channels, depth).sum(dim=1), norms

    def apply(self, kept: Tensor) -> None:
        """Write the weights into the layer that rebuild its output best from the kept channels."""
        reader = self.reader
        if not self.whole:
            factors = self.cross.new_zeros(reader.channels)
            ones = torch.ones_like(self.cross)
            factors[kept] = refit(self.gram, self.cross, ones, kept).flatten()
            reader.scale(factors)
            return
        old = reader.weight()
        new = torch.zeros_like(old)
        blocks, depth = reader.blocks, reader.depth
        into, out = reader.channels // blocks, reader.outputs // blocks
        for block in range(blocks):  # of a grouped convolution: each reads its own channels alone
            own = kept[(kept >= block * into) & (kept < (block + 1) * into)]
            columns = (own[:, None] * depth + torch.arange(depth)).flatten()
            rows = slice(block * out, (block + 1) * out)
            found = refit(self.gram, self.cross[:, rows], old[rows].flatten(1).T, columns)
            new[rows, own] = found.T.reshape(out, len(own), depth).to(new)
        reader.set_weight(new)


def targets(
    space: Space,
    network: nn.Module,
    dense: nn.Module,
    reading: Sequence[Reader],
    sample: Sample,
    positions: int,
    random: torch.Generator,
) -> list[Target]:
    """Run both networks on the sample and add up what each layer that reads a group should do.

    Args:
        space: Of both networks.
        network: Pruned so far, in evaluation mode.
        dense: The same with its own weights.
        reading: The layers, in ``network``.
        sample: Images.
        positions: Places in each image's map.
        random: Draws the places.
    """
    if not reading:
        return []
    left, found = sample.memory // 4, dict[str, Target]()
    for reader in reading:
        whole = Target.size(reader) <= left
        left -= Target.size(reader) if whole else 0
        found[reader.name] = Target(reader, whole)
    originals = [Reader(r.name, dense.get_submodule(r.name), r.slices, r.channels) for r in reading]
    first = next(sample.batches(1))
    size = batch_size(network, first, reading, positions, sample.memory // 2)
    with torch.no_grad():
        for images in sample.batches(size):
            outputs, beside = _run(space, dense, originals, images)
            _add(space, network, images, found, outputs, beside, positions, random)
    return list(found.values())


def _run(
    space: Space, dense: nn.Module, reading: Sequence[Reader], images: Tensor
) -> tuple[dict[str, list[Tensor]], Shortcuts]:
    """The dense network's outputs of the layers, call by call, and the shortcuts beside them."""
    outputs: dict[str, list[Tensor]] = {}

    def see(reader: Reader, inputs: Tensor, output: Tensor) -> None:
        outputs.setdefault(reader.name, []).append(output.clone())  # ReLU may work in place

    with shortcuts(dense, in_branches(space, reading)) as beside, watched(reading, see):
        dense(images)
    return outputs, beside


@dataclass(frozen=True)
class _Seen:
    """One call of a layer in the pruned network; dense outputs are those at the same places."""

    reader: Reader
    places: Tensor
    columns: Tensor  # (N, P, C, D)
    wanted: Tensor  # (N, P, O): what the group's channels should make


def _add(
    space: Space,
    network: nn.Module,
    images: Tensor,
    found: dict[str, Target],
    outputs: dict[str, list[Tensor]],
    dense_beside: Shortcuts,
    positions: int,
    random: torch.Generator,
) -> None:
    reading = [target.reader for target in found.values()]
    calls: dict[str, Iterator[Tensor]] = {name: iter(each) for name, each in outputs.items()}
    seen: list[_Seen] = []

    def see(reader: Reader, inputs: Tensor, output: Tensor) -> None:
        dense_output = next(calls[reader.name])
        pick = draw_distinct if found[reader.name].whole else draw
        places = pick(reader.places(output), (len(inputs), positions), random, inputs)
        columns = reader.columns(inputs, output, places)
        # Other channels' part, and the bias, stay as they are in the pruned network.
        made = columns.flatten(2) @ reader.weight().flatten(1).T
        wanted = reader.at(dense_output, places) - reader.at(output, places) + made
        seen.append(_Seen(reader, places, columns, wanted))

    with ExitStack() as stack:
        beside = stack.enter_context(shortcuts(network, in_branches(space, reading)))
        stack.enter_context(watched(reading, see))
        network(images)
    for each in seen:
        target = found[each.reader.name]
        wanted = each.wanted + _shortcut_error(each, beside, dense_beside, target)
        if target.whole:
            target.add(each.columns, wanted)
            continue
        shape = (len(each.places), each.places.shape[1])
        chosen = draw(each.reader.outputs, shape, random, images)
        rows = (each.columns * each.reader.weight()[chosen]).sum(dim=3, keepdim=True)
        value = wanted.gather(2, chosen[:, :, None])
        if target.scale is not None:
            scale = target.scale[chosen][:, :, None]
            rows, value = rows * scale[..., None], value * scale
        target.share = each.reader.outputs
        target.add(rows, value)


def _shortcut_error(
    each: _Seen, beside: Shortcuts, dense_beside: Shortcuts, target: Target
) -> Tensor | float:
    """What the layer has to add so that stream and branch together are the dense network's."""
    name = each.reader.name
    if name not in beside.found or name not in dense_beside.found:
        return 0.0
    error = each.reader.at(dense_beside.found[name] - beside.found[name], each.places)
    scale = beside.scales.get(name)
    if scale is None:
        return error
    target.scale = scale
    # A channel that the normalisation puts to (nearly) nothing can't correct anything.
    usable = scale.abs() > 1e-6 * scale.abs().max()
    return torch.where(usable, error / torch.where(usable, scale, 1.0), 0.0)
