"""Running a network for the shapes alone, on the meta device."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class Shapes(TorchFunctionMode):
    """Normalisation, biases and activations by their shapes; all else as it is.

    Without memory PyTorch works these out operation by operation in Python, which takes most of a
    forward pass of a residual network or a transformer. That their numbers of channels agree is
    checked here as there; multiplications of a linear layer are still PyTorch's, for whoever counts
    them.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Answer a call of PyTorch's."""
        answer = _ANSWERS.get(func, func)
        return answer(*args, **(kwargs or {}))


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *others: object,
    **named: object,
) -> Tensor:
    """What ``torch.nn.functional.batch_norm`` gives, as far as shapes go."""
    for tensor in (running_mean, running_var, weight, bias):
        if tensor is not None and tensor.shape != input.shape[1:2]:
            raise RuntimeError(
                f"batch_norm of {input.shape[1]} channels, but its tensors are for {tensor.numel()}"
            )
    return torch.empty_like(input)


def _layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *others: object,
    **named: object,
) -> Tensor:
    """What ``torch.nn.functional.layer_norm`` gives, as far as shapes go."""
    shape = tuple(normalized_shape)
    ends = tuple(input.shape[input.dim() - len(shape) :])
    for found in (ends, *(tuple(each.shape) for each in (weight, bias) if each is not None)):
        if found != shape:
            raise RuntimeError(f"layer_norm of {list(shape)}, but got {list(found)}")
    return torch.empty_like(input)


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """What ``torch.nn.functional.linear`` gives; a bias changes no shape."""
    if bias is not None and bias.shape != weight.shape[:1]:
        raise RuntimeError(
            f"linear of {weight.shape[0]} outputs, but its bias is for {bias.numel()}"
        )
    return functional.linear(input, weight)


def _same(input: Tensor, *others: object, **named: object) -> Tensor:
    """What a function gives whose result has its first argument's shape."""
    return torch.empty_like(input)


_ANSWERS: Mapping[Callable[..., Any], Callable[..., Any]] = {
    functional.batch_norm: _batch_norm,
    functional.layer_norm: _layer_norm,
    functional.linear: _linear,
    functional.gelu: _same,
    functional.hardsigmoid: _same,
    functional.hardswish: _same,
    functional.normalize: _same,
}
