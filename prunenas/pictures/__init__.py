"""Pictures of a study as PNG: front, widths of an architecture, what fresh seeds say."""

from prunenas.pictures.front import front_picture
from prunenas.pictures.repeats import repeats_picture
from prunenas.pictures.widths import widths_picture

__all__ = ["front_picture", "repeats_picture", "widths_picture"]
