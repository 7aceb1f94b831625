"""A study as it stands: what the command line and reports read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prunenas.trial import Record


@dataclass(frozen=True)
class StudyView:
    """A study read from its storage; a snapshot, it does not follow a running study.

    Attributes:
        name: The study's name.
        text: The study's YAML, as it was read.
        objective: As in the YAML, ``{"maximize": "accuracy", "minimize": "flops"}`` or
            ``{"maximize": "accuracy", "flops_ratio": 0.5}``; a range is a list of two.
        directions: ``maximize`` or ``minimize`` for each objective.
        trials_total: How many trials the study asks for.
        records: Every finished trial, in order of its number.
        counts: Number of trials by state; ``running`` is among the states.
        front: The records no other is better than in every objective, by ascending FLOPs.
        dense_flops: FLOPs of the dense network for one input.
        dense_params: Parameters of the dense network.
        dense_accuracy: Its accuracy on the validation split in [0, 1]; ``None`` unless trained.
        dense_widths: Channels of each free group in the dense network.
        finished: Whether all trials are done.
        storage: URL of the storage it was read from.
        identity: Tells this study from any other of the same name.
        settings: ``Study.settings()`` it was begun with.
    """

    name: str
    text: str
    objective: Mapping[str, Any]
    directions: tuple[str, ...]
    trials_total: int
    records: tuple[Record, ...]
    counts: Mapping[str, int]
    front: tuple[Record, ...]
    dense_flops: int
    dense_params: int
    dense_accuracy: float | None
    dense_widths: Mapping[str, int]
    finished: bool
    storage: str
    identity: str
    settings: Mapping[str, Any]
