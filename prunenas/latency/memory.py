"""Peak memory of activations: bytes of all tensors that are alive at once in a forward pass."""

import weakref
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only


def peak_activations(network: nn.Module, input_shape: tuple[int, ...], *, batch: int = 1) -> int:
    """Return the most bytes that inputs, outputs and what lies between take at once.

    Of inference in single precision, without weights, and without what a convolution's own
    algorithm needs. Nothing is computed where the network runs without data.

    Args:
        network: Its mode is left as it was.
        input_shape: ``(C, H, W)`` of one input.
        batch: Inputs at a time.
    """
    training = network.training
    network.eval()
    device = next((each.device for each in network.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad(), _Alive() as alive:
            images = torch.zeros(batch, *input_shape, device=device)
            network(images)
    finally:
        network.train(training)
    return int(alive.peak)


class _Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own metaclass hook
    """Counts the bytes of storages that operators have made and that are still there."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now: int = 0
        self.peak: int = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given: set[int] = set()
        tree_map_only(torch.Tensor, lambda each: given.add(_key(each)), (args, dict(kwargs or {})))
        made = func(*args, **dict(kwargs or {}))
        tree_map_only(torch.Tensor, lambda each: self._note(each, given), made)
        return made

    def _note(self, tensor: torch.Tensor, given: set[int]) -> None:
        key = _key(tensor)
        if key in given or key in self._seen:  # a view, or changed in place
            return
        storage = tensor.untyped_storage()
        self._seen.add(key)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, key, storage.nbytes())

    def _gone(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size


def _key(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
