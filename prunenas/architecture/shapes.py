"""Running a network for the shapes alone, on the meta device."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class Shapes(TorchFunctionMode):
    """Batch normalisation by its shapes; all else as it is.

    Without memory PyTorch works batch normalisation out operation by operation in Python, which
    takes four fifths of a forward pass of a residual network. That its numbers of channels agree is
    checked here as there.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Answer a call of PyTorch's."""
        if func is functional.batch_norm:
            return _normalised(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _normalised(
    images: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *others: object,
    **named: object,
) -> Tensor:
    """What ``torch.nn.functional.batch_norm`` gives, as far as shapes go."""
    for tensor in (running_mean, running_var, weight, bias):
        if tensor is not None and tensor.shape != images.shape[1:2]:
            raise RuntimeError(
                f"batch_norm of {images.shape[1]} channels, but its tensors are for "
                f"{tensor.numel()}"
            )
    return torch.empty_like(images)
