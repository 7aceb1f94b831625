"""How long a network takes for a batch, measured under a protocol that is part of the figure.

A latency without its device, threads and batch is no figure, so that they travel together. The
median says how long it takes, the quartiles how far single passes lie from it; means would follow
whatever else the machine does.
"""

import gc
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any, Literal, get_args

import torch
from torch import nn

from prunenas.errors import ExportError, unknown
from prunenas.export.formats import check_format, write_format

Runtime = Literal["torch", "onnxruntime"]
RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)


@dataclass(frozen=True)
class Protocol:
    """Under what conditions a latency is measured.

    Attributes:
        device: ``"cpu"`` or ``"cuda"``.
        threads: Of the CPU; 1 disturbs and is disturbed least.
        batch: Inputs at a time.
        warmup: Passes before any is counted.
        rounds: Passes that are counted, 4 or more.
        runtime: ``"torch"``, in inference mode; or ``"onnxruntime"``, on the CPU.
    """

    device: str = "cpu"
    threads: int = 1
    batch: int = 1
    warmup: int = 10
    rounds: int = 50
    runtime: Runtime = "torch"

    def __post_init__(self) -> None:
        if self.runtime not in RUNTIMES:
            raise ExportError(unknown("runtime", self.runtime, RUNTIMES))
        if self.runtime == "onnxruntime" and not self.device.startswith("cpu"):
            raise ExportError(f"onnxruntime measures on the CPU, not on {self.device}")
        for name, least in (("threads", 1), ("batch", 1), ("warmup", 0), ("rounds", 4)):
            value = getattr(self, name)
            if value < least:
                raise ExportError(f"a latency needs {name} >= {least}, but it is {value}")

    def __str__(self) -> str:
        threads = f", {self.threads} thread{'s' if self.threads > 1 else ''}"
        on = self.device + (threads if self.device.startswith("cpu") else "")
        return f"{self.runtime} on {on}, batch {self.batch}, median of {self.rounds}"


@dataclass(frozen=True)
class Latency:
    """A measured latency, milliseconds for a batch.

    Attributes:
        median: Half of the passes took no longer.
        low: The first quartile.
        high: The third quartile.
        protocol: Under what conditions.
    """

    median: float
    low: float
    high: float
    protocol: Protocol

    @property
    def spread(self) -> float:
        """The range between the quartiles."""
        return self.high - self.low

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)


def measure(
    network: nn.Module, input_shape: tuple[int, ...], protocol: Protocol | None = None
) -> Latency:
    """Measure a network's forward pass.

    Args:
        network: With whatever weights: they don't change what is computed. Its mode is left as it
            was; it is moved to the protocol's device.
        input_shape: ``(C, H, W)`` of one input.
        protocol: By default a single input on one thread of the CPU.

    Raises:
        ExportError: The runtime is not installed, or can't express the network.
    """
    chosen = protocol or Protocol()
    training = network.training
    network.eval()
    try:
        with _threads(chosen.threads), _undisturbed():
            make = _onnxruntime if chosen.runtime == "onnxruntime" else _torch
            pass_once = make(network, input_shape, chosen)
            for _ in range(chosen.warmup):
                pass_once()
            times = []
            for _ in range(chosen.rounds):
                start = time.perf_counter()
                pass_once()
                times.append(1000 * (time.perf_counter() - start))
    finally:
        network.train(training)
    low, median, high = quantiles(times, n=4, method="inclusive")
    return Latency(median, low, high, chosen)


def _torch(
    network: nn.Module, input_shape: tuple[int, ...], protocol: Protocol
) -> Callable[[], None]:
    device = torch.device(protocol.device)
    network.to(device)
    images = torch.zeros(protocol.batch, *input_shape, device=device)

    def pass_once() -> None:
        with torch.inference_mode():
            network(images)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return pass_once


def _onnxruntime(
    network: nn.Module, input_shape: tuple[int, ...], protocol: Protocol
) -> Callable[[], None]:
    check_format("onnx")
    import onnxruntime  # an extra, and slow to import

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = protocol.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory(prefix="prunenas-") as folder:
        path = Path(folder) / "model.onnx"
        write_format("onnx", path, network.cpu(), input_shape)
        session = onnxruntime.InferenceSession(
            path.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
    images = torch.zeros(protocol.batch, *input_shape).numpy()
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: images})


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Without Python's garbage collection, which strikes at random."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
