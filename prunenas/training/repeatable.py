"""The same training gives the same weights again: random numbers, and sums on a GPU."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def random_numbers(seed: int, epoch: int, device: torch.device) -> Iterator[None]:
    """Random numbers inside depend on seed and epoch only; outside they are untouched."""
    digest = hashlib.sha256(f"training {seed} {epoch}".encode()).digest()
    number = int.from_bytes(digest[:8], "big") >> 1
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(number)
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(number)
        yield


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """On CUDA, only convolution algorithms that give the same sums every time."""
    if device.type != "cuda":
        yield
        return
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before
