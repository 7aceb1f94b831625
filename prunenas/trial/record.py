"""What is proposed for a trial, and what is kept of it; plain values."""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any, Literal, Self

from torch import Tensor

from prunenas.errors import StudyError
from prunenas.methods import Method
from prunenas.version import versions

State = Literal["complete", "failed", "infeasible", "stopped", "paused"]


@dataclass(frozen=True)
class Record:
    """What is kept of one trial; plain values only, so that it round-trips through JSON.

    Attributes:
        number: The trial's number within its study, from 0.
        study: The study's name.
        method: The pruning method's name.
        parameters: What Optuna proposed, by name.
        ratios: The share of channels kept for each group, each in (0, 1].
        state: ``complete`` (trained to the end), ``stopped`` (training ended early on purpose),
            ``infeasible`` (told at once, never trained), ``failed``, or ``paused`` (it may go on;
            no finished trial is).
        reason: Why the trial is not complete; ``None`` when it is, or is paused.
        architecture: :meth:`prunenas.Architecture.to_dict`; ``None`` when none was derived.
        digest: The architecture's digest.
        accuracy: Share in [0, 1] on the validation split after the last epoch.
        flops: Fused multiply-adds for one input.
        flops_ratio: ``flops`` as a share of the dense network's.
        params: Number of trainable parameters.
        epochs: Epochs of the training that the figures come from.
        seconds: Wall time of the whole trial.
        curve: One mapping for each epoch: ``epoch``, ``train_loss``, ``train_accuracy``,
            ``validation_loss``, ``validation_accuracy``, ``lr``. Federated retraining counts no
            ``train_accuracy``; its epochs are validations.
        notes: The method's own figures, such as the threshold it found.
        seeds: Every seed the trial used, by purpose.
        versions: Versions of prunenas, Python and the libraries that decide figures.
        started: ISO 8601 time with zone.
        finished: ISO 8601 time with zone.
        reused: Whose training the figures come from, ``trial 3`` or ``STUDY/3``; None if the trial
            was trained itself.
        start: What the proposal is called, where it is one of the study's starts and not the
            sampler's.
        latency: :meth:`prunenas.latency.Latency.to_dict`: milliseconds and the protocol; None where
            it was not measured.
        peak_activations: Bytes that activations take at most at once, for one input, inference in
            single precision; None when no architecture was derived.
        round_seconds: What a round of the study's federation takes with it, by the time model;
            None without one, or when no architecture was derived.
    """

    number: int
    study: str
    method: str
    parameters: dict[str, Any]
    ratios: dict[str, float]
    state: State
    reason: str | None
    architecture: dict[str, Any] | None
    digest: str | None
    accuracy: float | None
    flops: int | None
    flops_ratio: float | None
    params: int | None
    epochs: int
    seconds: float
    curve: list[dict[str, float]]
    notes: dict[str, Any]
    seeds: dict[str, int]
    versions: dict[str, str]
    started: str
    finished: str
    reused: str | None = None
    start: str | None = None
    latency: dict[str, Any] | None = None
    peak_activations: int | None = None
    round_seconds: float | None = None

    @property
    def latency_ms(self) -> float | None:
        """The median latency, milliseconds for a batch; None where it was not measured."""
        return None if self.latency is None else float(self.latency["median"])

    def costs(self, names: Iterable[str]) -> tuple[float, ...] | None:
        """Return costs by their names, as ``flops``; None where one is not known."""
        known = [getattr(self, name) for name in names]
        return None if None in known else tuple(known)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON values; a copy that shares nothing with the record."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote.

        Raises:
            StudyError: A field is missing or unknown, as in a record of another version.
        """
        names = {field.name for field in fields(cls)}
        needed = {field.name for field in fields(cls) if field.default is MISSING}
        if missing := sorted(needed - values.keys()):
            raise StudyError(f"a trial's record must have {', '.join(missing)}")
        if strange := sorted(values.keys() - names):
            raise StudyError(f"a trial's record has unknown fields: {', '.join(strange)}")
        return cls(**values)


@dataclass(frozen=True)
class Candidate:
    """What is proposed for one trial.

    Attributes:
        number: The trial's number within its study, from 0.
        study: The study's name.
        method_name: The method's name in the study.
        method: The method with its hyperparameters.
        parameters: What Optuna proposed, by name.
        ratios: The share kept of each channel group, where the method follows given ratios; of
            each layer's weights, where it follows given densities.
        flops: A budget that the architecture must meet; None where the study has none.
        seeds: Seeds by purpose; ``training`` and ``method`` are used here.
        start: See :class:`Record`.
        fixed: Groups or layers whose ratio is not searched and holds under a budget too.
        latency_ms: What the architecture's latency may be at most; None where the study doesn't
            say.
    """

    number: int
    study: str
    method_name: str
    method: Method
    parameters: Mapping[str, Any]
    ratios: Mapping[str, float] | None
    flops: int | None
    seeds: Mapping[str, int]
    start: str | None = None
    fixed: frozenset[str] = frozenset()
    latency_ms: float | None = None


@dataclass(frozen=True)
class Outcome:
    """A trial's record, and the weights it ended with; None unless it is complete."""

    record: Record
    weights: dict[str, Tensor] | None


def blank_record(candidate: Candidate) -> Record:
    """The record of a trial of which nothing is known yet: failed, if it stays like this."""
    begun = now()
    return Record(
        number=candidate.number,
        study=candidate.study,
        method=candidate.method_name,
        parameters=dict(candidate.parameters),
        ratios={},
        state="failed",
        reason=None,
        architecture=None,
        digest=None,
        accuracy=None,
        flops=None,
        flops_ratio=None,
        params=None,
        epochs=0,
        seconds=0.0,
        curve=[],
        notes={},
        seeds=dict(candidate.seeds),
        versions=versions(),
        started=begun,
        finished=begun,
        start=candidate.start,
    )


def now() -> str:
    """The time as ISO 8601 with zone, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
