"""Which channels can only be cut together: disjoint sets over the channel axes of tensors.

An axis of a tensor is a string of runs. A run ``(group, repeat)`` says that the next
``width(group) * repeat`` positions belong to one channel group, each channel taking ``repeat``
neighbouring positions (a flattened 7x7 map repeats each channel 49 times). Joining two axes, as an
addition does, makes their runs the same: groups of equal size become one group, a longer one is
split where the shorter ends, so that adding to a concatenation or to zero-padded channels works.
"""

from collections.abc import Sequence
from math import gcd, lcm
from typing import NamedTuple


class Run(NamedTuple):
    """The next ``size(group) * repeat`` positions of an axis."""

    group: int
    repeat: int


Axis = tuple[Run, ...] | None
"""None: an axis that carries no channels, such as the batch, rows or columns."""


class Channels:
    """Channel groups and how they are tied.

    Groups are small ints. A group is bound to runs of other groups once it turns out to consist of
    them; ``resolve`` follows the bindings.
    """

    def __init__(self) -> None:
        self._size: list[int] = []  # in the dense network
        self._bound: dict[int, tuple[Run, ...]] = {}
        self._reason: dict[int, str] = {}
        self._note: dict[int, str] = {}
        self._divisor: dict[int, int] = {}
        self._blocks: set[int] = set()  # groups that a grouped convolution reads or makes
        self._loose: set[int] = set()  # groups that lie on nothing but parameters so far

    def new(self, size: int, *, frozen: str | None = None) -> Axis:
        """A new axis of one new group; ``frozen`` gives the reason why its width can't vary."""
        self._size.append(size)
        group = len(self._size) - 1
        if frozen is not None:
            self._reason[group] = frozen
        return (Run(group, 1),)

    def loose(self, size: int) -> Axis:
        """A new axis for a parameter that no layer holds: fixed, until it meets channels."""
        axis = self.new(size)
        self._loose.update(group for group, _ in axis or ())
        return axis

    def is_loose(self, axis: Axis) -> bool:
        """Whether nothing but parameters' own sizes lies on the axis."""
        runs = self.resolve(axis)
        return bool(runs) and all(group in self._loose for group, _ in runs)

    def resolve(self, axis: Axis) -> tuple[Run, ...]:
        """The axis in terms of unbound groups."""
        if axis is None:
            return ()
        runs: list[Run] = []
        for group, repeat in axis:
            bound = self._bound.get(group)
            if bound is None:
                runs.append(Run(group, repeat))
            else:
                runs.extend(Run(g, r * repeat) for g, r in self.resolve(bound))
        return tuple(runs)

    def size(self, axis: Axis) -> int:
        """Positions on the axis in the dense network."""
        return sum(self._size[group] * repeat for group, repeat in self.resolve(axis))

    def reason(self, group: int) -> str | None:
        """Why an unbound group is frozen; None if it is free."""
        return self._reason.get(group)

    def divisor(self, group: int) -> int:
        """What an unbound group's width must be a multiple of."""
        return self._divisor.get(group, 1)

    def dense_width(self, group: int) -> int:
        """Channels of an unbound group in the dense network."""
        return self._size[group]

    def freeze(self, axis: Axis, reason: str) -> None:
        """Keep the widths of all groups on the axis; the first reason stays."""
        for group, _ in self.resolve(axis):
            self._reason.setdefault(group, reason)

    def note(self, axis: Axis, text: str) -> None:
        """What was assumed of the groups on the axis, told where a trial refuses them."""
        for group, _ in self.resolve(axis):
            self._note.setdefault(group, text)

    def noted(self, group: int) -> str | None:
        """What was assumed of an unbound group."""
        return self._note.get(group)

    def cut(self, axis: Axis, ends: Sequence[int]) -> tuple[Axis, ...] | None:
        """The axis in parts that end at these positions; None where one would divide a channel."""
        for end in ends:
            start = 0
            for group, repeat in self.resolve(axis):
                place = end - start
                if 0 < place < self._size[group] * repeat:
                    if place % repeat:
                        return None
                    self._split(group, place // repeat)
                    break
                start += self._size[group] * repeat
        parts: list[Axis] = []
        runs = list(self.resolve(axis))
        start = 0
        for end in ends:
            part: list[Run] = []
            while start < end:
                run = runs.pop(0)
                part.append(run)
                start += self._size[run.group] * run.repeat
            parts.append(tuple(part))
        return tuple(parts)

    def divide(self, axis: Axis, divisor: int, where: str, *, blocks: bool = False) -> None:
        """Ask that ``divisor`` equal parts can be made of every run of the axis.

        ``blocks`` asks that each part holds the same number of one group's channels, because every
        part has weights of its own, which several groups' widths would shift between the parts.
        """
        runs = self.resolve(axis)
        if blocks and len(runs) > 1:
            self.freeze(axis, f"{where}: its {divisor} blocks span channels of several layers")
            return
        for group, repeat in runs:
            part = divisor if blocks else divisor // gcd(divisor, repeat)
            step = lcm(self.divisor(group), part)
            if self._size[group] % step:
                self.freeze(axis, f"{where}: its {divisor} parts don't align with the channels")
                return
            self._divisor[group] = step
            if blocks:
                self._blocks.add(group)

    def join(self, a: Axis, b: Axis, where: str) -> None:
        """Make two axes of equal length the same; freezes both where they can't be aligned."""
        left, right = list(self.resolve(a)), list(self.resolve(b))
        while left and right:
            (g, r), (h, s) = left[0], right[0]
            if g == h and r == s:
                del left[0], right[0]
            elif not self._align(left[0], right[0]):
                self.freeze(a, where)
                self.freeze(b, where)
                return
            else:  # bindings changed: read both rests anew
                left, right = list(self.resolve(tuple(left))), list(self.resolve(tuple(right)))

    def _align(self, a: Run, b: Run) -> bool:
        """Bind groups until the two runs begin with the same run; False if that can't be."""
        if a.group == b.group:
            return False  # a group against itself at another repeat
        if a.repeat == b.repeat:
            if self._size[a.group] == self._size[b.group]:
                return self._bind(max(a.group, b.group), (Run(min(a.group, b.group), 1),))
            longer, shorter = (a, b) if self._size[a.group] > self._size[b.group] else (b, a)
            return self._split(longer.group, self._size[shorter.group])
        coarse, fine = (a, b) if a.repeat > b.repeat else (b, a)
        if coarse.repeat % fine.repeat:
            return False
        factor = coarse.repeat // fine.repeat  # channels of `fine` for each channel of `coarse`
        covered = self._size[coarse.group] * factor
        if self._size[fine.group] == covered:
            return self._bind(fine.group, (Run(coarse.group, factor),))
        if self._size[fine.group] > covered:
            return self._split(fine.group, covered)
        if self._size[fine.group] % factor:
            return False
        return self._split(coarse.group, self._size[fine.group] // factor)

    def _split(self, group: int, at: int) -> bool:
        (first,) = self.new(at) or ()
        (second,) = self.new(self._size[group] - at) or ()
        if group in self._loose:
            self._loose |= {first.group, second.group}
        return self._bind(group, (first, second))

    def _bind(self, group: int, runs: tuple[Run, ...]) -> bool:
        """Say that ``group`` is these runs; its reason and divisor pass on to them."""
        self._bound[group] = runs
        if group not in self._loose:  # met channels: these are what it consists of now
            self._loose.difference_update(g for g, _ in self.resolve(runs))
        reason, divisor = self._reason.pop(group, None), self._divisor.pop(group, 1)
        if group in self._note:
            self.note(runs, self._note.pop(group))
        if reason is not None:
            self.freeze(runs, reason)
        if divisor > 1:
            blocks = group in self._blocks
            operator = "a grouped convolution" if blocks else "a group normalisation"
            self.divide(runs, divisor, operator, blocks=blocks)
        return True
