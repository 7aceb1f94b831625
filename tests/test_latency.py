"""Latency under a protocol, and memory of activations by hand."""

import threading
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch
from torch import nn

from prunenas.architecture import build, trace
from prunenas.cache import Cache
from prunenas.errors import ExportError
from prunenas.latency import (
    Gauge,
    Latency,
    Protocol,
    activations_of,
    gauge,
    measure,
    measure_all,
    peak_activations,
    quiet,
    timing,
)


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


def test_one_measurement_at_a_time() -> None:
    """Who holds the lock keeps others waiting, of this process or another."""
    done: list[Latency] = []
    protocol = Protocol(warmup=0, rounds=4)
    with quiet.one_at_a_time():
        waiting = threading.Thread(
            target=lambda: done.append(measure(wide(4), (3, 8, 8), protocol))
        )
        waiting.start()
        waiting.join(timeout=0.5)
        assert not done
    waiting.join(timeout=60)
    assert len(done) == 1


def test_passes_are_dealt_over_blocks_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that the networks set themselves: the figures by hand."""
    now, taken = [0.0], list[str]()

    class Fake(nn.Module):
        def __init__(self, name: str, seconds: list[float]) -> None:
            super().__init__()
            self.name, self.seconds = name, seconds

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            taken.append(self.name)
            now[0] += self.seconds.pop(0)
            return images

    monkeypatch.setattr(Protocol, "clock", property(lambda self: lambda: now[0]))
    monkeypatch.setattr(timing, "_PAUSE", 0.0)
    told: list[tuple[int, int]] = []
    # 15 passes in ten blocks: 1, 2, 1, 2, ... passes of 1, 2, 3, ... 15 ms, and 11 warm-ups.
    steps = iter(range(1, 16))
    seconds: list[float] = []
    for block in range(10):
        seconds += [9.0] * (3 if block == 0 else 1)
        seconds += [next(steps) / 1000 for _ in range(1 + block % 2)]
    found = measure_all(
        [(Fake("a", seconds.copy()), (1, 1, 1)), (Fake("b", seconds.copy()), (1, 1, 1))],
        Protocol(warmup=3, rounds=15),
        tell=lambda done, of: told.append((done, of)),
    )
    for each in found:
        assert each.median == pytest.approx(8)
        assert (each.low, each.high) == (pytest.approx(4.5), pytest.approx(11.5))
        assert each.between == (pytest.approx(1), pytest.approx(14.5))
        assert each.fastest == pytest.approx(1)
        assert each.spread == (pytest.approx(1), pytest.approx(15))
        assert Latency.from_dict(each.to_dict()) == each
    assert "".join(taken).startswith("aaaabbbbbbbaaaaabb")
    assert told == [(block, 10) for block in range(1, 11)]


def test_a_network_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = trace("lenet5", input_shape=(1, 28, 28))
    calls: list[tuple[int, ...]] = []

    def counted(network: nn.Module, shape: tuple[int, ...], protocol: Protocol) -> Latency:
        calls.append(shape)
        return measure(network, shape, protocol)

    monkeypatch.setattr(gauge, "measure", counted)
    protocol = Protocol(warmup=0, rounds=4)
    first = Gauge(protocol, Cache(tmp_path)).latency(space.dense)
    assert Gauge(protocol, Cache(tmp_path)).latency(space.dense) == first
    assert calls == [(1, 28, 28)]
    Gauge(Protocol(warmup=0, rounds=5), Cache(tmp_path)).latency(space.dense)
    assert len(calls) == 2  # another protocol is another figure
    assert {item.kind for item in Cache(tmp_path).items()} == {"latency"}
    assert all((item.about or "").startswith("lenet5 at ") for item in Cache(tmp_path).items())


def test_activations_of_an_architecture_are_those_of_its_network() -> None:
    space = trace("lenet5", input_shape=(1, 28, 28))
    network = build(space.dense, seed=1)
    assert activations_of(space.dense) == peak_activations(network, (1, 28, 28))
    half = space.architecture(0.5)
    assert activations_of(half) < activations_of(space.dense)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
@pytest.mark.parametrize(("name", "shape"), [("vgg_mini", (1, 28, 28)), ("resnet20", (3, 32, 32))])
def test_figures_repeat_within_their_stated_spread(
    name: str,
    shape: tuple[int, ...],
    runtime: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Five measurements in turns, on whatever machine this is, with whatever else it does.

    One after the other they would tell as much of the processes that come and go beside them: with
    other tests at work the same network took from 3 to 6 ms of its thread's time in forty runs.
    """
    network = build(trace(name, input_shape=shape).dense, seed=0)
    written = tmp_path / "model.onnx"
    export = timing.write_format

    def once(form: str, path: Path, *rest: Any) -> None:
        """An export takes longer than all passes, and is the same for all runs."""
        if not written.exists():
            export(form, written, *rest)
        path.write_bytes(written.read_bytes())

    monkeypatch.setattr(timing, "write_format", once)
    runs = measure_all([(network, shape)] * 5, Protocol(runtime=runtime))
    middle = median(run.median for run in runs)
    for run in runs:
        assert run.spread[0] <= run.median <= run.spread[1]
        assert run.spread[0] <= middle <= run.spread[1]
        assert all(run.spread[0] <= other.spread[1] for other in runs)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("vgg_mini", (1, 28, 28)),
        ("resnet20", (3, 32, 32)),
        ("densenet40", (3, 32, 32)),
    ],
)
def test_a_network_twice_as_wide_is_not_faster(name: str, shape: tuple[int, ...]) -> None:
    space = trace(name, input_shape=shape)
    half = space.fit(0.5, flops_ratio=0.25, tolerance=None)
    networks = [(build(each, seed=0), shape) for each in (half, space.dense)]
    narrow, wider = measure_all(networks, Protocol(rounds=20))
    assert wider.median >= narrow.median
    assert wider.spread[1] >= narrow.spread[0]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_a_pass_is_waited_for() -> None:
    """Sixteen times the channels at a batch of 64: what is only launched would take as long."""
    protocol = Protocol(device="cuda", batch=64)
    networks = [(wide(size), (3, 64, 64)) for size in (32, 512)]
    small, large = measure_all(networks, protocol)
    assert large.median > 2 * small.median
