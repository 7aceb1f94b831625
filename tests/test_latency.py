"""Latency under a protocol, and memory of activations by hand."""

import pytest
import torch
from torch import nn

from prunenas.errors import ExportError
from prunenas.latency import Protocol, measure, peak_activations


def wide(channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(channels, 10),
    )


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_a_network_eight_times_as_wide_takes_longer(runtime: str) -> None:
    """Sixty-four times the multiply-adds of the middle layer: no machine hides that."""
    protocol = Protocol(runtime=runtime, warmup=3, rounds=9)
    small, large = (measure(wide(size), (3, 32, 32), protocol) for size in (16, 128))
    assert small.low <= small.median <= small.high
    assert small.median < large.median
    assert small.protocol == protocol
    assert str(protocol) == f"{runtime} on cpu, 1 thread, batch 1, median of 9"


def test_threads_and_mode_are_as_before() -> None:
    network = wide(4).train()
    before = torch.get_num_threads()
    measure(network, (3, 8, 8), Protocol(threads=1, rounds=4))
    assert torch.get_num_threads() == before
    assert network.training


@pytest.mark.parametrize(
    ("settings", "law"),
    [
        ({"runtime": "tensorrt"}, "unknown runtime 'tensorrt'"),
        ({"rounds": 3}, "rounds >= 4"),
        ({"batch": 0}, "batch >= 1"),
        ({"runtime": "onnxruntime", "device": "cuda"}, "on the CPU"),
    ],
)
def test_a_protocol_that_can_not_be_is_refused(settings: dict[str, object], law: str) -> None:
    with pytest.raises(ExportError, match=law):
        Protocol(**settings)


def test_activations_by_hand() -> None:
    """Input 3 and output 16 maps of 8 x 8, then 16 and 16 without the input: floats of 4 bytes."""
    network = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 4, 1))
    maps = max(3 + 16, 3 + 16 + 16, 3 + 16 + 4)  # the caller holds the input throughout
    assert peak_activations(network, (3, 8, 8)) == maps * 64 * 4
    assert peak_activations(network, (3, 8, 8), batch=5) == 5 * maps * 64 * 4


def test_what_is_done_in_place_takes_nothing() -> None:
    inplace = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(inplace=True))
    assert peak_activations(inplace, (3, 8, 8)) == (3 + 16) * 64 * 4
