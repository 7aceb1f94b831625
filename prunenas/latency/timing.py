"""How long a network takes for a batch, measured under a protocol that is part of the figure.

A latency without its device, threads and batch is no figure, so that they travel together. The
median says how long it takes, the quartiles how far single passes lie from it; means would follow
whatever else the machine does.

Passes that follow each other share one mood of the machine, and agree better than they should: so
they are taken in blocks with pauses between them, and the range of the blocks' medians is told as
well, and the fastest pass: what the machine does where nothing disturbs, which repeats best. Of
several networks each has its turn in every block, so that the machine's drift meets all alike. One
measurement runs at a time on a machine, whichever process asks.

On one thread of the CPU the clock is that of the thread: what other processes take from the core is
not the network's, though what they do to its caches is seen. On several threads, and on a GPU, it
is the wall's.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Literal, Self, get_args

import torch
from torch import nn

from prunenas.errors import ExportError, unknown
from prunenas.export.formats import check_format, write_format
from prunenas.latency.quiet import clock, on_threads, one_at_a_time, undisturbed

Runtime = Literal["torch", "onnxruntime"]
RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)

BLOCKS = 10
"""Parts that the passes are dealt over."""

_PAUSE = 0.004
"""Seconds between the beginnings of two blocks, for each round: 50 rounds span two seconds, longer
than most of what else a machine does."""


@dataclass(frozen=True)
class Protocol:
    """Under what conditions a latency is measured.

    Attributes:
        device: ``"cpu"`` or ``"cuda"``.
        threads: Of the CPU; 1 disturbs and is disturbed least.
        batch: Inputs at a time.
        warmup: Passes before any is counted; of each later block a fifth of them, one at least
            unless it is 0.
        rounds: Passes that are counted, 4 or more; dealt over ten blocks.
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

    @property
    def clock(self) -> Callable[[], float]:
        """What passes are timed by, in seconds; see above."""
        return clock(self.device, self.threads)


@dataclass(frozen=True)
class Latency:
    """A measured latency, milliseconds for a batch.

    Attributes:
        median: Half of the passes took no longer.
        low: The first quartile.
        high: The third quartile.
        protocol: Under what conditions.
        between: The lowest and the highest median of a block.
        fastest: The fastest pass.
    """

    median: float
    low: float
    high: float
    protocol: Protocol
    between: tuple[float, float]
    fastest: float

    @property
    def spread(self) -> tuple[float, float]:
        """Where another measurement's median is to be expected as long as the machine is as busy
        as it was: from the fastest pass to as far above the median, to the third quartile, or to
        the slowest block's median, whichever is most."""
        as_far = 2 * self.median - self.fastest
        return self.fastest, max(as_far, self.high, self.between[1])

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {**asdict(self), "between": list(self.between)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        low, high = values["between"]
        return cls(**{**values, "protocol": Protocol(**values["protocol"]), "between": (low, high)})


def measure(
    network: nn.Module, input_shape: tuple[int, ...], protocol: Protocol | None = None
) -> Latency:
    """Measure a network's forward pass; see `measure_all`."""
    return measure_all([(network, input_shape)], protocol)[0]


def measure_all(
    networks: Sequence[tuple[nn.Module, tuple[int, ...]]],
    protocol: Protocol | None = None,
    *,
    tell: Callable[[int, int], None] | None = None,
) -> list[Latency]:
    """Measure networks' forward passes, block by block in turn.

    Waits while another process of this user measures.

    Args:
        networks: Each with the shape ``(C, H, W)`` of one input. Weights don't change what is
            computed. Modes are left as they were; networks are moved to the protocol's device.
        protocol: By default a single input on one thread of the CPU.
        tell: Told of each block: how many are done, and of how many.

    Raises:
        ExportError: The runtime is not installed, can't express a network, or has no such device.
    """
    chosen = protocol or Protocol()
    make = _onnxruntime if chosen.runtime == "onnxruntime" else _torch
    blocks = [
        chosen.rounds * (index + 1) // BLOCKS - chosen.rounds * index // BLOCKS
        for index in range(BLOCKS)
    ]
    blocks = [count for count in blocks if count]
    times: list[list[list[float]]] = [[] for _ in networks]
    with ExitStack() as stack:
        for network, _ in networks:
            stack.enter_context(_evaluating(network))
        passes = [make(network, shape, chosen) for network, shape in networks]
        stack.enter_context(one_at_a_time())
        stack.enter_context(on_threads(chosen.threads))
        stack.enter_context(undisturbed())
        began = time.monotonic()
        for index, count in enumerate(blocks):
            time.sleep(max(0.0, began + _PAUSE * chosen.rounds * index - time.monotonic()))
            warmup = -(-chosen.warmup // 5) if index else chosen.warmup
            for turn in range(len(passes)):
                # Who comes first finds the machine as the pause has left it: another one each time.
                number = (turn + index) % len(passes)
                times[number].append(_block(passes[number], chosen.clock, warmup, count))
            if tell is not None:
                tell(index + 1, len(blocks))
    return [_summary(each, chosen) for each in times]


def _block(
    pass_once: Callable[[], None], clock: Callable[[], float], warmup: int, count: int
) -> list[float]:
    """Milliseconds of each pass."""
    for _ in range(warmup):
        pass_once()
    times = []
    for _ in range(count):
        start = clock()
        pass_once()
        times.append(1000 * (clock() - start))
    return times


def _summary(blocks: list[list[float]], protocol: Protocol) -> Latency:
    times = [time for block in blocks for time in block]
    low, middle, high = quantiles(times, n=4, method="inclusive")
    medians = [median(block) for block in blocks]
    return Latency(middle, low, high, protocol, (min(medians), max(medians)), min(times))


def _torch(
    network: nn.Module, input_shape: tuple[int, ...], protocol: Protocol
) -> Callable[[], None]:
    try:
        device = torch.device(protocol.device)
        images = torch.zeros(protocol.batch, *input_shape, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise ExportError(f"device {protocol.device!r} can't be used here") from error
    network.to(device)

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
def _evaluating(network: nn.Module) -> Iterator[None]:
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)
