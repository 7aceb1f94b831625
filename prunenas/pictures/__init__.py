"""Pictures of a study as PNG: front, methods, latency, widths of an architecture, patterns
of masks, what fresh seeds say."""

from prunenas.pictures.front import front_picture
from prunenas.pictures.latency import latency_picture
from prunenas.pictures.methods import method_fronts_picture, methods_picture
from prunenas.pictures.patterns import patterns_picture
from prunenas.pictures.repeats import repeats_picture
from prunenas.pictures.widths import densities_picture, widths_picture

__all__ = [
    "densities_picture",
    "front_picture",
    "latency_picture",
    "method_fronts_picture",
    "methods_picture",
    "patterns_picture",
    "repeats_picture",
    "widths_picture",
]
