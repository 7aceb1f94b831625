"""Masks of a study's trials: a record has their figures alone, what they keep is kept here."""

from pathlib import Path

from prunenas.architecture import Architecture, pack, unpack
from prunenas.cache import Cache
from prunenas.errors import StudyError

_KIND = "masks"


class Masks:
    """Masks by architecture, in one folder for each study.

    They can't be computed again as cheaply as they are kept, one bit for a weight, so that all
    trials' stay, the front's or not.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        """Args: the folder of all studies' masks, and the study's identity."""
        self._cache = Cache(folder / identity)

    def keep(self, architecture: Architecture) -> None:
        """Keep an architecture's masks, if it has any.

        Raises:
            OSError: The folder can't be written.
        """
        if architecture.masks:
            about = {"about": f"masks of {architecture.source}, density {architecture.density:.3g}"}
            self._cache.put(_KIND, architecture.digest, pack(architecture.bits()), about)

    def whole(self, architecture: Architecture) -> Architecture:
        """Return an architecture with its masks, as it was kept.

        Raises:
            StudyError: They are not there.
        """
        if not architecture.masks or architecture.bits():
            return architecture
        entry = self._cache.get(_KIND, architecture.digest)
        if entry is None:
            raise StudyError(
                f"masks of architecture {architecture.digest} must lie in {self._cache.folder}, "
                "where the study ran, but are not there or were damaged"
            )
        return architecture.with_bits(unpack(entry.tensors))
