"""Pictures of a study as PNG, some as SVG too: front, methods, learning curves, progress, widths of
architectures, what mattered, latency, patterns of masks, what fresh seeds say, which client holds
which classes, federated trainings over time."""

from prunenas.pictures.canvas import Kind
from prunenas.pictures.clients import clients_picture
from prunenas.pictures.curves import curves_picture, progress_picture
from prunenas.pictures.federated import FederatedCurve, federated_picture
from prunenas.pictures.front import front_picture
from prunenas.pictures.latency import latency_picture
from prunenas.pictures.methods import method_fronts_picture, methods_picture
from prunenas.pictures.patterns import patterns_picture
from prunenas.pictures.repeats import repeats_picture
from prunenas.pictures.shares import importance_picture, profile_picture
from prunenas.pictures.widths import densities_picture, widths_picture

__all__ = [
    "FederatedCurve",
    "Kind",
    "clients_picture",
    "curves_picture",
    "densities_picture",
    "federated_picture",
    "front_picture",
    "importance_picture",
    "latency_picture",
    "method_fronts_picture",
    "methods_picture",
    "patterns_picture",
    "profile_picture",
    "progress_picture",
    "repeats_picture",
    "widths_picture",
]
