"""What a network costs where it runs: time for a batch, memory for what lies between its layers."""

from prunenas.latency.gauge import Gauge, activations_of
from prunenas.latency.memory import peak_activations
from prunenas.latency.timing import RUNTIMES, Latency, Protocol, measure, measure_all
from prunenas.latency.updates import LayerTimes, UpdateTimes, measure_updates

__all__ = [
    "RUNTIMES",
    "Gauge",
    "Latency",
    "LayerTimes",
    "Protocol",
    "UpdateTimes",
    "activations_of",
    "measure",
    "measure_all",
    "measure_updates",
    "peak_activations",
]
