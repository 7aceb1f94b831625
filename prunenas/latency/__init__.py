"""What a network costs where it runs: time for a batch, memory for what lies between its layers."""

from prunenas.latency.memory import peak_activations
from prunenas.latency.timing import RUNTIMES, Latency, Protocol, measure

__all__ = ["RUNTIMES", "Latency", "Protocol", "measure", "peak_activations"]
