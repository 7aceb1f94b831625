"""Where each group's channels lie in the dense network's tensors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from prunenas.architecture.groups import ChannelGroup
from prunenas.architecture.inheritance import Slice, Sliced, columns_of, sliced, slices_of
from prunenas.architecture.tensors import Following, cut


@dataclass(frozen=True)
class Lineage:
    """What a dense network hands on.

    Attributes:
        layers: The layers' axes as pieces of groups.
        tensors: Parameters and buffers that no layer holds but that follow groups.
        normalised: For channel selection layers, the normalisation layer whose output they read.
        together: Groups over several of whose channels at a time a normalisation takes its
            statistics: a group normalisation, or one over all of a position.
    """

    layers: tuple[Sliced, ...]
    tensors: tuple[Following, ...]
    normalised: Mapping[str, str]
    together: frozenset[str]

    def only(self, stays: Callable[[str], bool]) -> "Lineage":
        """Without the layers and tensors for whose name ``stays`` is false."""
        return replace(
            self,
            layers=tuple(layer for layer in self.layers if stays(layer.layer)),
            tensors=tuple(tensor for tensor in self.tensors if stays(tensor.name)),
        )

    def cut(
        self,
        groups: tuple[ChannelGroup, ...],
        state: Mapping[str, Tensor],
        kept: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """See ``Space.inherit``."""
        sizes = {group.name: (group.width, group.divisor) for group in groups}
        return cut(self.tensors, sliced(self.layers, sizes, state, kept), kept)

    def shapes(self, widths: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """Shapes of the tensors that no layer holds, by name."""
        return {tensor.name: tensor.shape(widths) for tensor in self.tensors}

    def producers(self, group: ChannelGroup) -> tuple[Slice, ...]:
        """See ``Space.producers``."""
        return slices_of(self.layers, group.name, norms=False)

    def consumers(self, group: ChannelGroup) -> tuple[Slice, ...]:
        """See ``Space.consumers``."""
        return columns_of(self.layers, group.name)

    def norms(self, group: ChannelGroup) -> tuple[Slice, ...]:
        """See ``Space.norms``."""
        read = [self.normalised[s] for s in self.selections(group) if s in self.normalised]
        own = slices_of(self.layers, group.name, norms=True)
        return (*(Slice(layer, 0, 1) for layer in read), *own)

    def selections(self, group: ChannelGroup) -> list[str]:
        """The channel selection layers whose output a group is."""
        return [
            part.layer
            for part in self.layers
            if part.kind == "select" and part.layer in group.layers
        ]
