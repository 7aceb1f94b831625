"""A study as it stands: what the command line and reports read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prunenas.errors import StudyError
from prunenas.search.repeats import Repeats, are_judged, final_front, progress, ranked
from prunenas.spec import Cost, Study
from prunenas.spec.mistakes import validate
from prunenas.spec.objective import costs_of
from prunenas.trial import Record


@dataclass(frozen=True)
class StudyView:
    """A study read from its storage; a snapshot, it does not follow a running study.

    Attributes:
        name: The study's name.
        text: The study's YAML, as it was read.
        objective: As in the YAML, ``{"maximize": "accuracy", "minimize": "flops"}`` or
            ``{"maximize": "accuracy", "flops_ratio": 0.5}``; a range is a list of two, and so are
            FLOPs and latency.
        directions: ``maximize`` or ``minimize`` for each objective.
        trials_total: How many trials the study asks for.
        records: Every finished trial, in order of its number.
        counts: Number of trials by state; ``running`` is among the states.
        front: The records no other is better than in every objective, by ascending cost.
        dense_flops: FLOPs of the dense network for one input.
        dense_params: Parameters of the dense network.
        dense_accuracy: Its accuracy on the validation split in [0, 1]; ``None`` unless trained.
        dense_widths: Channels of each free group in the dense network.
        finished: Whether all trials are done, and all repeats.
        storage: URL of the storage it was read from.
        identity: Tells this study from any other of the same name.
        settings: ``Study.settings()`` it was begun with.
        repeats_total: How many fresh seeds each candidate is to be trained with.
        repeats: The candidates, in order of their numbers, with what fresh seeds say of them; none
            before all trials are done, unless the study had fewer trials then.
        dense_latency: The dense network's latency, as a record has one; None where the study
            measures none.
        dense_round_seconds: Modelled seconds of a round of the study's federation with the dense
            network; None where it has none.
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
    repeats_total: int = 0
    repeats: tuple[Repeats, ...] = ()
    dense_latency: Mapping[str, Any] | None = None
    dense_round_seconds: float | None = None

    def study(self) -> Study:
        """Return the study that its settings make.

        Raises:
            StudyError: They are of another version, and name what this one doesn't know.
        """
        study: Study | None
        study, findings = validate(Study, self.settings, "study")
        if study is None:
            told = "; ".join(text for _, text in findings)
            raise StudyError(f"study {self.name!r} is of another version of prunenas: {told}")
        return study

    @property
    def costs(self) -> tuple[Cost, ...]:
        """What is minimized beside accuracy, FLOPs first; empty where there is one objective."""
        return costs_of(self.objective.get("minimize"))

    @property
    def dense_latency_ms(self) -> float | None:
        """The dense network's median latency in milliseconds."""
        return None if self.dense_latency is None else float(self.dense_latency["median"])

    @property
    def dense_costs(self) -> dict[str, float]:
        """What the dense network costs, by the names of costs; what is not known is not there."""
        known = {
            "flops": float(self.dense_flops),
            "latency_ms": self.dense_latency_ms,
            "round_seconds": self.dense_round_seconds,
        }
        return {name: cost for name, cost in known.items() if cost is not None}

    @property
    def trials_done(self) -> bool:
        """Whether all trials are done."""
        return len(self.records) >= self.trials_total

    @property
    def repeats_done(self) -> tuple[int, int]:
        """How many trainings with fresh seeds are done, and of how many."""
        return progress(self.repeats, self.repeats_total)

    @property
    def ranking(self) -> tuple[Repeats, ...]:
        """The candidates by the mean of their fresh seeds, best first.

        Empty until all trials are done and each candidate has two fresh seeds, or none left to try.
        """
        ready = self.trials_done and are_judged(self.repeats, self.repeats_total)
        return ranked(self.repeats) if ready else ()

    @property
    def final_front(self) -> tuple[Record, ...]:
        """The front by what is known best: by means of fresh seeds once candidates are ranked."""
        if judged := final_front(self.ranking, self.costs):
            return tuple(each.record for each in judged)
        return self.front
