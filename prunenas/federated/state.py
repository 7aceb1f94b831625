"""Which of a network's tensors travel, and which of them may be pruned."""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from prunenas.architecture import masked, masked_weights
from prunenas.errors import FederatedError
from prunenas.federated.time import TimeModel


def travelling(network: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and buffers that server and clients exchange, by name, as they are.

    All of the state dict that holds fractions: what batch normalisation counts stays behind.
    """
    return {
        name: tensor for name, tensor in network.state_dict().items() if tensor.is_floating_point()
    }


def prunable_weights(network: nn.Module, time: TimeModel) -> dict[str, Tensor]:
    """Return the weights that masks may be for, by name.

    Convolutions' and linear layers', those alone that the time model names.
    """
    found = masked_weights(network)
    return {name: weight.detach() for name, weight in found.items() if name in time.layers}


def masks_on(network: nn.Module, names: Collection[str]) -> dict[str, Tensor]:
    """Return the masks that a network's layers have, all-true where there is none, on the CPU.

    Args:
        network: Of which no others are masked.
        names: Of the weights that may be.

    Raises:
        FederatedError: Others are masked.
    """
    on = {id(weight): mask.cpu().clone() for weight, mask in masked(network)}
    masks = {}
    for name, weight in masked_weights(network).items():
        mask = on.get(id(weight))
        if name in names:
            masks[name] = torch.ones(weight.shape, dtype=torch.bool) if mask is None else mask
        elif mask is not None and not bool(mask.all()):
            raise FederatedError(
                f"weights that are masked must be layers of the time model, but {name} is not"
            )
    return masks


def draws_random_numbers(network: nn.Module, images: Tensor) -> bool:
    """Return whether a network draws random numbers in train mode, as dropout does.

    Args:
        network: Left in the mode it was in; its buffers too.
        images: ``(N, C, H, W)``, a batch that it takes.
    """
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    mode = network.training
    devices = [images.device] if images.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        before = _states(images)
        network.train()(images)
        drew = any(not torch.equal(a, b) for a, b in zip(before, _states(images), strict=True))
    network.train(mode)
    for name, buffer in network.named_buffers():
        buffer.copy_(buffers[name])
    return drew


def _states(images: Tensor) -> list[Tensor]:
    states = [torch.get_rng_state()]
    if images.device.type == "cuda":
        states.append(torch.cuda.get_rng_state(images.device))
    return states
