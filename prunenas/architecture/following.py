"""What a walk found of tensors and nodes that are no layers, in terms of named groups."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import prod

from torch import nn

from prunenas.architecture.channels import Axis
from prunenas.architecture.flops import Vector
from prunenas.architecture.graph import Walk
from prunenas.architecture.inheritance import Piece, Pieces
from prunenas.architecture.proof import Sizing
from prunenas.architecture.tensors import Following


@dataclass(frozen=True)
class Findings:
    """A walk, and the names of its groups."""

    walk: Walk
    names: Mapping[int, str]

    def hold(self) -> None:
        """Freeze what more than a quadratic form of the widths would have to count."""
        channels = self.walk.channels
        for name, axes in self.walk.tensors.items():
            vary = [a for a in axes if any(g in self.names for g, _ in channels.resolve(a))]
            if len(vary) > 2:
                for axis in vary:
                    channels.freeze(axis, f"parameter {name!r} has channels on three axes")

    def following(self, network: nn.Module, free: Collection[int]) -> tuple[Following, ...]:
        """The tensors of the dense network that follow a free group."""
        shapes = {n: t.shape for n, t in (*network.named_parameters(), *network.named_buffers())}
        resolve = self.walk.channels.resolve
        return tuple(
            Following(name, self._all(shapes[name], axes, free))
            for name, axes in self.walk.tensors.items()
            if any(group in free for axis in axes for group, _ in resolve(axis))
        )

    def sizings(self) -> list[Sizing]:
        """What a trial expects of the nodes that cut channels."""
        return [
            Sizing(
                cut.node,
                cut.train,
                tuple(
                    self._all(shape, axes, self.names)
                    for shape, axes in zip(cut.shapes, cut.axes, strict=True)
                ),
            )
            for cut in self.walk.cuts
        ]

    def refusal(self, group: int, reason: str | None) -> str | None:
        """A trial's reason, with what was assumed of the group before."""
        note = self.walk.channels.noted(group)
        return f"{note}, but {reason}" if note and reason else reason

    def assumed(self) -> set[str]:
        """Names of the groups of which something was assumed."""
        return {name for group, name in self.names.items() if self.walk.channels.noted(group)}

    def pieces(self, axis: Axis, free: Collection[int]) -> Pieces:
        """An axis as pieces, under a name where the group is free."""
        channels = self.walk.channels
        return tuple(
            Piece(self.names[group] if group in free else None, channels.dense_width(group), repeat)
            for group, repeat in channels.resolve(axis)
        )

    def _all(
        self, shape: tuple[int, ...], axes: tuple[Axis, ...], free: Collection[int]
    ) -> tuple[Pieces, ...]:
        return tuple(
            (Piece(None, size, 1),) if axis is None else self.pieces(axis, free)
            for size, axis in zip(shape, axes, strict=True)
        )


def term(sizes: list[Vector]) -> tuple[float, Vector, Vector]:
    """A tensor's number of entries from its axes' linear forms, of which two at most vary."""
    vary = [form for form in sizes if form[1:].any()]
    one = 0 * sizes[0]
    one[0] = 1
    first, second = [*vary, one, one][:2]
    return prod(float(form[0]) for form in sizes if not form[1:].any()), first, second
