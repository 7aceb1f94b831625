"""From a walk to a space: what its groups are called, and what their widths decide."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prunenas.architecture.channels import Axis, Channels
from prunenas.architecture.construction import Construction
from prunenas.architecture.flops import Terms, Vector
from prunenas.architecture.following import Findings, term
from prunenas.architecture.graph import LayerAxes, Walk
from prunenas.architecture.groups import ChannelGroup, FrozenGroup, Sizes
from prunenas.architecture.inheritance import Pieces, Sliced
from prunenas.architecture.lineage import Lineage
from prunenas.architecture.space import Space


class Assembly:
    """Turns a walk into a space."""

    def __init__(
        self,
        source: str,
        arguments: Mapping[str, Any],
        shape: tuple[int, ...],
        dense: Construction,
        walk: Walk,
    ) -> None:
        self._source, self._arguments, self._shape = source, arguments, shape
        self._dense, self._walk = dense, walk
        self._names: dict[int, str] = {}
        self._producers: dict[int, list[str]] = {}
        for layer in walk.axes:
            axes = walk.axes[layer]
            if axes.layer.kind == "norm":
                continue
            runs = walk.channels.resolve(axes.fan_out)
            for position, run in enumerate(runs):
                taken = set(self._names.values())
                name = layer if position == 0 and layer not in taken else f"{layer}#{position}"
                self._names.setdefault(run.group, name)
                members = self._producers.setdefault(run.group, [])
                if layer not in members:
                    members.append(layer)
        self._stages = _stages(walk.producers)
        self.findings = Findings(walk, self._names)
        self.findings.hold()

    def space(self, refused: Mapping[str, str]) -> Space:
        """The space, with the groups in ``refused`` frozen for the reasons given there."""
        channels = self._walk.channels
        groups: list[ChannelGroup] = []
        frozen: list[FrozenGroup] = []
        order: dict[int, int] = {}
        for group, name in self._names.items():
            width, members = channels.dense_width(group), tuple(self._producers[group])
            reason = channels.reason(group) or self.findings.refusal(group, refused.get(name))
            if reason is None and width == channels.divisor(group):
                reason = "one channel" if width == 1 else f"one channel in each of {width} blocks"
            if reason is not None:
                frozen.append(FrozenGroup(name, width, reason, members))
                continue
            order[group] = len(groups)
            stage = self._stages[next((m for m in members if m in self._stages), members[0])]
            groups.append(ChannelGroup(name, width, channels.divisor(group), stage, members))
        forms = _Forms(channels, order)
        return Space(
            source=self._source,
            arguments=self._arguments,
            input_shape=self._shape,
            groups=tuple(groups),
            frozen=tuple(frozen),
            _sizes=self._sizes(forms),
            _products=Terms.of(
                len(groups) + 1,
                [
                    (p.module, p.factor / p.divisor, forms(p.a), forms(p.b))
                    for p in self._walk.products
                ],
            ),
            _parameters=Terms.of(len(groups) + 1, self._params(forms)),
            _lineage=Lineage(
                tuple(self._sliced(name, axes, order) for name, axes in self._walk.axes.items()),
                self.findings.following(self._dense.network, order),
                self._walk.normalised,
                frozenset(
                    self._names[group]
                    for axis in self._walk.together
                    for group, _ in channels.resolve(axis)
                    if group in self._names
                ),
            ),
        )

    def _sizes(self, forms: "_Forms") -> Sizes:
        rows: list[Vector] = []
        for layer in self._dense.layers:
            axes = self._walk.axes.get(layer.name) if layer.name is not None else None
            constants = [forms.constant(size) for size in layer.sizes]
            if axes is None:
                rows += constants
            elif layer.kind == "norm":
                rows.append(forms(axes.fan_out))
            else:
                rows += [forms(axes.fan_in), forms(axes.fan_out)]
                if layer.kind == "conv":
                    rows.append(forms(axes.fan_in) if axes.depthwise else constants[2])
        return Sizes(self._dense.layers, np.stack(rows))

    def _params(self, forms: "_Forms") -> list[tuple[str, float, Vector, Vector]]:
        """Terms of the parameter count: layers' own tensors, and what else there is as constants.

        Each term belongs to the module that holds the parameter.
        """
        one, terms, channels = forms.constant(1), [], self._walk.channels
        modules = dict(self._dense.network.named_modules())
        rest = {
            id(parameter): (name.rpartition(".")[0], parameter.numel())
            for name, parameter in self._dense.network.named_parameters()
            if parameter.requires_grad
        }
        for name, axes in self._walk.axes.items():
            transposed = bool(getattr(modules[name], "transposed", False))
            for part, parameter in modules[name].named_parameters():
                if not _own(part) or rest.pop(id(parameter), None) is None:
                    continue
                shape, ends = parameter.shape, [axes.fan_out, axes.fan_in]
                if transposed and len(shape) > 1:
                    ends.reverse()
                blocks = [1, 1 if axes.depthwise else axes.groups]
                factors, numel = [one, one], float(parameter.numel())
                for i, (size, end, block) in enumerate(zip(shape, ends, blocks, strict=False)):
                    if end is not None and size * block == channels.size(end):
                        factors[i], numel = forms(end), numel / channels.size(end)
                terms.append((name, numel, factors[0], factors[1]))
        parameters = dict(self._dense.network.named_parameters())
        for tensor in self.findings.following(self._dense.network, forms.order):
            parameter = parameters.get(tensor.name)
            if parameter is None or rest.pop(id(parameter), None) is None:
                continue
            own = zip(self._walk.tensors[tensor.name], parameter.shape, strict=True)
            sizes = [forms(a) if a is not None else forms.constant(n) for a, n in own]
            terms.append((tensor.name.rpartition(".")[0], *term(sizes)))
        return [*terms, *((owner, float(count), one, one) for owner, count in rest.values())]

    def _sliced(self, name: str, axes: LayerAxes, order: Mapping[int, int]) -> Sliced:
        module = self._dense.network.get_submodule(name)
        return Sliced(
            layer=name,
            kind=axes.layer.kind,
            fan_in=self._pieces(axes.fan_in, order),
            fan_out=self._pieces(axes.fan_out, order),
            groups=1 if axes.depthwise else axes.groups,
            transposed=bool(getattr(module, "transposed", False)),
            aliases=tuple(
                alias
                for alias, layer in self._walk.layers.items()
                if layer.name == name and alias != name
            ),
            depthwise=axes.depthwise,
        )

    def _pieces(self, axis: Axis, order: Mapping[int, int]) -> Pieces:
        return self.findings.pieces(axis, order)


def _own(parameter: str) -> bool:
    """Whether a layer's parameter is its own or of its parametrizations, not of a child."""
    return "." not in parameter or parameter.startswith("parametrizations.")


