"""What a residual block adds to the output of its last layer, observed as the network runs.

The addition is no module, so no hook sees it. Instead every addition is looked at: one whose
operand is the layer's own output, or that of the batch normalisation after it, has the shortcut as
its other operand.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from prunenas.architecture import Space
from prunenas.methods._reading import Reader, watched

ADDITIONS = {"add", "add_", "__add__", "__radd__", "__iadd__"}
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Shortcuts(TorchFunctionMode):
    """Finds the shortcuts of one forward pass.

    Attributes:
        found: By layer, what is added to it: of the shape of the layer's output.
        scales: By layer, what a batch normalisation between layer and addition multiplies its
            outputs with, of shape (O,); without an entry there is none between.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, Tensor] = {}
        self.scales: dict[str, Tensor] = {}
        # The tensors are held so that none of a later layer's can have the same identity.
        self._followed: dict[int, tuple[Tensor, int, str, Tensor | None]] = {}

    def follow(self, tensor: Tensor, layer: str, scale: Tensor | None = None) -> None:
        """Look out for additions to a tensor, the layer's output times ``scale`` plus constants."""
        self._followed[id(tensor)] = (tensor, tensor._version, layer, scale)

    def layer_of(self, tensor: object) -> tuple[str, Tensor | None] | None:
        """Return whose output a tensor is and its scale, unless it was changed in place since."""
        known = self._followed.get(id(tensor))
        if known is None or known[0] is not tensor or known[0]._version != known[1]:
            return None
        return known[2:]

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if getattr(func, "__name__", "") in ADDITIONS and len(args) >= 2:
            for own, other in (args[:2], args[1::-1]):
                known = self.layer_of(own)
                if known and isinstance(other, Tensor) and other.shape == own.shape:
                    layer, scale = known
                    self.found.setdefault(layer, other.clone())
                    if scale is not None:
                        self.scales[layer] = scale
        return func(*args, **(kwargs or {}))


@contextmanager
def shortcuts(network: nn.Module, last: Sequence[Reader]) -> Iterator[Shortcuts]:
    """Observe the shortcuts that are added to these layers' outputs while the network runs."""
    mode = Shortcuts()

    def normalised(norm: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        known = mode.layer_of(inputs[0])
        if known is not None and known[1] is None and norm.running_var is not None:
            assert isinstance(norm, NORMS)
            deviation = (norm.running_var + norm.eps).sqrt()
            gain = torch.ones_like(deviation) if norm.weight is None else norm.weight.detach()
            mode.follow(output, known[0], gain / deviation)

    norms = [module for module in network.modules() if isinstance(module, NORMS)] if last else []
    handles = [norm.register_forward_hook(normalised) for norm in norms]
    try:
        with watched(last, lambda reader, inputs, output: mode.follow(output, reader.name)), mode:
            yield mode
    finally:
        for handle in handles:
            handle.remove()


def in_branches(space: Space, reading: Sequence[Reader]) -> list[Reader]:
    """Return those of the layers that lie in a residual branch, of which they may be the last."""
    modules = [module for block in space.blocks for module in block.modules]
    return [
        reader
        for reader in reading
        if any(reader.name == m or reader.name.startswith(f"{m}.") for m in modules)
    ]
