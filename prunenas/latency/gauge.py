"""Latencies of architectures, each measured once: what was measured is kept and read again.

Two trainings of one network have one accuracy each; two measurements of one network would have two
latencies, and a front would turn on which of them it saw. So equal networks get one figure.
"""

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import torch

from prunenas.architecture import Architecture, build
from prunenas.cache import Cache
from prunenas.latency.memory import peak_activations
from prunenas.latency.timing import Latency, Protocol, measure

KIND = "latency"  # of the cache's entries


@dataclass(frozen=True)
class Gauge:
    """Measures architectures under one protocol, or reads what was measured here before.

    Attributes:
        protocol: Under what conditions.
        cache: Where figures are kept: under the network, the protocol, the processor and the
            versions of what runs it.
    """

    protocol: Protocol
    cache: Cache

    def latency(self, architecture: Architecture) -> Latency:
        """Return an architecture's latency, with fresh weights.

        Raises:
            ExportError: The runtime is not installed, can't express the network, or has no such
                device.
        """
        shapes = bare(architecture)
        key = self._key(shapes)
        with self.cache.lock(KIND, key):
            entry = self.cache.get(KIND, key)
            if entry is not None:
                return Latency.from_dict(entry.meta["latency"])
            network = build(shapes, seed=0, trust=True)
            found = measure(network, shapes.input_shape, self.protocol)
            about = f"{shapes.source} at {shapes.flops:,} FLOPs: {self.protocol}"
            self.cache.keep(KIND, key, {}, {"about": about, "latency": found.to_dict()})
        return found

    def _key(self, shapes: Architecture) -> str:
        libraries: Sequence[str] = ("torch",)
        if self.protocol.runtime == "onnxruntime":
            libraries = ("torch", "onnx", "onnxscript", "onnxruntime")
        return Cache.key(
            architecture=shapes.digest,
            protocol=asdict(self.protocol),
            processor=processor(self.protocol.device),
            versions={name: version(name) for name in libraries},
        )


def bare(architecture: Architecture) -> Architecture:
    """Return the network that runs: a weight that a mask holds at zero is multiplied all the same.

    >>> from prunenas.architecture import trace
    >>> dense = trace("lenet5", input_shape=(1, 28, 28)).dense
    >>> bare(dense) == dense
    True
    """
    if not architecture.masks:
        return architecture
    flops, params = architecture.whole_flops, architecture.whole_params
    return replace(architecture, masks={}, flops=flops, params=params)


def activations_of(architecture: Architecture) -> int:
    """Return the most bytes that activations take at once, for one input; see `peak_activations`.

    The network is run once on the CPU: that takes milliseconds where it is small, and a shape-only
    run takes longer.
    """
    shapes = bare(architecture)
    return peak_activations(build(shapes, seed=0, trust=True), shapes.input_shape)


def processor(device: str) -> str:
    """Return the name of what computes, as figures are kept under it."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:  # another system
        pass
    return platform.processor() or platform.machine()