@dataclass(frozen=True)
class _Forms:
    """An axis's length as a linear form in (1, widths of the free groups)."""

    channels: Channels
    order: Mapping[int, int]

    def constant(self, value: int) -> Vector:
        form = np.zeros(len(self.order) + 1)
        form[0] = value
        return form

    def __call__(self, axis: Axis) -> Vector:
        if axis is None:
            return self.constant(1)
        form = self.constant(0)
        for group, repeat in self.channels.resolve(axis):
            if group in self.order:
                form[self.order[group] + 1] += repeat
            else:
                form[0] += self.channels.dense_width(group) * repeat
        return form


def _stages(producers: Sequence[tuple[str, int]]) -> dict[str, int]:
    """Stage of each producing layer: layers of one feature-map size, counted from the input.

    A squeeze-and-excitation layer works on 1x1 maps in the middle of a stage and belongs to it;
    only what comes after the last larger map is a stage of its own.
    """
    sizes = sorted({places for _, places in producers if places > 1}, reverse=True)
    last_map = max((i for i, (_, places) in enumerate(producers) if places > 1), default=-1)
    stages, current = {}, 0
    for index, (layer, places) in enumerate(producers):
        if places > 1:
            current = sizes.index(places)
        elif index > last_map:
            current = len(sizes)
        stages[layer] = current
    return stages
